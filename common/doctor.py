"""`seedbed doctor`: says what is wrong with this machine, and with the way to a server, and what to do about it.

One line a check. The way to a server is followed step by step, and ends at the first step that fails. A server that is
reached is watched for two seconds: what holds it up? Of several servers every one is looked at, then all together.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import grpc.aio

from seedbed.common import cpu
from seedbed.common.address import Address
from seedbed.common.codec import check_protocol, protocol_version, spec_from_message
from seedbed.common.credentials import ClientCredentials, watch_tokens
from seedbed.common.diagnosis import connect, look_up, shake_hands
from seedbed.common.errors import SeedbedError, SpecError
from seedbed.common.extras import install_command
from seedbed.common.grpc_channel import error_from_rpc, open_channel
from seedbed.common.load_figures import figures_of
from seedbed.common.machine import Check, check_machine, version_of
from seedbed.common.options import option, parse
from seedbed.common.server_list import SERVERS_METAVAR, Server, ServerList
from seedbed.common.server_status import ServerStatus, status_from_message
from seedbed.common.specs import EnvironmentSpec
from seedbed.common.verdict import Verdict, judge
from seedbed.proto import seedbed_pb2 as pb
from seedbed.proto.seedbed_pb2_grpc import SeedbedStub

_REPLY_TIMEOUT_S = 10.0
_WATCHED_S = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class DoctorConfig:
    """doctor"""

    server: str | None = option(
        None, "look at the way to this policy server, or these, as `seedbed env` would take it", metavar=SERVERS_METAVAR
    )
    credentials: ClientCredentials = field(default_factory=ClientCredentials)


def main(argv: Sequence[str]) -> int:
    """Looks and prints.

    Args:
        argv: without the program's name.

    Returns:
        0, or the exit code of the first problem.
    """
    description = "Say what is wrong with this machine, and with the way to a server."
    config = parse(DoctorConfig(), argv, prog="seedbed doctor", description=description)
    checks: list[Check] = []
    if config.server is not None:
        for title, found in asyncio.run(_check_servers(ServerList.parse(config.server), config.credentials)):
            checks += _report(title, found)
    checks += _report("this machine", check_machine())
    problems = [check for check in checks if check.level == "problem"]
    return problems[0].exit_code if problems else 0


def _report(title: str, checks: Iterator[Check] | list[Check]) -> list[Check]:
    """Prints each line as soon as it is known."""
    print(title)
    seen = []
    for check in checks:
        print(f"  {check.level:<8} {check.subject:<14} {check.finding}", flush=True)
        seen.append(check)
    return seen


@dataclass(slots=True)
class Seen:
    """What a server that was reached said; None where it was not."""

    description: pb.DescribeResponse | None = None
    status: ServerStatus | None = None


async def _check_servers(names: ServerList, credentials: ClientCredentials) -> list[tuple[str, list[Check]]]:
    """Every way under its title and, of several servers, how these fit together."""
    try:
        servers = [Server(names.only)] if names.only is not None else await names.servers()
    except SeedbedError as error:
        return [(f"the servers {names}", [Check.problem("name", error)])]
    seen = [Seen() for _ in servers]
    ways = await asyncio.gather(
        *(
            _collect(server.address, server.credentials(credentials), one)
            for server, one in zip(servers, seen, strict=True)
        )
    )
    found = [(f"the way to {server.address}", way) for server, way in zip(servers, ways, strict=True)]
    if names.only is None:
        by_address = {str(server.address): one for server, one in zip(servers, seen, strict=True)}
        found.append((f"the servers {names}", list(_check_together(by_address))))
    return found


async def _collect(address: Address, credentials: ClientCredentials, seen: Seen) -> list[Check]:
    return [check async for check in check_way(address, credentials, seen)]


def _check_together(seen: Mapping[str, Seen]) -> Iterator[Check]:
    """Whether servers, by their addresses, are replicas of one run, and where there is room."""
    reached = {at: one.description for at, one in seen.items() if one.description is not None}
    yield Check("ok" if len(reached) == len(seen) else "warning", "servers", f"{len(reached)} of {len(seen)} reached")
    runs = {reply.run_name for reply in reached.values()}
    if len(runs) > 1:
        named = ", ".join(f"{reply.run_name!r} at {at}" for at, reply in reached.items())
        yield Check("warning", "run", f"they are of different runs, between which clients would be dealt out: {named}")
    served = {at: list(reply.specs) for at, reply in reached.items()}
    for at, specs in served.items():
        first, theirs = next(iter(served.items()))
        if specs != theirs:
            here, there = (", ".join(spec.environment for spec in some) or "none" for some in (theirs, specs))
            difference = (
                f"{first} serves {here}, {at} serves {there}" if here != there else f"those of {first} and {at}"
            )
            yield Check.problem(
                "environment", SpecError(f"expected servers of one environment, these differ: {difference}")
            )
            break
    states = {at: one.status for at, one in seen.items() if one.status is not None}
    rows = [f"{at} {status.num_slots - status.used_slots} of {status.num_slots}" for at, status in states.items()]
    if rows:
        yield Check("ok", "free rows", ", ".join(rows))


async def check_way(address: Address, credentials: ClientCredentials, seen: Seen | None = None) -> AsyncIterator[Check]:
    """Follows the way to a server until something is wrong; `seen` keeps what it said."""
    seen = seen or Seen()
    step = "credentials"
    try:
        tokens = watch_tokens(credentials.token_file).get()
        credentials.check(address, tokens.values)
        credentials.read_tls()
        step = "name"
        yield Check("ok", step, f"{address.host} is {', '.join(await look_up(address))}")
        step = "port"
        await connect(address)
        yield Check("ok", step, f"somebody listens on {address.port}")
        step = "encryption"
        await shake_hands(address, credentials)
        yield _check_encryption(address, credentials)
        step = "token"
        reply = seen.description = await _describe(address, credentials, tokens.metadata)
        yield await _check_token(address, credentials, tokens.metadata)
        step = "protocol"
        check_protocol(reply.protocol, "server")
        yield Check("ok", step, f"{_dotted(protocol_version())} here, {_dotted(reply.protocol)} there")
        step = "environment"
        specs = [spec_from_message(spec) for spec in reply.specs]
        yield Check("ok", "server", f"seedbed {reply.server_version}, run {reply.run_name!r}")
        if not specs:
            yield Check("ok", step, "none yet: the server takes that of the first client with --env")
        for spec in specs:
            yield _check_environment(spec)
        step = "bottleneck"
        if (found := await _bottleneck(address, credentials, tokens.metadata, seen)) is not None:
            yield Check("ok", step, str(found))
    except SeedbedError as error:
        yield Check.problem(step, error)


def _check_encryption(address: Address, credentials: ClientCredentials) -> Check:
    if credentials.uses_tls:
        return Check("ok", "encryption", "TLS, and the certificate is right")
    if address.is_loopback:
        return Check("ok", "encryption", "none, within this machine")
    return Check("warning", "encryption", "none: everybody on the way can read and change what is sent")


async def _check_token(address: Address, credentials: ClientCredentials, metadata: Sequence[tuple[str, str]]) -> Check:
    if not metadata:
        if address.is_loopback or credentials.tls_cert is not None:
            return Check("ok", "token", "none is demanded")
        return Check("warning", "token", "none is demanded: everybody who reaches the server may take part")
    try:
        await _describe(address, credentials, ())
    except SeedbedError:
        return Check("ok", "token", "accepted")
    return Check("warning", "token", "this client has one, the server demands none")


async def _describe(
    address: Address, credentials: ClientCredentials, metadata: Sequence[tuple[str, str]]
) -> pb.DescribeResponse:
    async with open_channel(address, credentials) as channel:
        try:
            call = SeedbedStub(channel).Describe(pb.DescribeRequest(), timeout=_REPLY_TIMEOUT_S, metadata=metadata)
            reply: pb.DescribeResponse = await call
        except grpc.aio.AioRpcError as error:
            raise error_from_rpc(error) from None
        return reply


async def _bottleneck(
    address: Address, credentials: ClientCredentials, metadata: Sequence[tuple[str, str]], seen: Seen
) -> Verdict | None:
    """What holds a server up; None if it is too old to say, or was started again meanwhile."""
    async with open_channel(address, credentials) as channel:
        stub = SeedbedStub(channel)

        async def ask() -> tuple[ServerStatus, float]:
            reply = await stub.Status(pb.StatusRequest(), timeout=_REPLY_TIMEOUT_S, metadata=metadata)
            return status_from_message(reply), cpu.busy_s() if address.is_loopback else 0.0

        try:
            before, busy_before_s = await ask()
            await asyncio.sleep(_WATCHED_S)
            after, busy_after_s = await ask()
        except grpc.aio.AioRpcError as error:
            if error.code() == grpc.StatusCode.UNIMPLEMENTED:
                return None
            raise error_from_rpc(error) from None
    seen.status = after
    happened = after.since(before)
    if happened is None or happened.uptime_s <= 0:
        return None
    busy = cpu.busy_share(busy_before_s, busy_after_s, happened.uptime_s) if address.is_loopback else None
    return judge(figures_of(happened, machine_busy=busy, num_cores=cpu.NUM_CORES))


def _check_environment(spec: EnvironmentSpec) -> Check:
    """Whether this machine could step what the server serves."""
    name = f"{spec.environment} {spec.preset}".strip()
    needs = {"ALE": ("ale-py", "atari"), "seedbed": None}.get(spec.environment.partition("/")[0], ("gymnasium", "env"))
    if needs is not None and version_of(needs[0]) is None:
        command = install_command(needs[1])
        return Check(
            "warning", "environment", f"{name}, which needs {needs[0]} to be stepped on this machine: {command}"
        )
    return Check("ok", "environment", name)


def _dotted(version: pb.ProtocolVersion) -> str:
    return f"{version.major}.{version.minor}"
