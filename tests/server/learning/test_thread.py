"""The learner's thread: what ends it is told, and nothing of it is called sound then."""

from __future__ import annotations

import threading
from types import SimpleNamespace
from typing import Any

import pytest

from seedbed.common.errors import DivergedError
from seedbed.server.learning.thread import LearnerThread


def make(run: Any, lost_streak: int = 0) -> tuple[LearnerThread, list[str]]:
    failures: list[str] = []
    loop: Any = SimpleNamespace(run=run, lost_streak=lost_streak)
    return LearnerThread(loop, 10, lambda: failures.append("failed")), failures


def test_an_end_in_order() -> None:
    ran = threading.Event()
    thread, failures = make(ran.set)
    thread.start()
    thread.join()
    thread.check()
    assert ran.is_set()
    assert thread.sound
    assert failures == []


def test_a_failure_is_told_at_once_and_raised_to_who_asks(caplog: pytest.LogCaptureFixture) -> None:
    def fail() -> None:
        raise ValueError("the learner is broken")

    thread, failures = make(fail)
    thread.start()
    thread.join()
    assert failures == ["failed"]
    assert not thread.sound
    with pytest.raises(ValueError, match="broken"):
        thread.check()
    assert "learning failed" in caplog.text


def test_learning_that_has_diverged() -> None:
    make(lambda: None, lost_streak=9)[0].check()
    thread, _ = make(lambda: None, lost_streak=10)
    assert not thread.sound
    with pytest.raises(DivergedError, match="the latest 10 updates"):
        thread.check()


def test_joining_what_was_never_started() -> None:
    make(lambda: None)[0].join()
