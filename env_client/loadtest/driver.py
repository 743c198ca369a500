"""A process that holds many synthetic clients on one event loop: `python -m seedbed.env_client.loadtest.driver`.

Commands come as lines of JSON on standard input, each is answered by one line on standard output:

    {"start": ASSIGNMENT}    ends all clients and starts those of the assignment     -> {}
    {"stop": true}           ends all clients                                        -> {}
    {"sample": true}         what was counted since the last start or stop           -> SAMPLE

The end of the input ends the process, whatever became of its parent.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from seedbed.common.credentials import ClientCredentials
from seedbed.common.garbage import collect_rarely
from seedbed.common.logs import LEVEL_VARIABLE, run_main, setup_logging
from seedbed.common.options import from_json
from seedbed.common.specs import EnvironmentSpec
from seedbed.env_client.loadtest.client import SyntheticClient, leave_all
from seedbed.env_client.loadtest.pace import ClosedLoop, FixedRate, Pace
from seedbed.env_client.loadtest.rows import NoisePool, SyntheticRows
from seedbed.env_client.loadtest.tally import Sample, Tally
from seedbed.env_client.servers import Servers

GIVE_UP_AFTER_S = 10.0
"""A client that cannot get through for so long has failed. A real one would go on trying."""

_GOODBYE_S = 2.0
_LOOK_EVERY_S = 0.02


@dataclass(frozen=True, slots=True, kw_only=True)
class Assignment:
    """The clients of one driver, at one load.

    Attributes:
        server: HOST:PORT, or replicas, see `ServerList`.
        credentials: to be let in there, as JSON; a token in the environment is inherited.
        spec: of the environment, as JSON.
        name: client ids are NAME-NUMBER; unique to this load.
        numbers: of this driver's clients among all clients.
        num_clients: all of them, in all drivers.
        envs_per_client: E.
        first_index: environment index of client 0's first row; None: the server chooses all of them.
        episode_steps: agent steps of an episode.
        step_s, jitter_s: see `ClosedLoop`.
        period_s: between two messages of a client, see `FixedRate`; None: a closed loop.
    """

    server: str
    credentials: Mapping[str, Any]
    spec: Mapping[str, Any]
    name: str
    numbers: tuple[int, ...]
    num_clients: int
    envs_per_client: int
    first_index: int | None
    episode_steps: int
    step_s: float
    jitter_s: float
    period_s: float | None

    def make_pace(self, number: int, rng: np.random.Generator) -> Pace:
        """Of one client. Clients with a rate are spread evenly over its period."""
        if self.period_s is None:
            return ClosedLoop(self.envs_per_client, self.step_s, self.jitter_s, rng)
        return FixedRate(self.period_s, self.period_s * (1 + number / self.num_clients))

    def make_clients(self, tally: Tally) -> list[SyntheticClient]:
        """All of them."""
        spec = EnvironmentSpec.from_json(self.spec)
        credentials = from_json(ClientCredentials(), self.credentials)
        servers = Servers(self.server, credentials, GIVE_UP_AFTER_S)
        size = self.envs_per_client
        pool = NoisePool(spec, size)
        clients = []
        for number in self.numbers:
            rng = np.random.default_rng(number)
            first = (self.first_index or 0) + number * size
            client = SyntheticClient(
                servers,
                client_id=f"{self.name}-{number}",
                indices=range(first, first + size),
                assign_indices=self.first_index is None,
                spec=spec,
                rows=SyntheticRows(spec, pool, size, self.episode_steps, rng),
                pace=self.make_pace(number, rng),
                tally=tally,
            )
            clients.append(client)
        return clients


class Driver:
    """Runs the clients of one assignment after the other."""

    def __init__(self) -> None:
        self._tally = Tally()
        self._clients: list[SyntheticClient] = []
        self._tasks: list[asyncio.Task[None]] = []

    async def serve(self) -> None:
        """Does what standard input says until it ends."""
        loop = asyncio.get_running_loop()
        commands = asyncio.StreamReader(limit=1 << 20)
        await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(commands), sys.stdin)
        looking = loop.create_task(self._look_at_lag())
        while line := await commands.readline():
            print(json.dumps(await self._obey(json.loads(line))), flush=True)
        looking.cancel()
        await self._stop()

    async def _obey(self, command: Mapping[str, Any]) -> dict[str, Any]:
        if "sample" in command:
            self._raise_defects()
            return Sample.take(self._tally).to_json()
        await self._stop()
        self._tally = Tally()
        if "start" in command:
            assignment = command["start"]
            self._clients = Assignment(**{**assignment, "numbers": tuple(assignment["numbers"])}).make_clients(
                self._tally
            )
            self._tasks = [asyncio.get_running_loop().create_task(client.run()) for client in self._clients]
        return {}

    async def _stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await leave_all(self._clients, _GOODBYE_S)
        self._tasks, self._clients = [], []

    async def _look_at_lag(self) -> None:
        """A reply waits until the loop comes round to it: how long is that?"""
        while True:
            await asyncio.sleep(_LOOK_EVERY_S)
            start_s = time.perf_counter()
            await asyncio.sleep(0)
            self._tally.lag_s += time.perf_counter() - start_s
            self._tally.lags += 1

    def _raise_defects(self) -> None:
        """What ends a client and is no SeedbedError is a defect of ours: it ends the test."""
        for task in self._tasks:
            if task.done():
                task.result()


def main(_: list[str]) -> int:
    """Runs a driver; returns the exit code."""
    setup_logging("load driver", os.environ.get(LEVEL_VARIABLE, "error"))  # what fails is counted and reported
    collect_rarely()  # it holds many streams, and shares cores with what it measures
    asyncio.run(Driver().serve())
    return 0


if __name__ == "__main__":
    sys.exit(run_main(main))
