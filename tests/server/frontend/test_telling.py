"""The frontend's end of the channel to the device process: how many Steps it tells of by one write."""

from __future__ import annotations

import asyncio

import pytest

from seedbed.common.specs import ArraySpec, EnvironmentSpec, discrete
from seedbed.server.frontend.admission import FrontendConfig
from seedbed.server.frontend.frontend import _MAX_TURNS, Frontend
from seedbed.server.shared.id_channel import IdChannel
from seedbed.server.shared.slots import SlotTable
from seedbed.server.shared.vitals import VitalsTable

SPEC = EnvironmentSpec(
    environment="none",
    preset="",
    observations=(ArraySpec(name="observation", dtype="uint8", shape=(2,)),),
    actions=(discrete("action", 2),),
    frames_per_step=1,
)


@pytest.mark.parametrize(
    ("turns", "written"),
    [
        (1, [3]),  # alone: at the end of its turn, with what came after it there
        (2, [6]),
        (10, [3 * _MAX_TURNS, 3 * _MAX_TURNS, 30 - 6 * _MAX_TURNS]),  # a stream of them waits for a few turns at most
    ],
)
def test_steps_of_a_few_turns_go_by_one_write(turns: int, written: list[int]) -> None:
    async def serve() -> list[int]:
        ours, theirs = IdChannel.pair()
        config = FrontendConfig(
            number=0,
            address="127.0.0.1:0",
            spec=SPEC,
            num_slots=64,
            run_name="run",
            server_version="0",
            grace_s=1.0,
            stall_limit_s=1.0,
        )
        frontend = Frontend(config, SlotTable(SPEC, 64), VitalsTable(1), ours)
        found = []
        for turn in range(turns + _MAX_TURNS + 1):
            if turn < turns:
                for lease in range(3):
                    frontend._announce(3 * turn + lease)
            await asyncio.sleep(0)
            found.append(len(theirs.receive()))
        asyncio.get_running_loop().remove_reader(ours)
        ours.close()
        theirs.close()
        return [count for count in found if count]

    assert asyncio.run(serve()) == written
