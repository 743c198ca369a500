"""Run directories: one process at a time, and nothing left of a start that failed."""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from seedbed.common.errors import ConfigError, RunInUseError
from seedbed.common.specs import EnvironmentSpec, discrete
from seedbed.server.run import lock
from seedbed.server.run.directory import RunDirectory, RunFile

SPEC = EnvironmentSpec(environment="x", observations=(discrete("o", 2),), actions=(discrete("a", 2),))
HOLD = """
import sys, time
from pathlib import Path
from seedbed.server.run.lock import locked
with locked(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def test_another_process_keeps_the_lock_and_is_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with subprocess.Popen([sys.executable, "-c", HOLD, tmp_path], stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        try:
            assert holder.stdout.readline() == "held\n"
            with pytest.raises(RunInUseError, match=f"process {holder.pid} on {socket.gethostname()} works in it"):
                lock.locked(tmp_path, patience_s=0.3).__enter__()
            assert "waiting up to 0.3 s" in caplog.text
            began_s = time.monotonic()
            with pytest.raises(RunInUseError):
                lock.locked(tmp_path, gives_up=lambda: True).__enter__()
            assert time.monotonic() < began_s + 1
        finally:
            holder.kill()
    with lock.locked(tmp_path, patience_s=0):
        assert (tmp_path / "lock").read_text() == f"{socket.gethostname()} {os.getpid()}\n"
    assert (tmp_path / "lock").exists()


def test_a_start_waits_for_one_that_leaves(tmp_path: Path) -> None:
    held = lock.locked(tmp_path)
    held.__enter__()
    threading.Timer(0.3, held.__exit__, (None, None, None)).start()
    with lock.locked(tmp_path, patience_s=10):
        pass


def test_children_do_not_keep_it(tmp_path: Path) -> None:
    """Neither those that inherit all descriptors which can be inherited."""
    with lock.locked(tmp_path):
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], close_fds=False)
    try:
        with lock.locked(tmp_path, patience_s=5):  # its last descriptors may only just be being closed
            pass
    finally:
        child.kill()
        child.wait()


def test_a_lock_whose_file_was_taken_away_is_none(tmp_path: Path) -> None:
    """A start that waits has opened it when the one before fails and takes its new directory away."""
    held, seen = lock.locked(tmp_path), []
    held.__enter__()

    def wait() -> None:
        with lock.locked(tmp_path, patience_s=10):
            seen.append((tmp_path / "lock").exists())

    waiting = threading.Thread(target=wait)
    with pytest.MonkeyPatch.context() as patch:
        real, opened, gone = lock._try_lock, threading.Event(), threading.Event()

        def slow(descriptor: int, file: Path) -> bool:
            """It has opened the file, and looks at the lock when both file and lock are gone."""
            opened.set()
            gone.wait(5)
            return real(descriptor, file)

        patch.setattr(lock, "_try_lock", slow)
        waiting.start()
        assert opened.wait(5)
        (tmp_path / "lock").unlink()
        held.__exit__(None, None, None)
        gone.set()
        waiting.join(10)
    assert seen == [True]


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP])
def test_without_locks_there_is_a_warning(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*_: int) -> None:
        raise OSError(number, "no locks")

    monkeypatch.setattr(fcntl, "flock", refuse)
    with lock.locked(tmp_path):
        assert "cannot be locked here" in caplog.text


def test_what_is_no_directory_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="expected a run directory to write into"):
        lock.locked(tmp_path / "file").__enter__()


def begin(directory: RunDirectory) -> None:
    directory.write(RunFile({"algorithm": "x"}, SPEC, "0.0.1"))


def test_a_start_that_failed_leaves_nothing(tmp_path: Path) -> None:
    directory = RunDirectory(tmp_path / "runs" / "new")
    with directory.made():
        assert directory.is_locked
        begin(directory)
        (directory.path / "log").write_text("words")
        directory.checkpoints.mkdir()
        assert not directory.has_run
        directory.forget()
    assert list(tmp_path.iterdir()) == []


def test_nor_in_a_directory_that_was_there(tmp_path: Path) -> None:
    (tmp_path / "notes").write_text("mine")
    (tmp_path / "log").write_text("mine too")
    directory = RunDirectory(tmp_path)
    with directory.lock():
        begin(directory)
        directory.forget()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["lock", "log", "notes"]


def test_a_run_is_what_was_measured_or_saved(tmp_path: Path) -> None:
    directory = RunDirectory(tmp_path)
    with directory.lock():
        assert directory.find_run() is None
    begin(directory)
    (tmp_path / "metrics.jsonl").write_text("")
    assert directory.find_run() is None, "config.json of a start that was killed"
    (tmp_path / "metrics.jsonl").write_text("{}\n")
    found = directory.find_run()
    assert found is not None
    assert found.spec == SPEC
    directory.config_file.unlink()
    with pytest.raises(ConfigError, match=r"config\.json"):
        directory.find_run()


def test_two_starts_of_a_new_run(tmp_path: Path) -> None:
    first, second = RunDirectory(tmp_path / "run"), RunDirectory(tmp_path / "run")
    with first.made():
        with pytest.raises(RunInUseError, match="works in it"), second.made():
            pass
        begin(first)
        (first.path / "metrics.jsonl").write_text("{}\n")
    with pytest.raises(RunInUseError, match="has just begun a run there"), second.made():
        pass
