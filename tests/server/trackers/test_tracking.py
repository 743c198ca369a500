"""Trackers that raise, hang and are slow: each costs itself and a warning, and the others hear all."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from seedbed.common.errors import MissingExtraError, UsageError
from seedbed.common.plugins import Trust
from seedbed.server.trackers import registry
from seedbed.server.trackers.interface import TrackedRun
from seedbed.server.trackers.registry import find_trackers, names_in
from seedbed.server.trackers.tracking import Tracking

RUN = TrackedRun(name="pong", directory=Path(), config={}, environment="X-v0", version="0")


class Tape:
    """Writes down what it is told, and raises, waits or hangs where it is told to."""

    def __init__(self, **faults: Callable[[], Any]) -> None:
        self.heard: list[Any] = []
        self.threads: set[threading.Thread] = set()
        self._faults = faults

    def start(self, run: TrackedRun) -> None:
        self._note("start", run.name)

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        self._note("log", step)

    def finish(self, summary: Mapping[str, Any]) -> None:
        self._note("finish", summary["ended"])

    def _note(self, what: str, value: Any) -> None:
        self.threads.add(threading.current_thread())
        if what in self._faults:
            self._faults[what]()
        self.heard.append((what, value))


@pytest.fixture
def hangs() -> Iterator[Callable[[], None]]:
    """Waits until the test is over."""
    over = threading.Event()

    def wait() -> None:
        over.wait(60)

    yield wait
    over.set()


def raises() -> None:
    raise ConnectionError("no\nnetwork")


def run(steps: int, finish_s: float = 5.0, slow_s: float = 60.0, pause_s: float = 0.0, **tapes: Tape) -> float:
    """Logs so many intervals and closes; how long that took."""
    begun_s = time.monotonic()
    makers = {name: lambda tape=tape: tape for name, tape in tapes.items()}
    left: list[bool] = []
    tracking = Tracking(makers, RUN, finish_s=finish_s, slow_s=slow_s, on_hang=lambda: left.append(True))
    for step in range(steps):
        tracking.log({"train/loss": 1.0}, {}, step)
        time.sleep(pause_s)
    tracking.close({"ended": "the step limit"})
    assert bool(left) == (finish_s < 1), "told where one is left behind, and only there"
    return time.monotonic() - begun_s


def test_each_hears_all_in_a_thread_of_its_own() -> None:
    first, second = Tape(), Tape()
    run(3, first=first, second=second)
    assert first.heard == second.heard
    assert first.heard == [("start", "pong"), ("log", 0), ("log", 1), ("log", 2), ("finish", "the step limit")]
    assert len(first.threads | second.threads) == 2
    assert threading.current_thread() not in first.threads


@pytest.mark.parametrize("where", ["start", "log", "finish"])
def test_one_that_hangs_costs_a_warning_and_the_run_ends_in_time(
    where: str, hangs: Callable[[], None], caplog: pytest.LogCaptureFixture
) -> None:
    good = Tape()
    took_s = run(200, finish_s=0.5, pause_s=0.001, hanging=Tape(**{where: hangs}), good=good)
    assert took_s < 5
    assert [value for what, value in good.heard if what == "log"] == list(range(200))
    assert good.heard[-1] == ("finish", "the step limit")
    said = [record.getMessage() for record in caplog.records]
    assert sum("was not ready within 0.5 s" in text for text in said) == 1
    assert len(said) == (1 if where == "finish" else 2), "and one that lines are lost"
    assert all("hanging" in text for text in said)


def test_one_that_is_slow_with_a_line_is_said_once(hangs: Callable[[], None], caplog: pytest.LogCaptureFixture) -> None:
    run(5, finish_s=0.1, slow_s=0.05, pause_s=0.05, lame=Tape(log=hangs))
    assert sum("slow or hangs" in record.getMessage() for record in caplog.records) == 1


@pytest.mark.parametrize("where", ["start", "log"])
def test_one_that_raises_is_off_after_three_errors(where: str, caplog: pytest.LogCaptureFixture) -> None:
    good, bad = Tape(), Tape(**{where: raises})
    run(10, pause_s=0.01, good=good, bad=bad)
    assert len([entry for entry in good.heard if entry[0] == "log"]) == 10
    said = [record.getMessage() for record in caplog.records]
    assert said == [
        "tracker bad: ConnectionError: no network",
        "tracker bad: ConnectionError: no network",
        "tracker bad is off after 3 errors, the run goes on: ConnectionError: no network",
    ]
    assert ("finish", "the step limit") not in bad.heard


def test_errors_between_which_it_works_do_not_turn_it_off(caplog: pytest.LogCaptureFixture) -> None:
    turns = iter(range(100))

    def sometimes() -> None:
        if next(turns) % 3:
            raises()

    tape = Tape(log=sometimes)
    run(12, flaky=tape)
    assert [value for what, value in tape.heard if what == "log"] == [0, 3, 6, 9]
    assert tape.heard[-1] == ("finish", "the step limit")
    assert not [record for record in caplog.records if "is off" in record.getMessage()]


def test_nothing_is_started_for_a_run_that_logs_nothing() -> None:
    tape = Tape()
    run(0, tape=tape)
    assert tape.heard == []


class TestNames:
    def test_several_with_commas(self) -> None:
        assert names_in("tensorboard, wandb,,tensorboard") == ("tensorboard", "wandb")
        assert names_in(None) == names_in("") == ()
        assert list(find_trackers("tensorboard")) == ["tensorboard"]

    def test_others_are_told_what_there_is(self) -> None:
        with pytest.raises(UsageError, match=r"--track.*tensorboard, wandb, trackio, mlflow.*'wandbb'.*mean wandb"):
            find_trackers("wandbb")

    def test_a_missing_package_is_told_with_how_to_get_it(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(registry, "find_spec", lambda name: None)
        with pytest.raises(MissingExtraError, match=r'the extra "wandb" .*\[wandb\].*: --track wandb needs it'):
            find_trackers("wandb")

    def test_a_module_is_imported_only_if_it_was_typed(self, tmp_path: Path) -> None:
        (tmp_path / "tempting_tracker.py").write_text(
            "class Mine:\n    def start(self, run): ...\n    def log(self, metrics, step): ...\n"
            "    def finish(self, summary): ...\nclass Half:\n    def start(self, run): ...\n"
        )
        name = "tempting_tracker:Mine"
        with pytest.raises(UsageError, match="would import a module that a file names"):
            find_trackers(name, Trust(start_directory=tmp_path))
        trust = Trust(typed=frozenset({name, "tempting_tracker:Half"}), start_directory=tmp_path)
        assert find_trackers(f"tensorboard,{name}", trust)[name].__name__ == "Mine"
        with pytest.raises(UsageError, match="expected a class with start, log, finish"):
            find_trackers("tempting_tracker:Half", trust)
