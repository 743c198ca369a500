"""Measures one load after the other against one server, or against the replicas of one run."""

from __future__ import annotations

import asyncio
import secrets
import socket
import time
from collections.abc import AsyncGenerator, Sequence

from seedbed.common import cpu
from seedbed.common.errors import CapacityError, SeedbedError, UnavailableError
from seedbed.common.options import to_json
from seedbed.common.specs import EnvironmentSpec
from seedbed.common.verdict import judge
from seedbed.env_client.loadtest.driver import GIVE_UP_AFTER_S, Assignment
from seedbed.env_client.loadtest.fleet import Fleet
from seedbed.env_client.loadtest.measurement import Snapshot, is_stable, measure
from seedbed.env_client.loadtest.options import LoadTestOptions
from seedbed.env_client.loadtest.points import Load
from seedbed.env_client.loadtest.report import LoadPoint
from seedbed.env_client.loadtest.server_status import StatusReader
from seedbed.env_client.loadtest.tally import Tally, total
from seedbed.env_client.servers import Servers, describe_servers

_NUM_WINDOWS = 10
"""At most, in the time that `--seconds` gives."""

_STABLE_WINDOWS = 3
_TOLERANCE = 0.05
_CONNECT_TIMEOUT_S = 60.0
_POLL_S = 0.05


class Session:
    """A server, and the drivers that load it.

    Args:
        options: of the test.
        target: the server's HOST:PORT, or replicas, see `ServerList`.

    Attributes:
        spec: what the server serves.
    """

    def __init__(self, options: LoadTestOptions, target: str) -> None:
        self._options = options
        self._servers = Servers(target, options.credentials, GIVE_UP_AFTER_S)
        self._name = f"load-{socket.gethostname()}-{secrets.token_hex(4)}"
        self._server_is_here = options.spawn or self._servers.names.is_loopback
        self.spec: EnvironmentSpec

    async def connect(self) -> EnvironmentSpec:
        """Asks the server what it serves.

        Raises:
            SeedbedError: it refused, or stayed away.
        """
        self.spec = (await describe_servers(self._servers))[0]  # rows of all tasks are alike
        return self.spec

    async def run(self, loads: Sequence[Load]) -> AsyncGenerator[LoadPoint, None]:
        """Yields each load as soon as it is measured.

        Raises:
            CapacityError: a load has more environments than the server has room for.
            UnavailableError: no client got through.
        """
        num_processes = min(self._options.num_processes, max(load.clients for load in loads))
        async with StatusReader(await self._servers.endpoints()) as status, Fleet(num_processes) as fleet:
            await _check_room(status, loads)
            for number, load in enumerate(loads):
                yield await self._measure(load, number, num_processes, status, fleet)

    async def _measure(
        self, load: Load, number: int, num_processes: int, status: StatusReader, fleet: Fleet
    ) -> LoadPoint:
        await fleet.start(self._assignments(load, number, num_processes))
        await _until_answered(fleet, load)
        window_s = self._options.seconds / _NUM_WINDOWS
        await asyncio.sleep(window_s)  # the first answers come from caches that are cold
        snapshots = [await _snapshot(fleet, status)]
        while len(snapshots) <= _NUM_WINDOWS and not is_stable(snapshots, _STABLE_WINDOWS, _TOLERANCE):
            await asyncio.sleep(window_s)
            snapshots.append(await _snapshot(fleet, status))
        await fleet.stop()
        stable = is_stable(snapshots, _STABLE_WINDOWS, _TOLERANCE)
        measurement = measure(
            load,
            snapshots[-_STABLE_WINDOWS - 1 :] if stable else snapshots,
            total([sample.tally for sample in snapshots[-1].drivers]),
            stable=stable,
            frames_per_step=self.spec.frames_per_step,
            num_cores=cpu.NUM_CORES,
            server_is_here=self._server_is_here,
        )
        return LoadPoint(measurement, judge(measurement.figures))

    def _assignments(self, load: Load, number: int, num_processes: int) -> list[Assignment]:
        """Clients dealt out to the drivers."""
        options = self._options
        # A LAST timestep takes its place in a message and is no agent step.
        share = options.episode_steps / (options.episode_steps + 1)
        period_s = None if load.rate is None else load.num_envs * share / load.rate
        return [
            Assignment(
                server=str(self._servers),
                credentials=to_json(options.credentials),
                spec=self.spec.to_json(),
                name=f"{self._name}-{number}",
                numbers=tuple(range(driver, load.clients, num_processes)),
                num_clients=load.clients,
                envs_per_client=load.envs_per_client,
                first_index=options.first_index,
                episode_steps=options.episode_steps,
                step_s=options.step_ms / 1000,
                jitter_s=options.jitter_ms / 1000,
                period_s=period_s,
            )
            for driver in range(min(num_processes, load.clients))
        ]


async def _check_room(status: StatusReader, loads: Sequence[Load]) -> None:
    found = await status.read()
    needed = max(load.num_envs for load in loads)
    slots, used = sum(one.num_slots for one in found), sum(one.used_slots for one in found)
    if found and needed > slots - used:
        servers = "the server has" if len(found) == 1 else f"{len(found)} servers have"
        raise CapacityError(
            f"expected room for {needed} environments, {servers} {slots} slots of which {used} are leased (raise "
            "--num-slots there, or lower --clients or --envs-per-client)"
        )


async def _until_answered(fleet: Fleet, load: Load) -> None:
    """Waits until every client has its first answer, or has failed.

    Raises:
        UnavailableError: all have failed, or some had neither for too long.
    """
    deadline_s = time.monotonic() + _CONNECT_TIMEOUT_S
    while True:
        tally = total([sample.tally for sample in await fleet.sample()])
        if tally.failed_clients == load.clients:
            raise UnavailableError(f"no client got an answer: {_examples(tally)}")
        if tally.answered_clients + tally.failed_clients >= load.clients:
            return
        if time.monotonic() > deadline_s:
            missing = load.clients - tally.answered_clients
            raise UnavailableError(
                f"expected an answer for each of {load.clients} clients within {_CONNECT_TIMEOUT_S:g} s, "
                f"{missing} got none: {_examples(tally)}"
            )
        await asyncio.sleep(_POLL_S)


def _examples(tally: Tally) -> str:
    return "; ".join(tally.examples.values()) or "the server says nothing"


async def _snapshot(fleet: Fleet, status: StatusReader) -> Snapshot:
    try:
        samples, servers = await asyncio.gather(fleet.sample(), status.read())
    except SeedbedError as error:
        raise UnavailableError(f"a server went away during the test: {error}") from error
    return Snapshot(time_s=time.monotonic(), drivers=samples, statuses=servers, machine_busy_s=cpu.busy_s())
