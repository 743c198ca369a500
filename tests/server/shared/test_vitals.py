"""Numbers in shared memory: counted exactly, seen by other processes, one writer not disturbing another."""

from __future__ import annotations

import multiprocessing

import numpy as np
import pytest

from seedbed.common.errors import FencedError, InvalidMessageError
from seedbed.server.shared.vitals import COUNTERS, GAUGES, NUM_BUCKETS, STAGES, VitalsTable


def test_every_number_has_a_place_of_its_own() -> None:
    table = VitalsTable(1)
    for process, vitals in enumerate(table.processes.values()):
        for number, name in enumerate((*COUNTERS, *GAUGES)):
            vitals[name] = 1000 * process + number
    for process, vitals in enumerate(table.processes.values()):
        assert [vitals[name] for name in (*COUNTERS, *GAUGES)] == [
            1000 * process + number for number in range(len(COUNTERS) + len(GAUGES))
        ]
        assert all(vitals.histogram(stage).count == 0 for stage in STAGES)


@pytest.mark.parametrize(
    ("micros", "bucket"), [(0, 0), (0.9, 0), (1, 1), (2, 2), (3, 2), (4, 3), (1000, 10), (1e12, NUM_BUCKETS - 1)]
)
def test_a_duration_is_counted_in_the_bucket_below_whose_bound_it_is(micros: float, bucket: int) -> None:
    one, many = VitalsTable(0).device, VitalsTable(0).device
    one.observe("wait", micros / 1e6)
    many.observe_each("wait", np.full(20, micros / 1e6))
    assert one.histogram("wait").buckets[bucket] == 1
    assert many.histogram("wait").buckets[bucket] == 20
    assert one.histogram("wait").sum == pytest.approx(micros / 1e6)
    assert many.histogram("wait").sum == pytest.approx(20 * micros / 1e6)


def test_many_at_once_are_what_they_are_one_by_one() -> None:
    seconds = np.append(np.random.default_rng(0).exponential(0.001, 100), [0.0, 1e-8, 6e-7, 1e-6, 60.0])
    loop, once = VitalsTable(0).device, VitalsTable(0).device
    for value in seconds:
        loop.observe("reply", float(value))
    once.observe_each("reply", seconds)
    assert loop.histogram("reply").buckets == once.histogram("reply").buckets


@pytest.mark.parametrize(("rows", "bucket"), [(1, 0), (2, 1), (3, 2), (4, 2), (5, 3), (256, 8)])
def test_batches_are_counted_by_size(rows: int, bucket: int) -> None:
    vitals = VitalsTable(0).device
    vitals.observe_batch(rows)
    assert vitals.histogram("batch_sizes").buckets[bucket] == 1
    assert (vitals["batches"], vitals["batch_rows"]) == (1, rows)


def test_refusals_go_by_the_name_of_the_error() -> None:
    class OddMessage(InvalidMessageError):
        pass

    table = VitalsTable(2)
    table.frontends[0].refuse(FencedError(""))
    table.frontends[1].refuse(FencedError(""))
    table.frontends[1].refuse(OddMessage(""))
    assert table.refusals() == {"FencedError": 2, "InvalidMessageError": 1}


def _write(table: VitalsTable, number: int) -> None:
    for _ in range(1000):
        table.frontends[number].add("messages")
        table.frontends[number].observe("accept", 5e-6)


def test_spawned_processes_write_side_by_side() -> None:
    table = VitalsTable(2)
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=_write, args=(table, number)) for number in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [vitals["messages"] for vitals in table.frontends] == [1000, 1000]
    assert table.total("messages") == 2000
    assert table.histogram("accept").count == 2000
    assert table.histogram("accept").sum == pytest.approx(0.01)
