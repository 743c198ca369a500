"""When a batch closes, under a fake clock."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seedbed.server.inference.batching import Batcher

MAX_WAIT_S = 5.0


def batcher(max_rows: int = 8, *, wait_when_idle: bool = True) -> Batcher:
    return Batcher(max_rows=max_rows, max_wait_s=MAX_WAIT_S, wait_when_idle=wait_when_idle)


def is_ready(subject: Batcher, now_s: float = 0.0, live_rows: int = 100, device_idle: bool = False) -> bool:
    return subject.is_ready(now_s, live_rows=live_rows, device_idle=device_idle)


def test_an_empty_batch_never_closes() -> None:
    subject = batcher(wait_when_idle=False)
    assert not is_ready(subject, now_s=1e9, live_rows=0, device_idle=True)
    assert subject.deadline_s() is None
    assert subject.take() == []


def test_nobody_is_answered_while_the_fleet_still_grows() -> None:
    """Neither full batches nor late ones, and nobody is woken up for nothing."""
    subject = Batcher(max_rows=2, max_wait_s=MAX_WAIT_S, settle_s=10.0)
    subject.add(0, 2, 0.0)
    assert not is_ready(subject, 100.0, live_rows=2, device_idle=True)
    assert not is_ready(subject, 109.0, live_rows=3, device_idle=True)
    assert not is_ready(subject, 118.9, live_rows=2, device_idle=True)
    assert subject.deadline_s() == 119.0
    assert is_ready(subject, 119.0, live_rows=2, device_idle=True)
    subject.take()
    subject.add(0, 2, 120.0)
    assert is_ready(subject, 120.0, live_rows=50, device_idle=True), "later ones hold nobody up"
    assert subject.deadline_s() == 120.0 + MAX_WAIT_S


def test_closes_when_full() -> None:
    subject = batcher(max_rows=8)
    subject.add(0, 7, 0.0)
    assert not is_ready(subject)
    subject.add(7, 1, 0.0)
    assert is_ready(subject)


def test_closes_when_every_live_row_is_in() -> None:
    subject = batcher(max_rows=8)
    subject.add(0, 3, 0.0)
    assert not is_ready(subject, live_rows=4)
    assert is_ready(subject, live_rows=3)


def test_closes_when_the_oldest_has_waited_long_enough() -> None:
    subject = batcher()
    subject.add(0, 1, 10.0)
    subject.add(1, 1, 14.0)
    assert subject.deadline_s() == 15.0
    assert not is_ready(subject, now_s=14.999)
    assert is_ready(subject, now_s=15.0)
    subject.discard(0)
    assert subject.deadline_s() == 19.0
    assert not is_ready(subject, now_s=15.0)


def test_closes_at_once_when_the_device_is_idle_unless_told_to_wait() -> None:
    eager, patient = batcher(wait_when_idle=False), batcher(wait_when_idle=True)
    for subject in (eager, patient):
        subject.add(0, 1, 0.0)
    assert is_ready(eager, device_idle=True)
    assert not is_ready(eager, device_idle=False)
    assert not is_ready(patient, device_idle=True)


def test_takes_the_oldest_first_and_leaves_what_does_not_fit() -> None:
    subject = batcher(max_rows=8)
    for lease, rows in ((30, 4), (10, 3), (20, 2), (40, 1)):
        subject.add(lease, rows, 0.0)
    assert subject.take() == [30, 10]
    assert (len(subject), subject.num_rows) == (2, 3)
    assert subject.take() == [20, 40]
    assert (len(subject), subject.num_rows) == (0, 0)


def test_a_lease_larger_than_a_batch_goes_alone() -> None:
    subject = batcher(max_rows=8)
    for lease, rows in ((0, 2), (2, 9), (11, 2)):
        subject.add(lease, rows, 0.0)
    assert [subject.take() for _ in range(3)] == [[0], [2], [11]]


def test_discard_forgets_a_request_and_tolerates_none() -> None:
    subject = batcher()
    subject.add(0, 3, 0.0)
    subject.add(3, 2, 0.0)
    subject.discard(0)
    subject.discard(0)
    assert 0 not in subject
    assert 3 in subject
    assert (subject.num_rows, subject.take()) == (2, [3])


def test_one_lease_cannot_wait_twice() -> None:
    subject = batcher()
    subject.add(0, 1, 0.0)
    with pytest.raises(AssertionError, match="one Steps in flight"):
        subject.add(0, 1, 0.0)


@pytest.mark.parametrize(("max_rows", "max_wait_s"), [(0, 1.0), (1, -1.0)])
def test_refuses_impossible_limits(max_rows: int, max_wait_s: float) -> None:
    with pytest.raises(ValueError, match=rf"got {max_rows} and {max_wait_s}"):
        Batcher(max_rows=max_rows, max_wait_s=max_wait_s)


@given(
    num_rows=st.lists(st.integers(1, 12), min_size=1, max_size=10),
    arrivals=st.lists(st.tuples(st.integers(0, 9), st.floats(0.0, 3.0)), max_size=40),
    max_rows=st.integers(1, 16),
    wait_when_idle=st.booleans(),
)
def test_nothing_waits_longer_than_max_wait(
    num_rows: list[int], arrivals: list[tuple[int, float]], max_rows: int, wait_when_idle: bool
) -> None:
    """Any client may be silent for ever: leases that never arrive count as live rows throughout."""
    subject = Batcher(max_rows=max_rows, max_wait_s=MAX_WAIT_S, wait_when_idle=wait_when_idle)
    live_rows = sum(num_rows) + 1  # at least one row never comes
    added_s: dict[int, float] = {}

    def serve(now_s: float) -> None:
        """What the service does when it wakes: batches as long as one is ready."""
        while subject.is_ready(now_s, live_rows=live_rows, device_idle=True):
            taken = subject.take()
            assert taken == sorted(taken, key=lambda lease: added_s[lease])
            assert sum(num_rows[lease] for lease in taken) <= max_rows or len(taken) == 1
            for lease in taken:
                assert now_s <= added_s.pop(lease) + MAX_WAIT_S

    now_s = 0.0
    for lease, pause_s in arrivals:
        until_s = now_s + pause_s
        while (deadline_s := subject.deadline_s()) is not None and deadline_s <= until_s:
            serve(deadline_s)  # a turn that did not take what is due would spin here until the timeout
            assert subject.deadline_s() != deadline_s or not any(s + MAX_WAIT_S == deadline_s for s in added_s.values())
        now_s = until_s
        if lease < len(num_rows) and lease not in subject:
            added_s[lease] = now_s
            subject.add(lease, num_rows[lease], now_s)
        serve(now_s)
    while (deadline_s := subject.deadline_s()) is not None:
        before = len(subject)
        serve(deadline_s)
        assert len(subject) < before
    assert not added_s
    assert subject.num_rows == 0
