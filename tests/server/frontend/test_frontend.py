"""A frontend's streams, without gRPC: how many there may be."""

from __future__ import annotations

import asyncio
from typing import Any, NoReturn

import grpc
import pytest

from seedbed.common.specs import EnvironmentSpec, discrete
from seedbed.server.frontend import frontend as module
from seedbed.server.frontend.admission import FrontendConfig
from seedbed.server.frontend.frontend import Frontend
from seedbed.server.shared.id_channel import IdChannel
from seedbed.server.shared.slots import SlotTable
from seedbed.server.shared.vitals import VitalsTable

SPEC = EnvironmentSpec(environment="x", observations=(discrete("o", 2),), actions=(discrete("a", 3),))
NUM_SLOTS = 4


class Aborted(Exception):
    """The status that a call was ended with."""


class Silence:
    """A call of a client that says nothing."""

    def peer(self) -> str:
        return "ipv4:192.0.2.7:4711"

    async def read(self) -> Any:
        await asyncio.Event().wait()

    async def abort(self, code: grpc.StatusCode, details: str, trailing_metadata: Any) -> NoReturn:
        raise Aborted(code, details)


def test_streams_that_nobody_has_room_for_are_refused_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each waits ten seconds for its Hello: a million of them would take a frontend's memory."""
    monkeypatch.setattr(module, "_SPARE_STREAMS", 2)
    most = 2 + 2 * NUM_SLOTS

    async def flood() -> None:
        config = FrontendConfig(
            number=0,
            address="127.0.0.1:1",
            spec=SPEC,
            num_slots=NUM_SLOTS,
            run_name="r",
            server_version="0",
            grace_s=1.0,
            stall_limit_s=1.0,
        )
        ours, theirs = IdChannel.pair()
        vitals = VitalsTable(1)
        subject = Frontend(config, SlotTable(SPEC, NUM_SLOTS), vitals, ours)
        waiting = [asyncio.create_task(subject.Act(None, Silence())) for _ in range(most)]
        await asyncio.sleep(0)
        with pytest.raises(Aborted, match=f"expected fewer than {most} streams"):
            await subject.Act(None, Silence())
        assert (vitals.frontends[0]["streams"], vitals.refusals()["CapacityError"]) == (most, 1)
        waiting[0].cancel()
        await asyncio.sleep(0.01)
        another = asyncio.create_task(subject.Act(None, Silence()))
        await asyncio.sleep(0)
        assert not another.done()
        for task in (*waiting, another):
            task.cancel()
        await asyncio.gather(*waiting, another, return_exceptions=True)
        assert vitals.frontends[0]["streams"] == 0
        asyncio.get_running_loop().remove_reader(ours)
        ours.close()
        theirs.close()

    asyncio.run(flood())
