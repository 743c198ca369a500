"""`train` and `evaluate`: child processes whose options, lines, errors and ends are those of the command line."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest

import seedbed
from seedbed.child_process import NewLines
from seedbed.common.errors import BrokenError, ConfigError, UsageError
from seedbed.training import _command_line, _name_of
from tests.system.processes import eventually, is_alive

FAST: dict[str, Any] = {
    "num_envs": 8,
    "num_clients": 1,
    "batch_size": 4,
    "log_interval_s": 0.3,
    "device": "cpu",
}


class TestCommandLine:
    def test_options_have_their_names_in_python(self) -> None:
        options = {
            "learning_rate": 1e-3,
            "wait_when_idle": True,
            "train": False,
            "max_seconds": None,
            "max_steps": 20e6,
            "lambda_": 0.95,
            "dueling": False,
            "kl_cost": None,
        }
        assert _command_line({"env": "X-v0", "preset": None, "run_dir": Path("runs/a")}, options) == [
            "--env=X-v0",
            "--run-dir=runs/a",
            "--learning-rate=0.001",
            "--wait-when-idle",
            "--no-train",
            "--max-seconds=None",
            "--max-steps=20000000.0",
            "--lambda=0.95",
            "--no-dueling",
            "--kl-cost=None",
        ]

    @pytest.mark.parametrize(
        ("options", "words"),
        [
            ({"learning_rate": "fast"}, "learning_rate: expected a number, got 'fast'"),
            ({"num_envs": 0}, "num_envs: expected at least 1"),
            ({"num_envs": 1.5}, "num_envs: expected an integer"),
            ({"num_envs": None}, "num_envs: expected a value"),
            ({"train": 1}, "train: expected true or false"),
            ({"resume": "always"}, "resume: expected one of auto, never"),
            ({"env": "Y-v0"}, "env twice"),
        ],
    )
    def test_wrong_values_are_told_with_their_names(self, options: dict[str, Any], words: str) -> None:
        with pytest.raises(UsageError, match=words):
            _command_line({"env": "X-v0"}, options)

    def test_environments_are_named_by_their_module(self) -> None:
        assert _name_of("CartPole-v1") == "CartPole-v1"
        assert _name_of(subprocess.run) == "subprocess:run"
        assert _name_of(psutil.Process) == "psutil:Process"
        for env in (lambda: None, type("Here", (), {"__module__": "__main__"})):
            with pytest.raises(UsageError, match="module of its own"):
                _name_of(env)

    def test_something_must_be_trained_on(self) -> None:
        with pytest.raises(UsageError, match="env="):
            seedbed.train(learning_rate=1e-3)
        with pytest.raises(UsageError, match="seed="):
            seedbed.train("CartPole-v1", seeds="0,1")


def test_only_new_lines_are_told(tmp_path: Path) -> None:
    """A run that goes on keeps the lines up to its checkpoint, and drops those beyond it."""
    file = tmp_path / "metrics.jsonl"
    file.write_text('{"n": 1}\n{"n": 2}\n{"n": 3}\n')
    lines = NewLines(file)
    file.write_text('{"n": 1}\n{"n": 2}\n{"n": 4}\n{"n": ')
    assert lines.read() == [{"n": 4}]
    assert lines.read() == []
    with file.open("a") as stream:
        stream.write('5}\n{"n": 6}\n')
    assert lines.read() == [{"n": 5}, {"n": 6}]
    assert NewLines(tmp_path / "none").read() == []


def test_a_crash_comes_with_the_end_of_its_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "python"
    program.write_text("#!/bin/sh\necho first things\necho the last words >&2\nexit 3\n")
    program.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(program))
    with pytest.raises(BrokenError, match=r"exit code 3; its log ends with\nfirst things\nthe last words"):
        seedbed.train("CartPole-v1", run_dir=tmp_path / "runs" / "a")
    assert [path.name for path in tmp_path.iterdir()] == ["python"], "nothing is left of the start"


@pytest.mark.system
class TestRuns:
    @pytest.mark.slow
    def test_an_exception_ends_the_run_in_order_and_comes_out(self, tmp_path: Path) -> None:
        class Pruned(Exception):
            pass

        def on_log(metrics: dict[str, Any]) -> None:
            if metrics["updates"] > 0:
                raise Pruned

        with pytest.raises(Pruned):
            seedbed.train(preset="cartpole", run_dir=tmp_path / "a", on_log=on_log, **FAST)
        assert list((tmp_path / "a" / "checkpoints").iterdir()), "it has saved"
        assert not [child for child in psutil.Process().children() if is_alive(child)]

    def test_wrong_starts_are_raised_and_leave_nothing(self, tmp_path: Path) -> None:
        with pytest.raises(UsageError, match=r"--lerning-rate.*--learning-rate"):
            seedbed.train("CartPole-v1", run_dir=tmp_path / "runs" / "a", lerning_rate=1)
        with pytest.raises(ConfigError, match="nowhere"):
            seedbed.evaluate(tmp_path / "nowhere")
        assert list(tmp_path.iterdir()) == []


@pytest.mark.system
@pytest.mark.parametrize("how", ["interrupt", pytest.param("kill", marks=pytest.mark.slow)])
def test_a_run_ends_with_what_started_it(tmp_path: Path, how: str) -> None:
    """Ctrl-C stops it in order; a kernel that is killed leaves nothing behind either."""
    program = f"import seedbed; seedbed.train(preset='cartpole', run_dir={str(tmp_path / 'a')!r}, **{FAST!r})"
    process = subprocess.Popen([sys.executable, "-c", program], stderr=subprocess.PIPE, text=True)
    metrics = tmp_path / "a" / "metrics.jsonl"
    eventually(lambda: metrics.exists() and len(metrics.read_text().splitlines()) > 2, "the run to go on", 60)
    family = psutil.Process(process.pid).children(recursive=True)
    assert family
    process.send_signal(signal.SIGINT if how == "interrupt" else signal.SIGKILL)
    error = process.communicate(timeout=60)[1]
    eventually(lambda: not any(map(is_alive, family)), "all of it to end", 30)
    assert list((tmp_path / "a" / "checkpoints").iterdir()), "it has saved"
    assert ("KeyboardInterrupt" in error) == (how == "interrupt")
