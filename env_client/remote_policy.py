"""The policy of an actor that lives on a server: one channel to it, one stream for each group of environments.

All network code runs on an event loop that turns only while the actor waits in `receive`; there is no second thread.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
from collections.abc import Sequence
from typing import Any

from seedbed.common.codec import pack_hello
from seedbed.common.counting import count
from seedbed.common.specs import EnvironmentSpec
from seedbed.common.timestep import Array, Timesteps
from seedbed.env_client.actor import Stopped
from seedbed.env_client.lease import Lease
from seedbed.env_client.replicas import Replicas
from seedbed.env_client.servers import Servers

_log = logging.getLogger(__name__)

GOODBYE_TIMEOUT_S = 1.0
"""How long leaving may take; a server that does not listen finds out when its grace time is over."""


class RemotePolicy:
    """Sends timesteps to a server and receives actions; see `seedbed.env_client.actor.Policy`.

    Args:
        servers: where the server is, or its replicas, of which one is chosen.
        client_id: stable name of this process; two live clients must not share one.
        specs: of every environment; where there are several the server chooses one for each group.
        groups: stable environment indices, one sequence for each group.
        assign_indices: let the server choose; `groups` then only says how many, and what is wished for.
        loop: event loop to turn; a new one unless given.
    """

    def __init__(
        self,
        servers: Servers,
        *,
        client_id: str,
        specs: Sequence[EnvironmentSpec],
        groups: Sequence[Sequence[int]],
        assign_indices: bool = False,
        loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        self._loop = loop or asyncio.new_event_loop()
        self._num_environments = sum(map(len, groups))
        self._connected: set[int] = set()
        self._pending: list[asyncio.Task[Any] | None] = [None] * len(groups)
        row_bytes = sum(array.row_bytes for array in specs[0].actions)
        reply_bytes = row_bytes * max(map(len, groups))
        self._replicas = Replicas(servers, self._num_environments, reply_bytes)
        run_id = secrets.randbits(64) | 1  # never 0
        self._leases = []
        for group, indices in enumerate(groups):
            hello = pack_hello(
                client_id=client_id,
                run_id=run_id,
                group=group,
                environment_indices=indices,
                spec=specs[0],
                assign_indices=assign_indices,
                names_task=len(specs) == 1,
            )
            self._leases.append(Lease(self._replicas, servers.give_up_after_s, hello, specs, self._note_connection))

    def connect(self) -> list[tuple[int, ...]]:
        """Waits until every group has its lease, through all outages that `servers` allow.

        Returns:
            Stable environment indices of each group.

        Raises:
            RunFinished: the run is over.
            IndicesChanged: not all groups found room on one replica, and another has it: ask with a new policy.
            Stopped: `interrupt` was called.
            SeedbedError: the server refused for good, or stayed away too long.
        """
        for group, lease in enumerate(self._leases):
            self._pending[group] = self._loop.create_task(lease.connect())
        return [self._wait(group) for group in range(len(self._leases))]

    @property
    def tasks(self) -> list[int]:
        """Of each group, once it is connected: which of the specs its environments have."""
        return [lease.task for lease in self._leases]

    def send(self, group: int, rows: Timesteps) -> None:
        """Sends one timestep of each row. The arrays may be reused at once; the bytes leave in the next `receive`."""
        self._pending[group] = self._loop.create_task(self._leases[group].exchange(rows))

    def receive(self, group: int) -> tuple[Array, ...]:
        """Waits for the actions of the last `send`, through all outages that `servers` allow.

        Returns:
            One read-only array `[E, ...]` for each action spec.

        Raises:
            LeaseLost: the environments must be reset.
            IndicesChanged: other environments must take their place.
            RunFinished: the run is over.
            Stopped: `interrupt` was called.
            SeedbedError: the server refused for good, or stayed away too long.
        """
        actions: tuple[Array, ...] = self._wait(group)
        return actions

    def interrupt(self) -> None:
        """Ends a `receive` that waits now, or the next one. May be called from a signal handler."""
        for task in self._pending:
            if task is not None:
                self._loop.call_soon_threadsafe(task.cancel)

    def close(self, reason: str) -> None:
        """Says goodbye on every live stream and closes them, within `GOODBYE_TIMEOUT_S`.

        Args:
            reason: for the server's log.
        """
        self._loop.run_until_complete(self._leave(reason))
        self._loop.run_until_complete(self._finish_tasks())
        self._loop.close()

    def _wait(self, group: int) -> Any:
        task = self._pending[group]
        assert task is not None, "receive without send"
        try:
            return self._loop.run_until_complete(task)
        except asyncio.CancelledError:
            raise Stopped from None
        finally:
            if task.done():  # otherwise Ctrl-C broke the waiting off; `close` ends what still waits
                self._pending[group] = None

    async def _leave(self, reason: str) -> None:
        waiting = [task for task in self._pending if task is not None]
        self._pending = [None] * len(self._leases)  # a signal that comes later finds nothing to interrupt
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(GOODBYE_TIMEOUT_S):
                await asyncio.gather(*(lease.say_goodbye(reason) for lease in self._leases))
        for lease in self._leases:
            lease.drop_stream()
        await self._replicas.close()

    async def _finish_tasks(self) -> None:
        """Ends what streams leave behind, such as a last read: a loop that is closed before complains about it."""
        left = asyncio.all_tasks(self._loop) - {asyncio.current_task()}
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)

    def _note_connection(self, group: int, connected: bool) -> None:
        if not connected:
            self._connected.discard(group)
            return
        self._connected.add(group)
        if len(self._connected) == len(self._leases):
            environments, groups = self._num_environments, len(self._leases)
            _log.info(
                "connected to %s: %s in %s",
                self._replicas,
                count(environments, "environment"),
                count(groups, "group"),
            )
