"""Starts that fail: sizes for which no memory has room, and learners that do not come together."""

from __future__ import annotations

import shutil
from contextlib import ExitStack, nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from seedbed.common.errors import ConfigError, PeerLostError
from seedbed.common.plugins import NOTHING_TYPED
from seedbed.server.run.directory import RunDirectory
from seedbed.server.run.state import RunState
from seedbed.server.training.command_line import read_command_line
from seedbed.server.training.place import Place
from seedbed.server.training.stop_signal import StopSignal
from seedbed.server.verbs import train as subject
from seedbed.server.verbs.train import out_of_memory


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (torch.OutOfMemoryError("CUDA out of memory"), "the device has no memory left: a smaller --batch-size"),
        (MemoryError(), "this machine has no memory left: a smaller --batch-size"),
        (RuntimeError("a defect"), None),
    ],
)
def test_what_comes_of_too_little_memory_names_the_options(
    error: RuntimeError | MemoryError, words: str | None
) -> None:
    told = out_of_memory(error)
    assert (told is None) if words is None else words in str(told)


def test_the_cpu_says_so_in_words_of_its_own() -> None:
    with pytest.raises(RuntimeError) as raised:
        torch.empty(1 << 60)
    told = out_of_memory(raised.value)
    assert told is not None
    assert "--unroll-length" in str(told)
    assert "\n" not in str(told)


def test_who_stops_learners_before_they_have_come_together_is_told_of_no_error(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The first one to leave is missed by the others, which is what was asked for."""

    def fails(*_: Any, **__: Any) -> None:
        raise PeerLostError("one of them is gone")

    given = read_command_line(["--env", "x", "--run-dir", str(tmp_path / "run")], prog="seedbed train")
    place, stop = Place(world=2, local_world=2, store=tmp_path / "store"), StopSignal()
    monkeypatch.setattr(subject, "_open_run", lambda *_, **__: (SimpleNamespace(config=None), None))
    monkeypatch.setattr(subject, "check_exchange", lambda *_: None)
    monkeypatch.setattr(subject, "lead", fails)
    with pytest.raises(PeerLostError):
        subject.train(given, stop, local=True, place=place)
    monkeypatch.setattr(subject, "lead", lambda *_: pytest.fail("waits for learners that have gone"))
    stop.name = "SIGINT"
    assert subject.train(given, stop, local=True, place=place) == 0
    monkeypatch.setattr(subject, "open_store", fails)
    assert subject.train(given, stop, local=True, place=place) == 0


def test_a_learner_whose_run_the_first_has_removed_ends_well(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Ctrl-C before the first step: the first one leaves nothing behind, while another is still being built."""
    stop, directory = StopSignal(), RunDirectory(tmp_path / "run" / "replicas" / "1")

    def build(*_: Any, held: ExitStack, **__: Any) -> None:
        held.enter_context(directory.made())
        shutil.rmtree(tmp_path / "run")
        raise ConfigError("expected a file to add lines to")

    monkeypatch.setattr(subject, "make_training_run", build)
    opened: Any = SimpleNamespace(directory=directory, before=None)
    replica: Any = SimpleNamespace(is_first=False)
    for stop.name in (None, "SIGINT"):
        with ExitStack() as held, pytest.raises(ConfigError) if stop.name is None else nullcontext():
            assert subject._train(opened, RunState(), replica, NOTHING_TYPED, stop, held, local=True) == 0
