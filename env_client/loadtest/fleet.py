"""The driver processes of a load test, seen from the process that measures."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, Self

from seedbed.env_client.loadtest.driver import Assignment
from seedbed.env_client.loadtest.tally import Sample

_MODULE = "seedbed.env_client.loadtest.driver"
_MAX_LINE_BYTES = 1 << 20
_EXIT_TIMEOUT_S = 10.0


class Fleet:
    """Driver processes; use it as an asynchronous context, which ends them."""

    def __init__(self, num_processes: int) -> None:
        self._num_processes = num_processes
        self._drivers: list[asyncio.subprocess.Process] = []

    async def start(self, assignments: Sequence[Assignment]) -> None:
        """Ends all clients and starts others: one assignment for each driver, drivers beyond stay idle."""
        commands: list[dict[str, Any]] = [{"start": asdict(assignment)} for assignment in assignments]
        await self._ask_all(commands + [{"stop": True}] * (len(self._drivers) - len(assignments)))

    async def sample(self) -> list[Sample]:
        """What each driver has counted since clients were last started; nothing, if it got none."""
        answers = await self._ask_all([{"sample": True}] * len(self._drivers))
        return [Sample.from_json(answer) for answer in answers]

    async def stop(self) -> None:
        """Ends all clients, and forgets what was counted; drivers stay."""
        await self._ask_all([{"stop": True}] * len(self._drivers))

    async def __aenter__(self) -> Self:
        threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
        for _ in range(self._num_processes):
            # A session of its own: Ctrl-C reaches the parent alone, which ends its drivers in order.
            driver = await asyncio.create_subprocess_exec(
                sys.executable,
                *("-P", "-m", _MODULE),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                env={**os.environ, **threads},
                start_new_session=True,
                limit=_MAX_LINE_BYTES,
            )
            self._drivers.append(driver)
        return self

    async def __aexit__(self, *_: object) -> None:
        for driver in self._drivers:
            assert driver.stdin is not None
            driver.stdin.close()
        try:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_EXIT_TIMEOUT_S):
                    await asyncio.gather(*(driver.communicate() for driver in self._drivers))
        finally:  # those that are too slow, or all of them when this was interrupted too
            for driver in self._drivers:
                if driver.returncode is None:
                    driver.kill()
                    await driver.wait()

    async def _ask_all(self, commands: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        return await asyncio.gather(*map(_ask, self._drivers, commands))


async def _ask(driver: asyncio.subprocess.Process, command: dict[str, Any]) -> dict[str, Any]:
    assert driver.stdin is not None
    assert driver.stdout is not None
    with contextlib.suppress(ConnectionError):  # then there is no answer either
        driver.stdin.write(json.dumps(command).encode() + b"\n")
        await driver.stdin.drain()
    answer = await driver.stdout.readline()
    if not answer:
        raise RuntimeError(f"load driver {driver.pid} has died; its own message is above")
    found: dict[str, Any] = json.loads(answer)
    return found
