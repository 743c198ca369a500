"""The frontend's end of the channel to the device process: how many Steps it tells of by one write."""

from __future__ import annotations

import asyncio

import pytest

from seedbed.server.frontend.outbox import MAX_TURNS, Outbox
from seedbed.server.shared.id_channel import IdChannel


@pytest.mark.parametrize(
    ("turns", "written"),
    [
        (1, [3]),  # alone: at the end of its turn, with what came after it there
        (2, [6]),
        (10, [3 * MAX_TURNS, 3 * MAX_TURNS, 30 - 6 * MAX_TURNS]),  # a stream of them waits for a few turns at most
    ],
)
def test_steps_of_a_few_turns_go_by_one_write(turns: int, written: list[int]) -> None:
    async def serve() -> list[int]:
        ours, theirs = IdChannel.pair()
        outbox = Outbox(ours, lambda: pytest.fail("the other end is there"))
        found = []
        for turn in range(turns + MAX_TURNS + 1):
            if turn < turns:
                for lease in range(3):
                    outbox.announce(3 * turn + lease)
            await asyncio.sleep(0)
            found.append(len(theirs.receive()))
        outbox.close()
        ours.close()
        theirs.close()
        return [count for count in found if count]

    assert asyncio.run(serve()) == written
