"""Nothing is saved that is worth less than what is there; what cannot be saved costs nothing else."""

from __future__ import annotations

import errno
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from seedbed.common.errors import DivergedError
from seedbed.server.run.checkpoint import Checkpoint, CheckpointStore, find_best, load_newest
from seedbed.server.run.cohorts import Verdict
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


def make_saver(directory: Path, vitals: Vitals, keep: int = 3) -> Saver:
    return Saver(directory, keep, RunState(), vitals)


def test_what_is_saved_is_counted(tmp_path: Path, vitals: Vitals) -> None:
    make_saver(tmp_path, vitals).save(state(2.0, 10))
    assert newest_steps(tmp_path) == 10
    assert (vitals["checkpoints"], vitals["checkpoint_failures"]) == (1, 0)
    assert vitals["saved_s"] > 0


@pytest.mark.parametrize("weight", [float("nan"), float("inf")])
def test_numbers_that_are_not_finite_never_replace_finite_ones(weight: float, tmp_path: Path, vitals: Vitals) -> None:
    saver = make_saver(tmp_path, vitals)
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
    saver = make_saver(tmp_path, vitals)
    assert not saver.save(state(2.0, 10))
    assert (vitals["checkpoints"], vitals["checkpoint_failures"], vitals["saved_s"]) == (0, 1, 0)
    assert "No space left" in caplog.text
    monkeypatch.undo()
    assert saver.save(state(2.0, 10)), "tried again, with room"
    assert saver.save(state(2.0, 10)), "nothing is unsaved where nothing has changed"
    assert newest_steps(tmp_path) == 10


def test_a_folder_that_was_removed_is_made_again(tmp_path: Path, vitals: Vitals) -> None:
    saver = make_saver(tmp_path / "checkpoints", vitals)
    saver.save(state(2.0, 10))
    shutil.rmtree(tmp_path / "checkpoints")
    assert saver.save(state(2.0, 20))
    assert newest_steps(tmp_path / "checkpoints") == 20


def saved(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.glob("checkpoint-*"))


def test_nothing_is_written_where_nothing_has_changed(tmp_path: Path, vitals: Vitals) -> None:
    """An idle server must not replace all checkpoints by copies of one state."""
    saver = make_saver(tmp_path, vitals)
    saver.save(state(2.0, 0))
    assert saved(tmp_path) == []
    for _ in range(3):
        saver.save(state(2.0, 10))
    assert len(saved(tmp_path)) == 1
    again = Saver(tmp_path, 3, state(2.0, 10), vitals)
    again.save(state(2.0, 10))
    assert len(saved(tmp_path)) == 1
    again.save(replace(state(2.0, 10), finished="reached 60 s"))
    assert len(saved(tmp_path)) == 2


def test_the_best_stays_beside_the_newest(tmp_path: Path, vitals: Vitals) -> None:
    saver = make_saver(tmp_path, vitals, keep=2)
    good, better, worse = (Verdict(mean, mean, 0.0, 100) for mean in (5.0, 7.0, 6.0))
    saver.save(state(2.0, 10), good)
    for steps in (20, 30, 40):
        saver.save(state(2.0, steps))
    best, mean = find_best(tmp_path) or (None, None)
    assert (best, mean) == (tmp_path / "checkpoint-000000000010", 5.0)
    assert saved(tmp_path) == [f"checkpoint-0000000000{steps}" for steps in (10, 30, 40)]
    assert saver.is_better(better)
    saver.save(state(2.0, 50), better)
    saver.save(state(2.0, 60), worse)
    assert not Saver(tmp_path, 2, state(2.0, 60), vitals).is_better(worse), "it knows after a restart"
    assert find_best(tmp_path) == (tmp_path / "checkpoint-000000000050", 7.0)
    for steps in (70, 80):
        saver.save(state(2.0, steps))
    assert saved(tmp_path) == [f"checkpoint-0000000000{steps}" for steps in (50, 70, 80)]
    assert newest_steps(tmp_path) == 80


@pytest.mark.parametrize("text", ["", "{}", '{"checkpoint": "../../etc", "mean_return": 1}', "[" * 100_000])
def test_a_damaged_note_of_the_best_is_none(text: str, tmp_path: Path) -> None:
    (tmp_path / "best.json").write_text(text)
    assert find_best(tmp_path) is None
