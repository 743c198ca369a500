"""Rounds, decided: who acts, who waits, when it is over."""

from __future__ import annotations

from seedbed.server.inference.rounds import Rounds

LIVE = set(range(20))


def begun(*leases: int, now_s: float = 0.0) -> Rounds:
    rounds = Rounds(patience_s=5.0)
    for lease in leases:
        assert not rounds.ask(lease, now_s), "nobody acts before the first round begins"
    assert rounds.begin(LIVE, now_s) == list(leases)
    return rounds


def test_a_first_request_begins_a_round() -> None:
    rounds = Rounds(patience_s=5.0)
    assert not rounds.is_over(LIVE, 0.0), "with nobody there, there is nothing to begin"
    rounds.ask(3, 0.0)
    assert rounds.is_over(LIVE, 0.0)


def test_the_first_round_waits_for_all_or_until_nobody_new_comes() -> None:
    rounds = Rounds(patience_s=5.0, settle_s=2.0)
    rounds.ask(0, 10.0)
    assert not rounds.is_over(LIVE, 11.9, all_here=False)
    rounds.ask(0, 11.9)
    rounds.ask(4, 11.9)
    assert not rounds.is_over(LIVE, 13.8, all_here=False), "the newcomer begins the wait anew"
    assert rounds.is_over(LIVE, 13.8, all_here=True)
    assert rounds.is_over(LIVE, 13.9, all_here=False)
    rounds.begin(LIVE, 13.9)
    rounds.wait(0)
    rounds.wait(4)
    assert rounds.is_over(LIVE, 13.9, all_here=False), "later rounds wait for nobody"


def test_members_act_newcomers_wait() -> None:
    rounds = begun(0, 4)
    assert rounds.ask(0, 1.0)
    assert not rounds.ask(8, 1.0)
    assert rounds.is_waiting(8)
    assert rounds.members == {0, 4}


def test_a_round_is_over_when_every_members_unroll_is_complete() -> None:
    rounds = begun(0, 4)
    rounds.wait(0)
    assert not rounds.is_over(LIVE, 1.0)
    rounds.wait(4)
    assert rounds.is_over(LIVE, 1.0)
    rounds.ask(8, 1.0)
    assert rounds.begin(LIVE, 1.0) == [0, 4, 8]


def test_nobody_waits_for_a_member_without_a_stream() -> None:
    rounds = begun(0, 4)
    rounds.wait(0)
    assert rounds.is_over(LIVE - {4}, 1.0)
    rounds.forget(4)
    assert rounds.begin(LIVE, 1.0) == [0]


def test_a_round_without_a_live_member_is_over_too() -> None:
    assert begun(0).is_over(set(), 0.0)


def test_who_waits_and_has_no_stream_waits_on() -> None:
    rounds = begun(0, 4)
    rounds.wait(0)
    rounds.wait(4)
    assert rounds.begin({4}, 1.0) == [4]
    assert rounds.is_waiting(0)
    rounds.wait(4)
    assert rounds.begin(LIVE, 2.0) == [0, 4]


def test_nothing_begins_while_all_that_wait_are_gone() -> None:
    rounds = begun(0)
    rounds.wait(0)
    assert not rounds.is_over(set(), 1.0)


def test_patience_counts_from_the_last_request_of_any_member() -> None:
    rounds = begun(0, 4)
    rounds.ask(0, 3.0)
    rounds.ask(8, 4.0)  # a newcomer's does not count
    assert not rounds.is_over(LIVE, 7.9)
    assert rounds.is_over(LIVE, 8.0)


def test_a_lease_that_ended_is_nowhere() -> None:
    rounds = begun(0, 4)
    rounds.wait(0)
    rounds.forget(0)
    rounds.forget(4)
    rounds.forget(99)
    assert not rounds.is_over(LIVE, 1.0)
    assert not rounds.is_waiting(0)
