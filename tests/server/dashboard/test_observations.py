"""Copies of rows that somebody writes at any moment are whole: every pixel of an echo frame is of the same step."""

from __future__ import annotations

import multiprocessing
import time
from pathlib import Path

import numpy as np
import pytest

from seedbed.common.specs import ArraySpec
from seedbed.common.timestep import Timesteps
from seedbed.server.dashboard.observations import Observations, leases_of
from seedbed.server.shared.slots import SlotTable
from tests.server.dashboard.scene import Scene, spec_of

ROWS, SIDE = 8, 84
ECHO = ArraySpec(name="observation", dtype="uint8", shape=(SIDE, SIDE, 1), low=(0,), high=(255,))


def frames_of(seq: int) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    """Every pixel of row i is seq + i."""
    values = (np.arange(ROWS) + seq).astype(np.uint8)
    return np.ascontiguousarray(np.broadcast_to(values[:, None, None, None], (ROWS, SIDE, SIDE, 1)))


def write_for(slots: SlotTable, first: int, seconds: float) -> None:
    """A frontend whose client never pauses for long."""
    prepared = [frames_of(seq) for seq in range(256)]
    end_s, seq = time.monotonic() + seconds, 0
    zeros = np.zeros(ROWS, np.float32)
    while time.monotonic() < end_s:
        seq += 1
        rows = Timesteps(
            observations=(prepared[seq % 256],), step_type=np.ones(ROWS, np.uint8), reward=zeros, discount=zeros
        )
        slots.accept(first, ROWS, seq, rows)
        if seq % 4 == 0:  # else nothing whole is ever there
            time.sleep(1e-4)


def take_tiles(folder: Path, num_tiles: int, seconds: float) -> tuple[int, int, int]:
    """Tiles of a lease that another process writes: how many were taken, torn, and refused as torn."""
    scene = Scene(folder, spec_of(ECHO), num_slots=2 * ROWS)
    scene.join("other", *range(100, 100 + ROWS))
    lease = scene.join("writer", *range(ROWS))
    slots = np.arange(lease.first, lease.first + ROWS)
    observations = Observations(scene.facts.slots, scene.facts.insight, 0)
    writer = multiprocessing.get_context("spawn").Process(target=write_for, args=(scene.slots, lease.first, seconds))
    writer.start()
    taken, torn, last_seq = 0, 0, -1
    try:
        while taken < num_tiles and writer.is_alive():
            found = observations.take(slots)
            if not found.any():  # nothing whole has been there yet
                continue
            seq = int(scene.slots.accepted_seq[lease.first])
            if seq == last_seq or not seq:
                continue
            last_seq = seq
            taken += ROWS
            flat = found.reshape(ROWS, -1).astype(int)
            whole = (flat == flat[:, :1]).all(1) & ((flat[:, 0] - np.arange(ROWS) - flat[0, 0]) % 256 == 0)
            torn += int((~whole).sum())
    finally:
        writer.kill()
        writer.join()
    return taken, torn, observations.refused


def test_no_tile_is_torn(tmp_path: Path) -> None:
    taken, torn, refused = take_tiles(tmp_path, 800, seconds=20.0)
    assert taken >= 800
    assert torn == 0
    assert refused > 0  # there was something to refuse


@pytest.mark.slow
def test_no_tile_in_10_000_is_torn(tmp_path: Path) -> None:
    taken, torn, refused = take_tiles(tmp_path, 10_000, seconds=100.0)
    assert (taken >= 10_000, torn) == (True, 0)
    assert refused > 0


def test_rows_of_an_earlier_lease_are_never_shown(tmp_path: Path) -> None:
    scene = Scene(tmp_path, spec_of(ECHO), num_slots=ROWS)
    lease = scene.join("first", *range(ROWS))
    scene.send(lease, frames_of(9))
    observations = Observations(scene.facts.slots, scene.facts.insight, 0)
    slots = np.arange(ROWS)
    assert observations.take(slots)[0].max() == 9
    scene.leases.end(lease)
    scene.writer.end(slots)
    assert leases_of(scene.facts.insight) == []
    scene.join("second", *range(50, 50 + ROWS))
    assert observations.take(slots).max() == 0


def test_the_copy_before_stays_while_a_frontend_writes(tmp_path: Path) -> None:
    scene = Scene(tmp_path, spec_of(ECHO), num_slots=ROWS)
    lease = scene.join("first", *range(ROWS))
    scene.send(lease, frames_of(9))
    observations = Observations(scene.facts.slots, scene.facts.insight, 0)
    slots = np.arange(ROWS)
    observations.take(slots)
    scene.slots.begun_seq[lease.first] = 2  # a frontend died here, or is only slow
    scene.slots.observations[0][:4] = 77
    assert observations.take(slots).max() == 9 + ROWS - 1
    scene.slots.accepted_seq[lease.first] = 2
    assert observations.take(slots).max() == 77


def test_leases_side_by_side_are_told_apart(tmp_path: Path) -> None:
    scene = Scene(tmp_path)
    first, second = scene.join("a", 1, 2), scene.join("b", 3, 4, 5)
    found = leases_of(scene.facts.insight)
    assert [(lease.serial, lease.first, lease.num_rows) for lease in found] == [
        (first.serial, 0, 2),
        (second.serial, 2, 3),
    ]


def test_the_dashboard_cannot_write(tmp_path: Path) -> None:
    scene = Scene(tmp_path)
    with pytest.raises(ValueError, match="read-only"):
        scene.facts.slots.observations[0][:] = 1
    with pytest.raises(ValueError, match="read-only"):
        scene.facts.insight.policy[:] = 1
    with pytest.raises(TypeError, match="read-only"):
        scene.facts.vitals.device["loss"] = 1
    with pytest.raises(TypeError, match="read-write"):
        scene.facts.insight.write_fleet({})
