"""A replay on disk: round trip, and everything that must make a run start with an empty one instead of a wrong one."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from seedbed.server.run.replay_files import FOLDER, ReplayFiles


class Contents:
    """Four tensors of 150 unrolls and a number."""

    def __init__(self, number: int, rows: int = 150) -> None:
        generator = torch.Generator().manual_seed(number)
        self.tensors: Mapping[str, Tensor] = {
            "observation.0": torch.randint(0, 256, (rows, 3, 4), generator=generator).to(torch.uint8),
            "field.reward": torch.randn(rows, 3, generator=generator),
            "field.age": torch.randint(0, 9, (rows, 3), generator=generator),
            "state.0": torch.randn(rows, 2, generator=generator).to(torch.bfloat16),
        }
        self.state: Mapping[str, Any] = {"number": number}

    def get_state(self) -> dict[str, Any]:
        return dict(self.state)

    def set_state(self, state: Mapping[str, Any]) -> None:
        self.state = state

    def check_state(self, state: Mapping[str, Any]) -> None:
        int(state["number"])

    def equals(self, other: Contents) -> bool:
        same = all(torch.equal(tensor, other.tensors[name]) for name, tensor in self.tensors.items())
        return same and self.state == other.state


def save(run_dir: Path, contents: Contents, agent_steps: int) -> None:
    ReplayFiles(run_dir, contents).save(agent_steps)


def load(run_dir: Path, contents: Contents, agent_steps: int) -> bool:
    return ReplayFiles(run_dir, contents).load(agent_steps)


def test_what_was_saved_last_comes_back(tmp_path: Path) -> None:
    for number in (1, 2):
        save(tmp_path, Contents(number), agent_steps=100 * number)
    filled = Contents(9)
    assert load(tmp_path, filled, agent_steps=200)
    assert filled.equals(Contents(2))


def test_without_one_there_is_nothing_to_say(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert not load(tmp_path, Contents(1), agent_steps=0)
    assert not caplog.records


def _truncate(folder: Path) -> None:
    file = folder / "field.reward.npy"
    file.write_bytes(file.read_bytes()[:-40])


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda folder: (folder / "manifest.json").unlink(), "manifest.json"),
        (lambda folder: (folder / "manifest.json").write_text("{"), "Expecting"),
        (lambda folder: (folder / "manifest.json").write_text(json.dumps({"agent_steps": 7})), "7 agent steps"),
        (lambda folder: (folder / "field.age.npy").unlink(), "field.age.npy"),
        (_truncate, "mmap|size|bytes"),
    ],
    ids=["no manifest", "half a manifest", "of another checkpoint", "a file is missing", "half a file"],
)
def test_a_replay_that_is_not_whole_or_not_of_this_checkpoint_is_left_alone(
    damage: Any, message: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    save(tmp_path, Contents(1), agent_steps=100)
    damage(tmp_path / FOLDER)
    untouched = Contents(3)
    with caplog.at_level(logging.WARNING):
        assert not load(tmp_path, untouched, agent_steps=100)
    assert untouched.equals(Contents(3))
    assert "empty replay" in caplog.text
    assert re.search(message, caplog.text)


def test_a_replay_of_another_size_is_left_alone(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    save(tmp_path, Contents(1), agent_steps=100)
    assert not load(tmp_path, Contents(3, rows=151), agent_steps=100)
    assert "expected observation.0 as [151, 3, 4], got [150, 3, 4]" in caplog.text


def test_where_none_is_wanted_nothing_is_written_or_read(tmp_path: Path) -> None:
    ReplayFiles(tmp_path, None).save(100)
    assert not (tmp_path / FOLDER).exists()
    save(tmp_path, Contents(1), agent_steps=100)
    assert not ReplayFiles(tmp_path, None).load(100)


def test_a_full_disk_costs_the_replay_and_not_the_run(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").write_text("")
    save(tmp_path / "file", Contents(1), agent_steps=100)  # no folder can be made in a file
    assert "the replay was not written" in caplog.text
