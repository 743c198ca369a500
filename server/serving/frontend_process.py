"""A frontend's process: its gRPC server, started and stopped."""

from __future__ import annotations

import asyncio
import signal

import grpc

from seedbed.common.logs import setup_logging
from seedbed.proto import seedbed_pb2_grpc
from seedbed.server.serving.channel import Channel
from seedbed.server.serving.contract import FrontendConfig
from seedbed.server.serving.frontend import Frontend
from seedbed.server.serving.health_service import HealthService
from seedbed.server.serving.slots import SlotTable
from seedbed.server.vitals import VitalsTable

_MESSAGE_OVERHEAD_BYTES = 64 * 1024

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


def run_frontend(config: FrontendConfig, slots: SlotTable, vitals: VitalsTable, channel: Channel) -> None:
    """Main function of a frontend process; returns when the device process says so or is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the device process decides when to stop, and drains first
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    setup_logging(f"frontend {config.number}")
    asyncio.run(_serve(config, slots, vitals, channel))


async def _serve(config: FrontendConfig, slots: SlotTable, vitals: VitalsTable, channel: Channel) -> None:
    row_bytes = sum(spec.row_bytes for spec in config.spec.observations)
    max_bytes = config.num_slots * (row_bytes * 5 // 4 + 64) + _MESSAGE_OVERHEAD_BYTES
    options = (*_SERVER_OPTIONS, ("grpc.max_receive_message_length", max_bytes))
    server = grpc.aio.server(options=options)
    frontend = Frontend(config, slots, vitals, channel)
    seedbed_pb2_grpc.add_SeedbedServicer_to_server(frontend, server)
    health = HealthService(vitals, config.number, config.stall_limit_s)
    await health.register(server)
    server.add_insecure_port(config.address)
    await server.start()
    heart = asyncio.create_task(health.run())
    channel.send({"type": "ready"})
    stop = await frontend.stopped
    heart.cancel()
    await health.leave()
    frontend.drain(stop["reason"], stop["retry_after_ms"])
    await server.stop(stop["grace_s"])
    # Calls of clients that did not leave are cancelled now. gRPC prints a stack trace for each that the loop outruns.
    if ending := asyncio.all_tasks() - {asyncio.current_task()}:
        await asyncio.wait(ending, timeout=_CANCEL_S)
