"""What a start says of the run that it goes on with."""

from __future__ import annotations

import logging
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from seedbed.server.run.state import RunState
from seedbed.server.verbs import train


@pytest.mark.parametrize(("steps", "warnings"), [(0, 1), (5, 0)])
def test_a_run_whose_checkpoints_are_gone_says_so(
    steps: int, warnings: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(train, "remarks", lambda *_: [])
    monkeypatch.setattr(train, "config_of", lambda _: None)
    monkeypatch.setattr(train, "omitted_in", lambda _: ())
    directory = SimpleNamespace(path=tmp_path, checkpoints=tmp_path / "checkpoints")
    opened: Any = SimpleNamespace(directory=directory, before=SimpleNamespace(version="0"), config=None)
    replica: Any = SimpleNamespace(is_first=True)
    with caplog.at_level(logging.INFO):
        train._say_how(opened, RunState(agent_steps=steps), replica)
    said = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert said == [f"no checkpoint of the run is in {tmp_path}/checkpoints: it begins anew"] * warnings
    assert f"resuming {tmp_path} at {steps} agent steps" in caplog.text
