"""Live and ready are judged from the vitals: what is stuck is named, what has nothing to do is not."""

from __future__ import annotations

import pytest

from seedbed.server.shared.health import Health, examine
from seedbed.server.shared.vitals import Phase, VitalsTable

NOW_S = 1000.0
LIMIT_S = 60.0


def server(phase: Phase = Phase.SERVING, **ages_s: float) -> VitalsTable:
    """Everybody has just turned, but for those whose age is given; the learner waits for its first batch."""
    table = VitalsTable(2)
    table.device["phase"] = phase
    for name in ("turn_s", "tick_s"):
        table.device[name] = NOW_S - 0.1
    for frontend in table.frontends:
        frontend["tick_s"] = NOW_S - 0.1
    for name, age_s in ages_s.items():
        table.device[name] = NOW_S - age_s
    return table


def judge(table: VitalsTable) -> Health:
    return examine(table, LIMIT_S, NOW_S)


def test_a_server_without_clients_is_well() -> None:
    health = judge(server())
    assert health.live
    assert health.ready


def test_a_learner_with_nothing_to_do_is_not_stuck() -> None:
    assert judge(server(update_s=10 * LIMIT_S)).ready


def test_a_learner_that_has_its_batch_for_too_long() -> None:
    assert judge(server(taken_s=LIMIT_S - 1)).ready
    health = judge(server(taken_s=LIMIT_S + 1))
    assert not health.live
    assert not health.ready
    assert "the learner has finished no update for 61 s" in health.stuck


@pytest.mark.parametrize(("name", "words"), [("turn_s", "inference thread"), ("tick_s", "main thread")])
def test_a_thread_that_has_not_turned(name: str, words: str) -> None:
    assert judge(server(Phase.SERVING, **{name: LIMIT_S - 1})).live
    health = judge(server(Phase.SERVING, **{name: LIMIT_S + 1}))
    assert words in health.stuck[0]
    assert not health.ready


@pytest.mark.parametrize("phase", [Phase.DRAINING, Phase.FAILED])
def test_inference_that_does_not_end_when_it_is_asked_to(phase: Phase) -> None:
    """Its main thread waits for it, for ever and without a word, were it not for the watchdog."""
    assert not judge(server(phase, joined_s=LIMIT_S - 1)).stuck
    assert "has been asked to end and has not for 61 s" in judge(server(phase, joined_s=LIMIT_S + 1)).stuck[0]


def test_inference_that_waits_for_a_learner_that_learns_is_well() -> None:
    table = server(turn_s=5 * LIMIT_S, update_s=1.0)
    assert not judge(table).live, "without a reason to wait it is stuck"
    table.device["hands_over"] = 1
    assert judge(table).ready


def test_inference_that_waits_for_a_learner_that_takes_nothing_is_stuck() -> None:
    table = server(turn_s=5 * LIMIT_S, update_s=2 * LIMIT_S)
    table.device["hands_over"] = 1
    assert "for 120 s" in judge(table).stuck[0]


@pytest.mark.parametrize("phase", [Phase.STARTING, Phase.DRAINING])
def test_before_and_after_it_is_live_and_not_ready(phase: Phase) -> None:
    """Threads that have not begun, or have ended, are not stuck."""
    health = judge(server(phase, turn_s=NOW_S, tick_s=NOW_S))
    assert health.live
    assert health.not_ready == (phase.name.lower(),)


def test_a_learner_that_is_stuck_while_it_drains() -> None:
    assert not judge(server(Phase.DRAINING, taken_s=2 * LIMIT_S)).live


def test_what_has_failed_is_not_live_and_not_stuck() -> None:
    health = judge(server(Phase.FAILED))
    assert not health.live
    assert not health.ready
    assert not health.stuck, "its end is on the way: the watchdog need not hurry it"


def test_a_silent_frontend_is_named() -> None:
    table = server()
    table.frontends[1]["tick_s"] = NOW_S - 6.0
    health = judge(table)
    assert health.live, "it is replaced, and clients come back through others"
    assert health.not_ready == ("frontend 1 does not answer",)
