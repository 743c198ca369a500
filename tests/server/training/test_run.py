"""A run of parts that do nothing: who hears of its end."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import pytest
import torch

from seedbed.common.errors import DivergedError
from seedbed.common.specs import EnvironmentSpec, discrete
from seedbed.server.monitoring.interval_log import IntervalLog
from seedbed.server.monitoring.learning_signs import LearningSigns
from seedbed.server.monitoring.metrics import MetricsWriter
from seedbed.server.options.config import ServerConfig
from seedbed.server.run.state import RunState
from seedbed.server.trackers.interface import TrackedRun
from seedbed.server.trackers.tracking import Tracking
from seedbed.server.training.run import TrainingRun
from seedbed.server.training.stop_signal import StopSignal

SPEC = EnvironmentSpec(environment="x", observations=(discrete("o", 2),), actions=(discrete("a", 3),))


class Tape:
    """A tracker that keeps how the run ended."""

    def __init__(self) -> None:
        self.ends: list[Any] = []

    def start(self, run: TrackedRun) -> None:
        pass

    def log(self, metrics: Any, step: int) -> None:
        pass

    def finish(self, summary: Any) -> None:
        self.ends.append(summary)


@pytest.mark.parametrize("answers", [True, False])
def test_a_device_that_is_lost_by_another_error_is_asked_nothing_more(
    answers: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Libraries on the device fail with plain RuntimeErrors; what comes after them is from a dead device or is not."""

    class Ended(BaseException):
        pass

    def synchronize(device: torch.device) -> None:
        if not answers:
            raise RuntimeError("CUDA error: an illegal memory access was encountered")

    def end_process() -> None:
        raise Ended

    monkeypatch.setattr(torch.cuda, "synchronize", synchronize)
    monkeypatch.setattr("seedbed.server.training.run.end_process", end_process)
    names = ("clients", "watch", "interval_log", "episode_log", "saver", "replay_files")
    others = {name: MagicMock() for name in names}
    clock, learner, server, parts = (MagicMock() for _ in range(4))
    clock.now.return_value = RunState(agent_steps=100, updates=7)
    clock.cohorts.record.judged, clock.is_stopped_elsewhere = 0, False
    parts.device = torch.device("cuda")
    server.check.side_effect = RuntimeError("cuBLAS error: CUBLAS_STATUS_EXECUTION_FAILED")
    subject = TrainingRun(ServerConfig(), parts, clock, server, learner, stop=StopSignal(), **others)
    with pytest.raises(RuntimeError if answers else Ended):
        subject.run()
    assert others["saver"].save.called == answers


def test_an_error_at_the_end_keeps_nothing_else_from_ending(caplog: pytest.LogCaptureFixture) -> None:
    """And the one that ended the run stays the one that is told."""
    names = ("clients", "watch", "interval_log", "episode_log", "saver", "replay_files", "recording")
    others = {name: MagicMock() for name in names}
    clock, learner, server, parts = (MagicMock() for _ in range(4))
    clock.now.return_value = RunState(agent_steps=100, updates=7)
    clock.cohorts.record.judged, clock.is_stopped_elsewhere = 0, False
    parts.device = torch.device("cpu")
    server.check.side_effect = RuntimeError("why it ended")
    for one in (others["clients"].stop, learner.join, others["saver"].save):
        one.side_effect = RuntimeError("and more")
    subject = TrainingRun(ServerConfig(), parts, clock, server, learner, stop=StopSignal(), **others)
    with pytest.raises(RuntimeError, match="why it ended"):
        subject.run()
    for called in (server.stop, parts.sink.finish, others["recording"].finish, others["watch"].stop):
        assert called.called
    assert "not all of the run has ended in order" in caplog.text
    assert "what was learnt last is not saved" in caplog.text


def test_trackers_hear_that_an_error_has_ended_the_run(tmp_path: Path) -> None:
    config, tape = ServerConfig(), Tape()
    run = TrackedRun(name="x", directory=tmp_path, config={}, environment="x", version="0")
    tracking = Tracking({"tape": lambda: tape}, run)
    tracking.log({"train/loss": 1.0}, {}, 100)
    signs = LearningSigns(config.run, SPEC)
    log = IntervalLog(config, SPEC, MetricsWriter(tmp_path, resume_step=0), tracking, MagicMock(), signs, None)
    clock, learner = MagicMock(), MagicMock()
    clock.now.return_value = RunState(agent_steps=100, updates=7)
    learner.check.side_effect = DivergedError("a policy with the secret of /home/me")
    others = {name: MagicMock() for name in ("clients", "watch", "episode_log", "saver", "replay_files")}
    stop = StopSignal()
    subject = TrainingRun(config, MagicMock(), clock, MagicMock(), learner, interval_log=log, stop=stop, **others)
    with pytest.raises(DivergedError):
        subject.run()
    assert tape.ends == [{"ended": "failed: DivergedError", "failed": True, "agent_steps": 100, "updates": 7}]
