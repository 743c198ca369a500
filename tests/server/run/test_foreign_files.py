"""Run directories that somebody else has made: whatever stands in them is an error in one line, or damage."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from seedbed.common.errors import ConfigError
from seedbed.common.logs import log_to
from seedbed.server.dashboard.curves import Curves
from seedbed.server.monitoring.episodes import read_episodes
from seedbed.server.monitoring.line_file import LineFile
from seedbed.server.monitoring.metrics import MetricsWriter, read_metrics
from seedbed.server.run import checkpoint as module
from seedbed.server.run.checkpoint import MANIFEST_FILE, TENSORS_FILE, Checkpoint, CheckpointStore, load_newest
from seedbed.server.run.directory import EPISODES_FILE, METRICS_FILE, read_run_file
from seedbed.server.run.lock import locked
from seedbed.server.run.replay_files import ReplayFiles
from seedbed.server.run.state import RunState
from seedbed.server.shared.reading import read_regular
from seedbed.server.trackers.identity import TRACKERS_FILE, identity

DEEP = "[" * 100_000


def replaced(file: Path, make: Callable[[Path], object]) -> None:
    file.unlink()
    make(file)


def sparse_terabyte(file: Path) -> None:
    file.touch()
    os.truncate(file, 1 << 40)


def with_body(**changes: Any) -> Callable[[Path], object]:
    """A manifest that is signed as ours are, with other contents."""

    def write(file: Path) -> None:
        body = {"format_version": 1, "agent_steps": 2, "metadata": {}, "tensors": {"bytes": 1, "sha256": "x"}} | changes
        file.write_text(json.dumps({"sha256": module._digest(body), "body": body}))

    return write


MANIFESTS: dict[str, Callable[[Path], object]] = {
    "deep": lambda file: file.write_text(DEEP),
    "list": lambda file: file.write_text("[1, 2]"),
    "keyless": lambda file: file.write_text('{"body": {}, "sha256": ""}'),
    "list in it": lambda file: file.write_text('{"body": [], "sha256": ""}'),
    "no steps": with_body(agent_steps=None),
    "list of tensors": with_body(tensors=[]),
    "bytes that are none": with_body(tensors={"bytes": -1.5, "sha256": "x"}),
    "negative bytes": with_body(tensors={"bytes": -1, "sha256": "x"}),
    "pipe": os.mkfifo,
    "folder": Path.mkdir,
    "device": lambda file: file.symlink_to("/dev/zero"),
}
TENSORS: dict[str, Callable[[Path], object]] = {
    "pipe": os.mkfifo,
    "device": lambda file: file.symlink_to("/dev/zero"),
    "sparse terabyte": sparse_terabyte,
}


@pytest.mark.parametrize(
    ("name", "make"),
    [(MANIFEST_FILE, make) for make in MANIFESTS.values()] + [(TENSORS_FILE, make) for make in TENSORS.values()],
    ids=[*MANIFESTS, *TENSORS],
)
def test_a_checkpoint_that_is_none_of_ours_is_damaged(
    name: str, make: Callable[[Path], object], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = CheckpointStore(tmp_path)
    good = store.save(Checkpoint(agent_steps=1, tensors={}, metadata={}))
    bad = store.save(Checkpoint(agent_steps=2, tensors={"x": torch.ones(3)}, metadata={}))
    replaced(bad / name, make)
    found = load_newest(tmp_path)
    assert found is not None
    assert (found.agent_steps, good.name) == (1, "checkpoint-000000000001")
    assert [record.message.partition(":")[0] for record in caplog.records] == ["passing over a damaged checkpoint"]


@pytest.mark.parametrize(
    "make",
    [
        lambda file: file.write_text(DEEP),
        lambda file: file.write_text("[]"),
        lambda file: file.write_text('{"format": 2, "config": [], "spec": [], "seedbed_version": 0}'),
        lambda file: file.write_text('{"format": 2, "config": {}, "spec": {"observations": 1}, "seedbed_version": 0}'),
        os.mkfifo,
        sparse_terabyte,
    ],
    ids=["deep", "list", "lists", "spec", "pipe", "sparse terabyte"],
)
def test_a_config_that_is_none_of_ours_is_an_error(make: Callable[[Path], object], tmp_path: Path) -> None:
    make(tmp_path / "config.json")
    with pytest.raises(ConfigError, match=r"config\.json"):
        read_run_file(tmp_path / "config.json")


def nested(depth: int) -> Any:
    return {"list": [nested(depth - 1)]} if depth else 1


@pytest.mark.parametrize(
    "state",
    [
        None,
        {"dict": [["agent_steps", 1], ["stranger", 2]]},
        {"dict": [["cohorts", {"dict": []}]]},
        {"dict": [["learner", {"tensor": "missing"}]]},
        {"dict": 3},
        {"unknown": []},
        nested(400),
    ],
)
def test_a_state_that_is_none_of_ours_is_an_error(state: Any) -> None:
    with pytest.raises(ConfigError, match="expected where a run stands in its checkpoint"):
        RunState.from_checkpoint(Checkpoint(agent_steps=1, tensors={}, metadata={"state": state}))


NO_LINES: dict[str, Callable[[Path], object]] = {
    "deep": lambda file: file.write_text(f"{DEEP}\n"),
    "list": lambda file: file.write_text("[1, 2]\n"),
    "keyless": lambda file: file.write_text("{}\n"),
    "words": lambda file: file.write_text('{"agent_steps": "1", "wall_s": [], "frames": {}}\n'),
    "bytes": lambda file: file.write_bytes(b"\xff\xfe\0\n"),
    "pipe": os.mkfifo,
    "folder": Path.mkdir,
    "device": lambda file: file.symlink_to("/dev/zero"),
    "sparse terabyte": sparse_terabyte,
}
NO_FILES = ("pipe", "folder", "device")


@pytest.mark.parametrize("kind", NO_LINES)
def test_files_of_lines_that_are_none_of_ours(kind: str, tmp_path: Path) -> None:
    """Metrics are not guessed; episodes, of which a full disk may have torn some, are passed over."""
    NO_LINES[kind](tmp_path / METRICS_FILE)
    NO_LINES[kind](tmp_path / EPISODES_FILE)
    with pytest.raises(ConfigError, match=r"metrics\.jsonl"):
        read_metrics(tmp_path)
    with pytest.raises(ConfigError, match=r"metrics\.jsonl"):
        MetricsWriter(tmp_path, resume_step=10)
    curves = Curves(tmp_path / METRICS_FILE)
    curves.read()
    assert curves.since(0)["newest_step"] is None
    if kind in (*NO_FILES, "sparse terabyte"):
        with pytest.raises(ConfigError, match=r"episodes\.jsonl"):
            list(read_episodes(tmp_path))
        return
    assert list(read_episodes(tmp_path)) == []


@pytest.mark.parametrize("kind", NO_FILES)
def test_what_is_no_file_is_not_written_into(kind: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for name in ("lines", "lock", "log"):
        NO_LINES[kind](tmp_path / name)
    with pytest.raises(ConfigError, match="expected a file to add lines to"):
        LineFile(tmp_path / "lines")
    with pytest.raises(ConfigError, match="expected a"), locked(tmp_path, patience_s=0):
        pass
    with log_to(tmp_path / "log"):
        logging.getLogger().warning("nobody waits for a reader")
    assert "nobody waits" in caplog.text


@pytest.mark.parametrize("kind", NO_LINES)
def test_names_of_trackers_that_are_none_of_ours_are_forgotten(kind: str, tmp_path: Path) -> None:
    NO_LINES[kind](tmp_path / TRACKERS_FILE)
    assert identity(tmp_path, "wandb", make=False) is None


REPLAYS: dict[str, Callable[[Path], object]] = {
    name: make for name, make in {**NO_LINES, **MANIFESTS}.items() if name != "sparse terabyte"
}


@pytest.mark.parametrize("kind", [*REPLAYS, *(f"array: {kind}" for kind in (*NO_FILES, "bytes"))])
def test_a_replay_that_is_none_of_ours_is_not_used(kind: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    contents = _Numbers()
    ReplayFiles(tmp_path, contents).save(7)
    array = kind.startswith("array: ")
    kind = kind.removeprefix("array: ")
    file = tmp_path / "replay" / ("x.npy" if array else "manifest.json")
    replaced(file, {**NO_LINES, **MANIFESTS}[kind])
    assert not ReplayFiles(tmp_path, contents).load(7)
    assert "starting with an empty replay" in caplog.text


class _Numbers:
    """Contents of a replay."""

    tensors: Mapping[str, torch.Tensor] = {"x": torch.zeros(3)}

    def get_state(self) -> dict[str, Any]:
        return {}

    def check_state(self, state: Mapping[str, Any]) -> None:
        pass

    def set_state(self, state: Mapping[str, Any]) -> None:
        raise AssertionError("must not be asked")


def test_a_file_is_read_up_to_its_limit(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"12345")
    assert read_regular(tmp_path / "a", at_most=5) == b"12345"
    with pytest.raises(OSError, match="expected at most 4 bytes, got 5"):
        read_regular(tmp_path / "a", at_most=4)
