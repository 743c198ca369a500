"""Replicas of a run as one client uses them: which one it goes to, how long it stays, when it goes to another.

Choice    two candidates at random are asked how many rows they have free; the one with more is taken (the power of two
          choices, Mitzenmacher 2001). The one with most of all would not do: clients that start together, or lose their
          replica together, would all run to the same one.
Staying   all groups of a client go to one replica. Its leases live on for the grace time that its Welcome told: until
          that is over a client that lost its stream comes back to the same replica, and to no other.
Going on  a replica that is full is left at once, and so is one that does not answer and can hold no lease of ours. When
          all have been tried the client waits as it would for a single server, and begins anew.

With a single server, `--server HOST:PORT`, nothing is asked and nothing is chosen.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import time

from seedbed.common.address import Address
from seedbed.common.errors import CapacityError, SeedbedError, UnavailableError
from seedbed.env_client.actor import IndicesChanged
from seedbed.env_client.connection import Backoff, Complaints, Endpoint, Line, brief, wait_out
from seedbed.env_client.servers import Servers

_log = logging.getLogger(__name__)

_STATUS_TIMEOUT_S = 3.0
"""A replica that needs longer to say how full it is counts as away."""

_AWAY = -1

_START_JITTER_S = 2.0
"""Clients that are started together choose one after the other: each sees the rows that those before it have taken."""


class Replicas:
    """The replica that a client uses now, for all of its groups.

    Args:
        servers: where they are.
        num_rows: environments of the client, in all groups.
        max_reply_bytes: see `Endpoint.open_channel`.
        choice: draws candidates.
    """

    def __init__(
        self, servers: Servers, num_rows: int, max_reply_bytes: int = 0, choice: random.Random | None = None
    ) -> None:
        self._servers = servers
        self._num_rows = num_rows
        self._max_reply_bytes = max_reply_bytes
        self._random = choice or random.Random()
        self._lock = asyncio.Lock()
        self._complaints = Complaints()
        self._line: Line | None = None
        self._on: dict[int, Line] = {}  # the line of each group that has a stream, or tries to get one
        self._left: list[Line] = []  # lines of replicas that were left; open while a group is on them
        self._jitter_s = _START_JITTER_S
        self._passed: dict[Address, SeedbedError] = {}  # candidates tried since the last Welcome, or the last wait
        self._failed: Endpoint | None = None  # the last of them
        self._told: set[Address] = set()  # those of which that was said since the last Welcome
        self._live: set[int] = set()  # groups that have a stream at this replica
        self._stay_until_s = 0.0  # when the last lease here has ended for sure, if no stream is open
        self._grace_s = 0.0

    def __str__(self) -> str:
        return str(self._servers) if self._line is None else self._line.endpoint.target

    async def line(self, group: int) -> Line:
        """The way to the replica that is used now, for an attempt of a group; where there is none, one is chosen.

        Raises:
            SeedbedError: each candidate is away or full, or one refused for good. Then wait, see `recover`.
        """
        async with self._lock:
            if self._line is None:
                self._line = await self._choose()
            self._on[group] = self._line
            return self._line

    def welcomed(self, group: int, grace_s: float) -> None:
        """A group has its lease.

        Raises:
            UnavailableError: on a replica that the other group has left meanwhile.
        """
        if self._on[group] is not self._line:
            raise UnavailableError("this client has left for another replica")
        self._live.add(group)
        self._grace_s = grace_s
        self._passed.clear()
        self._told.clear()

    def lost(self, group: int) -> None:
        """A group's stream is gone; its lease lives on for the grace time."""
        if group in self._live:
            self._live.remove(group)
            self._stay_until_s = time.monotonic() + self._grace_s

    async def recover(self, group: int, backoff: Backoff, error: SeedbedError) -> None:
        """Waits before the next attempt of a group or, where another replica is worth one at once, leaves this one.

        Args:
            group: whose attempt failed.
            backoff: of that group.
            error: why.

        Raises:
            IndicesChanged: this group found no room where the others are, but elsewhere there is room for all.
            SeedbedError: see `Backoff.next_wait_s`.
        """
        line = self._on.pop(group, None)  # None: no replica was found
        if line is not None and error.retryable and (line is not self._line or not self._stays(error)):
            await self._leave(line, error)
            return
        if not error.retryable and self._servers.names.only is None and line is not None:
            error = type(error)(f"{line.endpoint.target}: {error}")  # which of them?
        endpoint = self._failed if line is None else line.endpoint
        where = str(self._servers) if endpoint is None else endpoint.target
        await wait_out(backoff, error, endpoint, self._complaints, where)
        if isinstance(error, CapacityError) and self._live and await self._has_room_elsewhere():
            raise IndicesChanged

    async def close(self) -> None:
        """Ends all calls at once."""
        for line in (*self._left, *([] if self._line is None else [self._line])):
            await line.close()

    def _stays(self, error: SeedbedError) -> bool:
        if self._servers.names.only is not None or self._live:
            return True
        # Whoever holds a lease here is never told that there is no room: this server has forgotten us.
        return time.monotonic() < self._stay_until_s and not isinstance(error, CapacityError)

    async def _leave(self, line: Line, error: SeedbedError) -> None:
        """The next `line` is another one. A group that still tries on this one ends that in its own time."""
        if line is self._line:
            self._line, self._stay_until_s = None, 0.0
            self._left.append(line)
            self._pass(line.endpoint, error)
        for left in [left for left in self._left if left not in self._on.values()]:
            self._left.remove(left)
            await left.close()

    def _pass(self, endpoint: Endpoint, error: SeedbedError) -> None:
        if endpoint.address not in self._told:  # an outage of all of them has a line of its own
            _log.info("%s: %s; trying the next of %s", endpoint.target, brief(error), self._servers)
            self._told.add(endpoint.address)
        self._passed[endpoint.address], self._failed = error, endpoint

    async def _choose(self) -> Line:
        endpoints = await self._servers.endpoints()
        if len(endpoints) > 1:
            await asyncio.sleep(self._random.uniform(0, self._jitter_s))
            self._jitter_s = 0.0
        while left := [endpoint for endpoint in endpoints if endpoint.address not in self._passed]:
            if len(left) == 1:
                return Line(left[0], self._max_reply_bytes)
            if (line := await self._choose_of_two(self._random.sample(left, 2))) is not None:
                return line
        error = list(self._passed.values())[-1]
        self._passed.clear()
        raise error

    async def _choose_of_two(self, candidates: list[Endpoint]) -> Line | None:
        """The one with more free rows; None if neither answers.

        Raises:
            SeedbedError: one of them refused for good.
        """
        lines = [Line(endpoint, self._max_reply_bytes) for endpoint in candidates]
        chosen = None
        try:
            free = await asyncio.gather(*map(self._free_rows, lines))
            rows, line = max(zip(free, lines, strict=True), key=lambda answer: answer[0])
            chosen = None if rows == _AWAY else line
        finally:
            for line in lines:
                if line is not chosen:
                    await line.close()
        return chosen

    async def _free_rows(self, line: Line) -> int:
        """`_AWAY`: it does not answer, which is remembered."""
        try:
            status = await line.read_status(_STATUS_TIMEOUT_S)
        except SeedbedError as error:
            if not error.retryable:
                raise type(error)(f"{line.endpoint.target}: {error}") from None
            self._pass(line.endpoint, error)
            return _AWAY
        return 0 if status is None else status.num_slots - status.used_slots

    async def _has_room_elsewhere(self) -> bool:
        """Whether any other replica has room for the whole client. Errors are no room."""
        with contextlib.suppress(SeedbedError):
            for endpoint in await self._servers.endpoints():
                if self._line is not None and endpoint.address == self._line.endpoint.address:
                    continue
                line = Line(endpoint)
                try:
                    status = await line.read_status(_STATUS_TIMEOUT_S)
                except SeedbedError:
                    continue
                finally:
                    await line.close()
                if status is not None and status.num_slots - status.used_slots >= self._num_rows:
                    return True
        return False
