"""One synthetic client: a stream of its own, the real protocol, rows that are made up."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import time
from collections.abc import Sequence

import numpy as np

from seedbed.common.codec import pack_actions, pack_hello, pack_steps
from seedbed.common.errors import SeedbedError
from seedbed.common.specs import EnvironmentSpec
from seedbed.env_client.actor import IndicesChanged, LeaseLost, RunFinished
from seedbed.env_client.lease import Lease
from seedbed.env_client.loadtest.pace import Pace
from seedbed.env_client.loadtest.rows import SyntheticRows
from seedbed.env_client.loadtest.tally import Tally
from seedbed.env_client.replicas import Replicas
from seedbed.env_client.servers import Servers


class SyntheticClient:
    """Exchanges made-up timesteps for actions over a connection of its own.

    Args:
        servers: where the server is, or its replicas.
        client_id: unique among all clients of that server.
        indices: of its environments, one for each row.
        assign_indices: let the server choose others where these are taken.
        spec: what the server serves.
        rows: makes the timesteps.
        pace: says when.
        tally: counts what happens.
    """

    def __init__(
        self,
        servers: Servers,
        *,
        client_id: str,
        indices: Sequence[int],
        assign_indices: bool,
        spec: EnvironmentSpec,
        rows: SyntheticRows,
        pace: Pace,
        tally: Tally,
    ) -> None:
        self._rows = rows
        self._pace = pace
        self._tally = tally
        self._leaving = False
        self._sent_bytes, self._received_bytes = _message_bytes(spec, rows, len(indices))
        run_id = secrets.randbits(64) | 1  # never 0
        hello = pack_hello(
            client_id=client_id,
            run_id=run_id,
            group=0,
            environment_indices=indices,
            spec=spec,
            assign_indices=assign_indices,
        )
        self._replicas = Replicas(servers, len(indices), self._received_bytes)
        self._lease = Lease(self._replicas, servers.give_up_after_s, hello, (spec,), self._note_connection)

    async def run(self) -> None:
        """Steps until it is cancelled, or refused for good: that is counted, not raised."""
        try:
            await self._converse()
        except (LeaseLost, IndicesChanged):
            self._give_up("LeaseLost", "the server no longer knew a lease: it was restarted, or the grace time passed")
        except RunFinished:
            self._give_up("RunFinished", "the server's run reached its stop condition")
        except SeedbedError as error:
            self._give_up(type(error).__name__, str(error))

    async def leave(self) -> None:
        """Says goodbye, so that the rows are free at once; call it when `run` has ended."""
        self._leaving = True
        await self._lease.say_goodbye("load test over")

    async def close(self) -> None:
        """Closes the connection."""
        self._leaving = True
        self._lease.drop_stream()
        await self._replicas.close()

    async def _converse(self) -> None:
        tally = self._tally
        rows = self._rows.reset()
        answered = False
        while True:
            waiting_s = time.perf_counter()
            start_s = await self._pace.next_start_s()
            sending_s = time.perf_counter()
            tally.stepping_s += sending_s - waiting_s
            exchange = self._lease.exchange(rows)
            tally.pack_s += time.perf_counter() - sending_s
            await exchange
            now_s = time.perf_counter()
            tally.answer(now_s - start_s, now_s - sending_s, self._rows.num_agent_steps)
            tally.sent_bytes += self._sent_bytes
            tally.received_bytes += self._received_bytes
            tally.answered_clients += not answered
            answered = True
            rows = self._rows.next()

    def _give_up(self, kind: str, text: str) -> None:
        self._tally.fail(kind, text)
        self._tally.failed_clients += 1

    def _note_connection(self, _: int, connected: bool) -> None:
        if not connected and not self._leaving:
            self._tally.fail("disconnected", "a stream broke and was opened again")


async def leave_all(clients: Sequence[SyntheticClient], timeout_s: float) -> None:
    """Ends all clients, whose `run` has ended, within that time."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(timeout_s):
            await asyncio.gather(*(client.leave() for client in clients))
    await asyncio.gather(*(client.close() for client in clients))


def _message_bytes(spec: EnvironmentSpec, rows: SyntheticRows, num_rows: int) -> tuple[int, int]:
    """Sizes of one Steps and of its Actions. Episode ends, which are rare, are left out."""
    zeros = [np.zeros((num_rows, *array.shape), array.numpy_dtype) for array in spec.actions]
    return pack_steps(1 << 14, rows.reset()).ByteSize(), pack_actions(1 << 14, zeros, 1 << 14).ByteSize()
