"""Cohorts: which episodes a run is judged by. Environments are simulated, and none of them learns anything."""

from __future__ import annotations

import heapq
import json
import random
from collections.abc import Callable

import pytest

from seedbed.server.run.cohorts import CohortRecord, Cohorts, Verdict

TRAP_TARGET = 0.75


def everyone(_: int) -> bool:
    return True


def play(cohorts: Cohorts, rng: random.Random, num_envs: int, until: Callable[[int], bool]) -> int:
    """The environment that public reports warn of: 1 after 3 steps or 0 after 300, each as often; 0.5 on average.

    Args:
        cohorts: hear of it.
        rng: draws the episodes.
        num_envs: E.
        until: of the time in steps, whether it is enough.

    Returns:
        The time at which it ended.
    """
    cohorts.joined(range(num_envs))

    def episode(start: int) -> tuple[int, float]:
        good = rng.random() < 0.5
        return start + (3 if good else 300), float(good)

    heap = [(*episode(0), index) for index in range(num_envs)]
    heapq.heapify(heap)
    while True:
        now, value, index = heapq.heappop(heap)
        if until(now):
            return now
        cohorts.ended(index, value)
        heapq.heappush(heap, (*episode(now), index))


def passes(record: CohortRecord) -> bool:
    return record.newest is not None and record.newest.score >= TRAP_TARGET


def test_nothing_passes_by_chance_that_a_window_lets_through() -> None:
    """40 runs of 20,000 steps of 32 environments, a target well above the mean; and 20 restarts of each of some."""
    stops, means = 0, []
    for seed in range(40):
        rng, cohorts = random.Random(seed), Cohorts(everyone)
        play(cohorts, rng, 32, lambda now, cohorts=cohorts: now > 20_000 or passes(cohorts.record))  # type: ignore[misc]
        stops += passes(cohorts.record)
        assert cohorts.record.judged > 5
        assert cohorts.record.newest is not None
        means.append(cohorts.record.newest.mean)
    assert stops == 0
    assert sum(means) / len(means) == pytest.approx(0.5, abs=0.03), "judged without bias"
    record = CohortRecord()
    for seed in range(20):
        cohorts = Cohorts(everyone, record)
        play(cohorts, random.Random(seed), 32, lambda now: now > 1_500)
        record = CohortRecord.from_json(json.loads(json.dumps(cohorts.record.to_json())))
        assert not passes(record)


def test_a_restart_voids_what_was_open() -> None:
    cohorts = Cohorts(everyone, size=4)
    cohorts.joined([0, 1])
    for value in (1.0, 2.0, 3.0):
        cohorts.ended(0, value)
    cohorts.ended(1, 5.0)
    assert cohorts.progress == (3, 4), "the third of one environment is one too many"
    again = Cohorts(everyone, cohorts.record, size=4)
    assert again.progress == (0, 4)
    again.joined([0, 1])
    for index in (0, 0, 1):
        again.ended(index, 7.0)
    assert again.record.judged == 0
    again.ended(1, 9.0)
    assert again.record.newest == Verdict(7.5, 7.0, 0.5, 4)


def test_an_episode_that_began_before_the_cohort_is_none_of_it() -> None:
    cohorts = Cohorts(everyone, size=2)
    cohorts.joined([0, 1])
    cohorts.ended(0, 1.0)
    cohorts.ended(1, 1.0)  # complete; environment 0 is in the midst of its second episode
    assert cohorts.record.newest == Verdict(1.0, 1.0, 0.0, 2)
    cohorts.ended(0, 100.0)
    assert cohorts.progress == (0, 2)
    cohorts.ended(1, 3.0)
    cohorts.ended(0, 5.0)
    assert cohorts.record.newest == Verdict(4.0, 4.0, 1.0, 2)
    assert cohorts.record.first == Verdict(1.0, 1.0, 0.0, 2)
    assert cohorts.record.best == cohorts.record.newest


def test_environments_that_do_not_count_are_not_waited_for() -> None:
    cohorts = Cohorts(lambda index: index >= 2, size=2)
    cohorts.joined([0, 1, 2])
    for index, value in ((0, 50.0), (1, 50.0), (2, 1.0), (0, 50.0), (2, 2.0)):
        cohorts.ended(index, value)
    assert cohorts.record.newest == Verdict(1.5, 1.5, 0.5, 2)


@pytest.mark.parametrize(("num_lost", "void"), [(5, 0), (6, 1)])
def test_lost_episodes_are_borne_up_to_a_share(num_lost: int, void: int) -> None:
    """Of 100, 5 at most; they are not replaced, since the long ones get lost."""
    cohorts = Cohorts(everyone)
    cohorts.joined(range(50))
    for index in range(50):
        if index < num_lost:
            cohorts.lost(index)
        else:
            cohorts.ended(index, 1.0)
    for index in range(50):
        cohorts.ended(index, 1.0)
    assert (cohorts.record.void, cohorts.record.judged) == (void, 1 - void)
    if not void:
        assert cohorts.record.newest is not None
        assert cohorts.record.newest.episodes == 100 - num_lost


def test_a_client_that_leaves_takes_its_episodes_along() -> None:
    cohorts = Cohorts(everyone)
    cohorts.joined(range(10))
    cohorts.left(range(5))
    assert cohorts.record.void == 0, "5 of 100"
    cohorts.left([5])
    assert cohorts.record.void == 1
    assert cohorts.progress == (0, 100), "four environments are left, 25 episodes of each"
    for _ in range(26):
        for index in range(6, 10):
            cohorts.ended(index, 2.0)
    assert cohorts.record.newest == Verdict(2.0, 2.0, 0.0, 100)


def test_a_fleet_that_grows_shares_the_work_until_somebody_has_done_its_share() -> None:
    cohorts = Cohorts(everyone, size=12)
    cohorts.joined([0])
    for _ in range(3):
        cohorts.ended(0, 1.0)
    cohorts.joined([1, 2])
    assert cohorts.progress == (3, 12)
    cohorts.ended(0, 1.0)  # the fourth of four
    cohorts.joined([3])
    cohorts.ended(3, 50.0)  # too late for this one
    for _ in range(4):
        cohorts.ended(1, 2.0)
        cohorts.ended(2, 3.0)
    assert cohorts.record.newest == Verdict(2.0, 2.0, cohorts.record.newest.standard_error, 12)  # type: ignore[union-attr]
    assert cohorts.progress == (0, 12)
    for _ in range(4):
        for index in range(4):
            cohorts.ended(index, 8.0)
    assert cohorts.record.best is not None
    assert cohorts.record.best.mean == 8.0


def test_what_somebody_has_done_beyond_its_share_is_left_out() -> None:
    cohorts = Cohorts(everyone, size=4)
    cohorts.joined([0])
    for value in (1.0, 1.0, 99.0):
        cohorts.ended(0, value)
    cohorts.joined([1])
    assert cohorts.progress == (2, 4)
    cohorts.ended(1, 2.0)
    cohorts.ended(1, 2.0)
    assert cohorts.record.newest is not None
    assert (cohorts.record.newest.mean, cohorts.record.newest.episodes) == (1.5, 4)


def test_nothing_is_judged_while_nobody_is_there() -> None:
    cohorts = Cohorts(everyone, size=20)
    cohorts.joined([0])
    for _ in range(19):
        cohorts.ended(0, 1.0)
    cohorts.left([0])
    assert (cohorts.record.judged, cohorts.record.void) == (0, 0)
    cohorts.joined([0])
    assert (cohorts.record.judged, cohorts.record.void) == (1, 0), "twenty, one of them lost"


def test_leaving_at_a_stop_means_nothing() -> None:
    cohorts = Cohorts(everyone)
    cohorts.joined(range(32))
    cohorts.stop()
    cohorts.left(range(32))
    assert cohorts.record == CohortRecord()


def test_a_mean_alone_passes_nothing() -> None:
    assert Verdict(mean=1e6, median=1.0, standard_error=0.0, episodes=100).score == 1.0
