"""Several seeds: runs in turn, each in a folder of its own, drawn as one."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from seedbed.common.errors import UsageError
from seedbed.server.training.stop_signal import StopSignal
from seedbed.server.verbs import seeds
from seedbed.server.verbs.seeds import run_seeds, take_seeds


def test_seeds_are_taken_from_the_command_line() -> None:
    assert take_seeds(["--preset", "catch"]) == ([], ["--preset", "catch"])
    assert take_seeds(["--preset", "catch", "--seeds", "0,1,20", "--lr", "1"]) == (
        [0, 1, 20],
        ["--preset", "catch", "--lr", "1"],
    )
    assert take_seeds(["--seeds=7"]) == ([7], [])


@pytest.mark.parametrize(
    "argv", [["--seeds"], ["--seeds", "a"], ["--seeds=1,1"], ["--seeds=1,"], ["--seeds=1", "--seed=2"]]
)
def test_what_are_none_is_said(argv: list[str]) -> None:
    with pytest.raises(UsageError, match="--seeds"):
        take_seeds(argv)


class Commands:
    """Processes that end as they are told, instead of trainings."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, program: str) -> None:
        self.started: list[list[str]] = []
        self._program = program
        self._popen = subprocess.Popen
        monkeypatch.setattr(seeds.subprocess, "Popen", self._start)

    def _start(self, command: list[str]) -> subprocess.Popen[bytes]:
        self.started.append(command)
        return self._popen([sys.executable, "-c", self._program])


def test_runs_come_one_after_another_in_folders_of_their_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    commands = Commands(monkeypatch, "")
    assert run_seeds("train", ["--preset", "catch", "--run-dir", "x"], [3, 4], tmp_path, StopSignal()) == 0
    assert [command[-6:] for command in commands.started] == [
        ["train", "--preset", "catch", "--run-dir", "x", f"--seed={seed}", f"--run-dir={tmp_path}/seed-{seed}"][-6:]
        for seed in (3, 4)
    ]


def test_one_that_fails_is_the_last(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    commands = Commands(monkeypatch, "import sys; sys.exit(78)")
    assert run_seeds("train", [], [3, 4], tmp_path, StopSignal()) == 78
    assert len(commands.started) == 1


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1"])
def test_a_signal_is_handed_on_and_no_other_run_begins(
    name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    commands, stop = Commands(monkeypatch, "import time; time.sleep(60)"), StopSignal()
    stop.name = name
    assert run_seeds("train", [], [3, 4], tmp_path, stop) == -signal.SIGUSR2
    assert len(commands.started) == 1


def test_a_run_that_has_heard_of_it_already_is_not_hurried(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """As when a whole process group gets SIGTERM: the run from whoever sends it, and from us."""
    program = (
        "import os, signal, time\n"
        "from seedbed.server.training.stop_signal import StopSignal\n"
        "stop = StopSignal().catch()\n"
        "os.kill(os.getpid(), signal.SIGTERM)\n"
        "open('told', 'w').close()\n"
        "time.sleep(1)\n"
        "raise SystemExit(0 if stop.name == 'SIGTERM' else 1)\n"
    )
    monkeypatch.chdir(tmp_path)
    commands, stop = Commands(monkeypatch, program), StopSignal()

    def look(_: float) -> None:
        if (tmp_path / "told").exists():
            stop.name = "SIGTERM"

    monkeypatch.setattr(seeds.time, "sleep", look)
    assert run_seeds("train", [], [3, 4], tmp_path, stop) == 0
    assert len(commands.started) == 1


def test_a_folder_of_seeds_is_one_curve(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    from seedbed.server.verbs.plot import main

    folder = tmp_path / "catch"
    for seed in range(2):
        (folder / f"seed-{seed}").mkdir(parents=True)
        lines = [{"agent_steps": x, "wall_s": x, "episode_return_mean": x + seed} for x in range(3)]
        text = "".join(json.dumps(line) + "\n" for line in lines)
        (folder / f"seed-{seed}" / "metrics.jsonl").write_text(text)
    assert main([str(folder)]) == 0
    assert (folder / "learning_curve.png").exists()
