"""Open unrolls against streams kept in lists. For the data, which identifies itself, see `tests.reference.unrolls`."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from seedbed.server.experience.open_unrolls import OpenUnrolls
from tests.reference.unrolls import ExpectedUnroll, Streams, check_state, complete_unrolls, cut_unroll, numbers_layout

CPU = torch.device("cpu")
LAYOUTS = pytest.mark.parametrize(
    ("num_rows", "period", "frame_stack", "stagger"),
    [
        (2, 1, 1, 0),
        (6, 5, 1, 0),
        (6, 5, 4, 0),
        (13, 4, 1, 0),
        (13, 4, 4, 0),
        (12, 4, 2, 0),
        (3, 2, 4, 0),
        (6, 5, 4, 1),
        (6, 5, 1, 2),
        (3, 2, 4, 1),
    ],
)


def check_open(store: OpenUnrolls, slot: int, expected: ExpectedUnroll) -> None:
    """The open unroll of a slot, read from the storage itself: frames once each, history in front."""
    (source,) = store.provenance(np.array([slot]))
    assert source == expected.provenance
    log, start = expected.log, expected.start
    for t in range(expected.length):
        for array, history in enumerate(store.layout.histories):
            assert store.rows.observations[array][slot, history + t].tolist() == log.rows[start + t].stored[array]
        for name, value in log.rows[start + t].values.items():
            assert store.rows.fields[name][slot, t].tolist() == value, name
    for array, history in enumerate(store.layout.histories):
        for back in range(1, min(history, start) + 1):
            frame = store.rows.observations[array][slot, history - back]
            assert frame.tolist() == log.rows[start - back].stored[array]
    check_state([part[0] for part in store.initial_state(np.array([slot]))], log.rows[start])


def test_the_first_unrolls_of_one_slot_narrated() -> None:
    """L = 3, period 2: rows 0 1 2, then 2 3 4, then 4 5 cut."""
    store, streams = OpenUnrolls(numbers_layout(3, 2, 1), 2, CPU), Streams(2, seed=0)
    slot = np.array([1])
    streams.begin(store, slot)

    def sequence_numbers() -> list[float]:
        return store.rows.observations[0][1, : store.position[1], 2].tolist()

    completed = []
    for _ in range(2):
        completed.append(streams.step(store, slot).tolist())
    assert sequence_numbers() == [0, 1]
    completed.append(streams.step(store, slot).tolist())  # row 2 completes the first unroll
    assert sequence_numbers() == [0, 1, 2]
    store.complete(slot)
    assert sequence_numbers() == [2]  # shared: the bootstrap row of one is row 0 of the next
    for _ in range(2):
        completed.append(streams.step(store, slot).tolist())
    assert sequence_numbers() == [2, 3, 4]
    store.complete(slot)
    completed.append(streams.step(store, slot).tolist())
    assert sequence_numbers() == [4, 5]
    assert completed == [[], [], [1], [], [1], []]
    worth, rest = store.cut(np.array([0, 1]))
    assert (worth.tolist(), rest.tolist()) == ([1], [0])


@LAYOUTS
def test_unrolls_are_those_cut_from_the_raw_streams(num_rows: int, period: int, frame_stack: int, stagger: int) -> None:
    """Slots out of step, random episode ends (length 2 rows among them), leases that end and slots that are reused."""
    layout = numbers_layout(num_rows, period, frame_stack, stagger)
    store, streams = OpenUnrolls(layout, 5, CPU), Streams(5, seed=num_rows * 100 + period * 10 + frame_stack)
    found: dict[int, list[tuple[int, int]]] = {}
    for _ in range(150):
        free = [slot for slot in range(5) if slot not in streams.open and streams.random.random() < 0.3]
        streams.begin(store, np.array(free, np.int64))
        slots = streams.some()
        complete = streams.step(store, slots)
        for slot in complete.tolist():
            log = streams.open[slot]
            expected = complete_unrolls(log, layout)[-1]
            check_open(store, slot, expected)
            found.setdefault(log.serial, []).append((expected.start, expected.length))
        store.complete(complete)
        leaving = np.array([slot for slot in streams.open if streams.random.random() < 0.03], np.int64)
        worth, rest = store.cut(leaving)
        assert sorted([*worth, *rest]) == sorted(leaving)
        for log in streams.end(leaving):
            expected_cut = cut_unroll(log, layout)
            assert (log.slot in worth) == (expected_cut is not None)
            if expected_cut is not None:
                check_open(store, log.slot, expected_cut)
                found.setdefault(log.serial, []).append((expected_cut.start, expected_cut.length))
        store.position[leaving] = 0
    for log in streams.ended:
        expected_all = complete_unrolls(log, layout)
        expected_cut = cut_unroll(log, layout)
        expected_all += [expected_cut] if expected_cut else []
        assert found.get(log.serial, []) == [(unroll.start, unroll.length) for unroll in expected_all]
    assert len(streams.ended) > 5
    assert sum(map(len, found.values())) > 20


@pytest.mark.parametrize("num_rows_sent", range(1, 19))
def test_what_a_cut_is_worth(num_rows_sent: int) -> None:
    """L = 13, period 4: a cut counts only if it holds a transition that no unroll before it held."""
    layout = numbers_layout(13, 4, 1)
    store, streams = OpenUnrolls(layout, 1, CPU), Streams(1, seed=0)
    slot = np.array([0])
    streams.begin(store, slot)
    for _ in range(num_rows_sent):
        store.complete(streams.step(store, slot))
    worth, _ = store.cut(slot)
    assert worth.tolist() == ([] if num_rows_sent in (1, 13, 17) else [0])


def test_a_new_lease_sees_nothing_of_the_last_one() -> None:
    layout = numbers_layout(6, 5, 4)
    store, streams = OpenUnrolls(layout, 1, CPU), Streams(1, seed=3, end_probability=0.0)
    slot = np.array([0])
    for rows_of_lease in (4, 3, 8):  # the first two are forgotten in mid-unroll, without any call but begin
        streams.begin(store, slot)
        for _ in range(rows_of_lease):
            complete = streams.step(store, slot)  # checks the stacks
            if len(complete):
                check_open(store, 0, complete_unrolls(streams.open[0], layout)[-1])
                store.complete(complete)
    check_open(store, 0, ExpectedUnroll(streams.open[0], 5, 3))


def test_feed_forward_unrolls_have_no_state() -> None:
    layout = dataclasses.replace(numbers_layout(6, 5, 1), state_specs=())
    store = OpenUnrolls(layout, 2, CPU)
    assert store.initial_state(np.array([0, 1])) == ()
