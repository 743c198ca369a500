"""The slot table: layout, the moves of one lease, and memory that a spawned process shares."""

from __future__ import annotations

import multiprocessing
import os
import signal
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from seedbed.common.specs import ArraySpec, EnvironmentSpec
from seedbed.common.timestep import StepType, Timesteps
from seedbed.server.shared.slots import SlotTable

SPEC = EnvironmentSpec(
    environment="mixed",
    observations=(
        ArraySpec(name="image", dtype="uint8", shape=(3, 5)),
        ArraySpec(name="vector", dtype="float32", shape=(2,)),
    ),
    actions=(ArraySpec(name="action", dtype="int64", low=(0,), high=(6,), kind="discrete"),),
)
NUM_SLOTS = 7
PER_SLOT = ("step_type", "reward", "discount", "begun_seq", "accepted_seq", "answered_seq", "policy_version")


@pytest.fixture
def table() -> SlotTable:
    return SlotTable(SPEC, NUM_SLOTS)


def some_rows(num_rows: int, base: int = 0) -> Timesteps:
    image = (base + np.arange(num_rows * 15).reshape(num_rows, 3, 5)) % 256
    return Timesteps(
        step_type=np.arange(num_rows, dtype=np.uint8) % 3,
        reward=base + np.arange(num_rows, dtype=np.float32),
        discount=np.linspace(0, 1, num_rows, dtype=np.float32),
        observations=(image.astype(np.uint8), base + np.arange(2 * num_rows, dtype=np.float32).reshape(num_rows, 2)),
    )


def all_arrays(table: SlotTable) -> list[np.ndarray]:
    return [*table.observations, *table.actions, *(getattr(table, name) for name in PER_SLOT)]


def test_arrays_have_the_shapes_and_dtypes_of_the_spec_and_start_at_zero(table: SlotTable) -> None:
    assert [(array.shape, array.dtype.str) for array in table.observations] == [((7, 3, 5), "|u1"), ((7, 2), "<f4")]
    assert [(array.shape, array.dtype.str) for array in table.actions] == [((7,), "<i8")]
    for name, dtype in zip(PER_SLOT, ("|u1", "<f4", "<f4", *["<u8"] * 4), strict=True):
        assert (getattr(table, name).shape, getattr(table, name).dtype.str) == ((7,), dtype)
    assert not any(array.any() for array in all_arrays(table))


def test_no_two_arrays_share_a_cache_line_or_a_byte(table: SlotTable) -> None:
    starts = [array.__array_interface__["data"][0] for array in all_arrays(table)]
    assert all(start % 64 == 0 for start in starts)
    for number, array in enumerate(all_arrays(table), start=1):
        array[...] = number
    for number, array in enumerate(all_arrays(table), start=1):
        assert (array == number).all()


def test_accept_copies_the_rows_of_one_lease_only(table: SlotTable) -> None:
    rows = some_rows(3, base=50)
    table.accept(2, 3, 9, rows)
    for ours, theirs in zip(table.observations, rows.observations, strict=True):
        np.testing.assert_array_equal(ours[2:5], theirs)
        assert not ours[[0, 1, 5, 6]].any()
    for name in ("step_type", "reward", "discount"):
        np.testing.assert_array_equal(getattr(table, name)[2:5], getattr(rows, name))
        assert not getattr(table, name)[[0, 1, 5, 6]].any()
    assert table.accepted_seq.tolist() == table.begun_seq.tolist() == [0, 0, 9, 0, 0, 0, 0]
    assert not table.answered_seq.any(), "to accept is not to answer"


def test_answer_scatters_actions_to_any_slots(table: SlotTable) -> None:
    table.answer(np.array([6, 0, 3]), [np.array([60, 10, 30])], 12)
    assert table.actions[0].tolist() == [10, 0, 0, 30, 0, 0, 60]
    assert table.policy_version.tolist() == [12, 0, 0, 12, 0, 0, 12]


def test_clear_makes_a_lease_start_over_and_leaves_its_neighbours(table: SlotTable) -> None:
    for array in (table.begun_seq, table.accepted_seq, table.answered_seq):
        array[:] = 1
    table.clear(2, 3)
    assert table.expects_first(2, 3).all()
    assert not table.expects_first(0, 2).any()
    assert not table.expects_first(5, 2).any()
    for seqs in (table.begun_seq, table.accepted_seq, table.answered_seq):
        assert seqs[2] == 0
        assert seqs[[0, 1, 5, 6]].tolist() == [1] * 4


def test_rows_that_were_last_must_be_first_next(table: SlotTable) -> None:
    table.clear(1, 3)
    assert table.expects_first(1, 3).tolist() == [True] * 3
    for seq, last in enumerate(([False, True, False], [False, False, True], [True, True, True]), start=1):
        types = np.where(last, StepType.LAST, StepType.MID).astype(np.uint8)
        table.accept(1, 3, seq, replace(some_rows(3), step_type=types))
        assert table.expects_first(1, 3).tolist() == last
    assert not table.was_last[[0, 4, 5, 6]].any()


class _Spy:
    """An array that notes what a reader would see of the numbers of a lease while it is copied."""

    def __init__(self, array: Any, table: SlotTable, lease: int, seen: list[tuple[int, int]]) -> None:
        self._array, self._table, self._lease, self._seen = array, table, lease, seen

    def __array__(self, *_: Any, **__: Any) -> Any:
        self._seen.append((int(self._table.begun_seq[self._lease]), int(self._table.accepted_seq[self._lease])))
        return self._array

    def __eq__(self, other: object) -> Any:
        return self._array == other


def test_a_reader_can_tell_that_a_copy_is_torn(table: SlotTable) -> None:
    """Whatever is copied, `begun_seq` is ahead of `accepted_seq` before the first byte and until after the last."""
    table.clear(1, 3)
    for seq in (1, 2, 3):
        seen: list[tuple[int, int]] = []
        rows: Any = some_rows(3, base=seq)
        spied = {name: _Spy(getattr(rows, name), table, 1, seen) for name in ("step_type", "reward", "discount")}
        observations = tuple(_Spy(array, table, 1, seen) for array in rows.observations)
        table.accept(1, 3, seq, replace(rows, observations=observations, **spied))
        assert len(seen) >= 5
        assert set(seen) == {(seq, seq - 1)}
        assert table.begun_seq[1] == table.accepted_seq[1] == seq
        np.testing.assert_array_equal(table.reward[1:4], rows.reward)


class _Deadly:
    """An array, or a number when it is written for the last time, that kills the process which reads it."""

    def __init__(self, value: Any, armed: bool = True) -> None:
        self._value = value
        self._armed = armed

    def __int__(self) -> int:
        return int(self.__array__())

    def __array__(self, *_: Any, **__: Any) -> Any:
        if not self._armed:
            return np.array(self._value)
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError("not reached")

    def __mod__(self, other: int) -> Any:
        self._armed = True  # all that is left is `accepted_seq`
        return self._value % other

    def __eq__(self, other: object) -> Any:
        return _Deadly(self._value)


def _die_in_the_midst(table: SlotTable, seq: Any, rows: Timesteps) -> None:
    table.accept(1, 3, seq, rows)


@pytest.mark.parametrize("where", ["image", "vector", "step_type", "reward", "discount", "seq"])
def test_a_frontend_that_dies_in_the_midst_of_a_steps_leaves_what_was_accepted(table: SlotTable, where: str) -> None:
    """What the next frontend checks the repeated Steps against is as if the dead one had never read it."""
    table.clear(1, 3)
    table.accept(1, 3, 1, replace(some_rows(3), step_type=np.array([2, 1, 2], np.uint8)))
    rows: Any = replace(some_rows(3), step_type=np.array([0, 2, 0], np.uint8))
    image, vector = rows.observations
    deadly, seq = rows, _Deadly(2, armed=False) if where == "seq" else 2
    if where in ("image", "vector"):
        pair = (_Deadly(image), vector) if where == "image" else (image, _Deadly(vector))
        deadly = replace(rows, observations=pair)
    elif where != "seq":
        deadly = replace(rows, **{where: _Deadly(getattr(rows, where))})
    process = multiprocessing.get_context("spawn").Process(target=_die_in_the_midst, args=(table, seq, deadly))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    assert table.accepted_seq[1] == 1
    assert table.begun_seq[1] == 2, "who reads these rows must see that they are torn"
    assert table.expects_first(1, 3).tolist() == [True, False, True]
    table.accept(1, 3, 2, rows)
    assert table.expects_first(1, 3).tolist() == [False, True, False]


def _write_as_a_frontend(table: SlotTable) -> None:
    """Reads what the parent wrote, then writes what the parent expects."""
    assert table.actions[0].tolist() == list(range(100, 107))
    table.accept(1, 3, 42, some_rows(3, base=20))


def test_a_spawned_process_shares_the_memory_and_nothing_is_left_behind(table: SlotTable) -> None:
    shm_before = set(os.listdir("/dev/shm")) if os.path.isdir("/dev/shm") else set()
    table.answer(np.arange(7), [np.arange(100, 107)], 1)
    process = multiprocessing.get_context("spawn").Process(target=_write_as_a_frontend, args=(table,))
    process.start()
    while process.is_alive():
        process.join(0.05)
    assert process.exitcode == 0
    assert table.accepted_seq[1] == 42
    np.testing.assert_array_equal(table.observations[0][1:4], some_rows(3, base=20).observations[0])
    np.testing.assert_array_equal(table.observations[1][1:4], some_rows(3, base=20).observations[1])
    left = set(os.listdir("/dev/shm")) - shm_before if os.path.isdir("/dev/shm") else set()
    assert not {name for name in left if "seedbed" in name}
