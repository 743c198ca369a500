"""Nothing is saved that is worth less than what is there; what cannot be saved costs nothing else."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest
import torch

from seedbed.common.errors import DivergedError
from seedbed.server.run.checkpoint import Checkpoint, CheckpointStore, load_newest
from seedbed.server.run.saving import Saver
from seedbed.server.run.state import RunState
from seedbed.server.shared.vitals import Vitals, VitalsTable


@pytest.fixture
def vitals() -> Vitals:
    return VitalsTable(0).device


def state(weight: float, agent_steps: int) -> RunState:
    learner = {"learnt": {"weight": torch.tensor([1.0, weight])}, "optimisers": {"all": {"step": torch.tensor(3)}}}
    return RunState(agent_steps=agent_steps, learner=learner)


def newest_steps(directory: Path) -> int:
    checkpoint = load_newest(directory)
    assert checkpoint is not None
    return checkpoint.agent_steps


def test_what_is_saved_is_counted(tmp_path: Path, vitals: Vitals) -> None:
    Saver(CheckpointStore(tmp_path), vitals).save(state(2.0, 10))
    assert newest_steps(tmp_path) == 10
    assert (vitals["checkpoints"], vitals["checkpoint_failures"]) == (1, 0)
    assert vitals["saved_s"] > 0


@pytest.mark.parametrize("weight", [float("nan"), float("inf")])
def test_numbers_that_are_not_finite_never_replace_finite_ones(weight: float, tmp_path: Path, vitals: Vitals) -> None:
    saver = Saver(CheckpointStore(tmp_path), vitals)
    saver.save(state(2.0, 10))
    with pytest.raises(DivergedError, match=r"learner\.learnt\.weight"):
        saver.save(state(weight, 20))
    assert newest_steps(tmp_path) == 10


def test_a_full_disk_is_counted_and_survived(
    tmp_path: Path, vitals: Vitals, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(*_: Checkpoint) -> Path:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(CheckpointStore, "save", full)
    Saver(CheckpointStore(tmp_path), vitals).save(state(2.0, 10))
    assert (vitals["checkpoints"], vitals["checkpoint_failures"], vitals["saved_s"]) == (0, 1, 0)
    assert "No space left" in caplog.text
