"""A frontend's process: its gRPC server, started and stopped."""

from __future__ import annotations

import asyncio
import resource

import grpc

from seedbed.common.credentials import Reloaded, ServerCredentials, watch_tokens
from seedbed.common.garbage import collect_rarely
from seedbed.common.logs import setup_logging
from seedbed.common.stop_signals import ignore_stop
from seedbed.proto import seedbed_pb2_grpc
from seedbed.server.frontend.admission import MAX_SPEC_BYTES, FrontendConfig
from seedbed.server.frontend.authentication import TokenRequired
from seedbed.server.frontend.frontend import Frontend
from seedbed.server.frontend.health_service import HealthService
from seedbed.server.shared.id_channel import IdChannel
from seedbed.server.shared.slots import SlotTable
from seedbed.server.shared.vitals import VitalsTable

_MESSAGE_OVERHEAD_BYTES = 2 * MAX_SPEC_BYTES  # of a Steps, and of a Hello beside its environments
_MAX_MESSAGE_BYTES = 2**31 - 1  # what gRPC's option, a C int, can hold
_MAX_CONNECTIONS = 16_384
_SPARE_DESCRIPTORS = 128  # so that a flood of connections leaves some for everything else
_CONNECTION_AGE_GRACE_MS = 1_000

# Both ends of a connection set keepalive together: a server punishes pings it does not expect. A dead peer is noticed
# within time + timeout = 15 s. gRPC never arms the keepalive timeout (grpc/grpc pull request 39239): what ends the
# connection is the ping timeout, 60 s unless set.
_SERVER_OPTIONS: tuple[tuple[str, int], ...] = (
    ("grpc.so_reuseport", 1),
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.http2.ping_timeout_ms", 5_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
    ("grpc.server_handshake_timeout_ms", 10_000),
    ("grpc.max_concurrent_streams", 64),
)

_CANCEL_S = 0.5  # for what `stop` has cancelled
_MAX_FILES = 1 << 16  # the usual soft limit, 1024, is a fleet of 1,000 clients or one flood of idle connections


def run_frontend(config: FrontendConfig, slots: SlotTable, vitals: VitalsTable, channel: IdChannel) -> None:
    """Main function of a frontend process; returns when the device process says so or is gone."""
    ignore_stop()  # the device process decides when to stop, and drains first
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (_MAX_FILES if hard < 0 else min(hard, _MAX_FILES), hard))
    setup_logging(f"frontend {config.number}")
    asyncio.run(_serve(config, slots, vitals, channel))


async def _serve(config: FrontendConfig, slots: SlotTable, vitals: VitalsTable, channel: IdChannel) -> None:
    server = make_server(config.credentials, max_message_bytes(config))
    frontend = Frontend(config, slots, vitals, channel)
    seedbed_pb2_grpc.add_SeedbedServicer_to_server(frontend, server)
    health = HealthService(vitals, config.number, config.stall_limit_s)
    await health.register(server)
    listen(server, config.address, config.credentials)
    await server.start()
    collect_rarely()
    heart = asyncio.create_task(health.run())
    try:
        channel.send({"type": "ready"})
    except OSError:  # the device process has ended while this one was starting
        heart.cancel()
        await server.stop(None)
        return
    stop = await frontend.stopped
    heart.cancel()
    await health.leave()
    frontend.drain(stop["reason"], stop["retry_after_ms"])
    await server.stop(stop["grace_s"])
    # Calls of clients that did not leave are cancelled now. gRPC prints a stack trace for each that the loop outruns.
    if ending := asyncio.all_tasks() - {asyncio.current_task()}:
        await asyncio.wait(ending, timeout=_CANCEL_S)


def make_server(credentials: ServerCredentials, max_message_bytes: int) -> grpc.aio.Server:
    """A server that demands what it should of callers, with all options set on purpose; it listens nowhere yet."""
    options = (
        *_SERVER_OPTIONS,
        ("grpc.max_receive_message_length", max_message_bytes),
        ("grpc.max_allowed_incoming_connections", _raise_connection_limit()),
    )
    return grpc.aio.server(options=(*options, *_age_options(credentials)), interceptors=_interceptors(credentials))


def max_message_bytes(config: FrontendConfig) -> int:
    """Of the largest lease there can be, with room for the lengths of its parts; or the most that gRPC can be told."""
    row_bytes = sum(spec.row_bytes for spec in config.spec.observations)
    return min(config.num_slots * (row_bytes * 5 // 4 + 64) + _MESSAGE_OVERHEAD_BYTES, _MAX_MESSAGE_BYTES)


def _interceptors(credentials: ServerCredentials) -> list[grpc.aio.ServerInterceptor]:
    """One that demands a token, if there is one to demand."""
    tokens = watch_tokens(credentials.token_file)
    return [TokenRequired(tokens)] if tokens.get().values else []


def _raise_connection_limit() -> int:
    """Takes all file descriptors that this process may have; returns how many connections they are enough for."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    if most == resource.RLIM_INFINITY:
        return _MAX_CONNECTIONS
    return max(1, min(most - _SPARE_DESCRIPTORS, _MAX_CONNECTIONS))


def _age_options(credentials: ServerCredentials) -> tuple[tuple[str, int], ...]:
    if credentials.max_connection_age_s is None:
        return ()
    return (
        ("grpc.max_connection_age_ms", round(credentials.max_connection_age_s * 1000)),  # gRPC adds 10 % of jitter
        ("grpc.max_connection_age_grace_ms", _CONNECTION_AGE_GRACE_MS),  # streams never end by themselves
    )


def listen(server: grpc.aio.Server, address: str, credentials: ServerCredentials) -> None:
    """Opens a port; with TLS, certificates that change are used for every connection from then on."""
    if credentials.read_tls() is None:
        server.add_insecure_port(address)
        return
    certificates = Reloaded(credentials.files, lambda: _certificates(credentials))
    given = certificates.get()

    def changed() -> grpc.ServerCertificateConfiguration | None:
        nonlocal given
        before, given = given, certificates.get()
        # None: as before. gRPC's core replaces what other threads may just be using, without a lock, whenever it is
        # given something: a flood of connections ended the process when every one of them was.
        return None if given is before else given

    demand = credentials.tls_client_ca is not None
    secrets = grpc.dynamic_ssl_server_credentials(given, changed, require_client_authentication=demand)
    server.add_secure_port(address, secrets)


def _certificates(credentials: ServerCredentials) -> grpc.ServerCertificateConfiguration:
    tls = credentials.read_tls()
    assert tls is not None, "only asked for with TLS"
    return grpc.ssl_server_certificate_configuration([(tls.key, tls.certificate)], root_certificates=tls.roots)
