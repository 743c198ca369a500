"""Shared memory: descriptors go with the objects that hold them, and what may only be read cannot be written."""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest

from seedbed.common.specs import EnvironmentSpec, discrete
from seedbed.server.shared.insight import InsightTable, Look
from seedbed.server.shared.memory import SharedFile
from seedbed.server.shared.named_numbers import NamedNumbers
from seedbed.server.shared.slots import SlotTable
from seedbed.server.shared.vitals import VitalsTable

SPEC = EnvironmentSpec(environment="x", observations=(discrete("o", 2),), actions=(discrete("a", 3),))


@pytest.mark.parametrize(
    "make",
    [
        lambda: SlotTable(SPEC, 4),
        lambda: VitalsTable(2),
        lambda: InsightTable(4),
        Look,
        NamedNumbers,
        lambda: SlotTable(SPEC, 4).read_only(),
    ],
    ids=["slots", "vitals", "insight", "look", "numbers", "reader"],
)
def test_nothing_stays_open_behind_a_table(make: Callable[[], object]) -> None:
    make()
    before = os.listdir("/proc/self/fd")
    for _ in range(5):
        make()
    assert os.listdir("/proc/self/fd") == before


def test_a_reader_sees_what_is_written_and_writes_nothing() -> None:
    file = SharedFile(8)
    writer, reader = file.map(), file.read_only().map()
    writer[:8] = b"seedbed!"
    del file
    assert reader[:8] == b"seedbed!"
    with pytest.raises(TypeError):
        reader[:8] = bytes(8)
