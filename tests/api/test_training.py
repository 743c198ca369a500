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
from seedbed import training
from seedbed.child_process import ChildLog, NewEpisodes, NewLines
from seedbed.common.errors import BrokenError, ConfigError, UsageError
from seedbed.training import _Callbacks, _command_line, _name_of
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


def test_a_misspelt_option_is_told_at_once_where_torch_is_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch  # noqa: F401

    monkeypatch.setattr(training, "run_child", lambda *_: pytest.fail("a process was started"))
    with pytest.raises(UsageError, match=r"--lerning-rate.*--learning-rate"):
        seedbed.train("CartPole-v1", run_dir=tmp_path / "a", lerning_rate=1)
    with pytest.raises(UsageError, match=r"--burn-in belongs to"):
        seedbed.train("CartPole-v1", run_dir=tmp_path / "a", algorithm="ppo", burn_in=1)
    assert list(tmp_path.iterdir()) == []


def test_several_environments_are_tasks_of_one_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[list[str]] = []
    monkeypatch.setattr(training, "run_child", lambda words, *_: started.append(list(words)))
    seedbed.train(["A-v0", "B-v0"], run_dir=tmp_path / "a")
    seedbed.train(suite="minatar", run_dir=tmp_path / "b")
    assert [word for word in started[0] if word.startswith("--env")] == ["--env=A-v0", "--env=B-v0"]
    assert "--suite=minatar" in started[1]


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


@pytest.fixture(autouse=True)
def short_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lines of these tests do not say where in a run they stand."""
    monkeypatch.setattr("seedbed.server.monitoring.line_file._PLACE", ())


def test_new_episodes_are_told_across_a_change_of_files(tmp_path: Path) -> None:
    file = tmp_path / "episodes.jsonl"
    file.write_text('{"n": 1}\n')
    episodes = NewEpisodes(tmp_path, file.stat().st_size)
    assert episodes.read() == []
    with file.open("a") as stream:
        stream.write('{"n": 2}\n{"n": ')
        stream.flush()
        assert episodes.read() == [{"n": 2}]
        stream.write("3}\n")
    file.rename(tmp_path / "episodes.1.jsonl")
    file.write_text('{"n": 4}\n')
    assert episodes.read() == [{"n": 3}, {"n": 4}]
    with file.open("a") as stream:
        stream.write('{"n": 5}\n')
    assert episodes.read() == [{"n": 5}]
    episodes.close()


def test_new_episodes_are_found_where_the_file_was_changed_before_the_first_look(tmp_path: Path) -> None:
    (tmp_path / "episodes.1.jsonl").write_text('{"n": 1}\n{"n": 2}\n{"n": 3}\n')
    (tmp_path / "episodes.jsonl").write_text('{"n": 4}\n')
    episodes = NewEpisodes(tmp_path, len('{"n": 1}\n{"n": 2}\n'))
    assert episodes.read() == [{"n": 3}, {"n": 4}]
    episodes.close()


def test_the_log_of_a_start_that_fails_late_can_still_be_read(tmp_path: Path) -> None:
    with ChildLog(tmp_path / "run") as log:
        log.file.write(b"the last words")
        log.file.flush()
        (tmp_path / "run").mkdir()
        log.settle()
        (tmp_path / "run" / "log").unlink()
        assert log.tail() == "the last words"


class TestCallbacks:
    """Without a run: what is reported and written is told, in this thread, and what is raised says where."""

    def test_each_is_told(self, tmp_path: Path) -> None:
        told: list[Any] = []
        callbacks = _Callbacks(tmp_path, told.append, told.append, told.append)
        (tmp_path / "episodes.jsonl").write_text('{"n": 1}\n')
        callbacks.hear({"serving": "127.0.0.1:7777", "episodes_bytes": 0})
        (tmp_path / "metrics.jsonl").write_text('{"n": 2}\n')
        callbacks.hear({"checkpoint": "runs/a/checkpoints/checkpoint-1"})
        callbacks.look()
        assert told == [Path("runs/a/checkpoints/checkpoint-1"), {"n": 1}, {"n": 2}]
        callbacks.close()

    @pytest.mark.parametrize("name", ["on_log", "on_checkpoint", "on_episode"])
    def test_what_is_raised_says_by_which(self, tmp_path: Path, name: str) -> None:
        def raises(value: Any) -> None:
            raise KeyError("mine")

        chosen = {
            callback: raises if callback == name else None for callback in ("on_log", "on_checkpoint", "on_episode")
        }
        callbacks = _Callbacks(tmp_path, *chosen.values())
        (tmp_path / "episodes.jsonl").write_text('{"n": 1}\n')
        (tmp_path / "metrics.jsonl").touch()

        def run() -> None:
            callbacks.hear({"serving": "127.0.0.1:7777", "episodes_bytes": 0})
            (tmp_path / "metrics.jsonl").write_text('{"n": 2}\n')
            callbacks.hear({"checkpoint": "x"})
            callbacks.look()

        with pytest.raises(KeyError, match="mine") as raised:
            run()
        callbacks.close()
        assert raised.value.__notes__ == [f"raised by {name}: the run in {tmp_path} was ended in order, and may go on"]

    def test_records_that_are_not_written_are_told_to_nobody(self) -> None:
        with pytest.raises(UsageError, match="on_episode= or episode_records=False"):
            seedbed.train("CartPole-v1", on_episode=print, episode_records=False)


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
