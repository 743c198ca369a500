"""A process that is killed at any system call of a checkpoint leaves one that loads, and the calls come in safe order.

A child is forked where everything is imported, stops itself before the save, and goes on under strace, which kills it
at the call that is asked for. What the calls do is the kernel's, nothing is faked.
"""

from __future__ import annotations

import re
import shutil
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from seedbed.server.run.checkpoint import (
    MANIFEST_FILE,
    TENSORS_FILE,
    Checkpoint,
    CheckpointStore,
    load_newest,
)

pytestmark = pytest.mark.system

DECISIVE = ("mkdir", "write", "fsync", "rename")
EVERY = (
    *DECISIVE,
    "openat",
    "close",
    "fstat",
    "newfstatat",
    "getdents64",
    "unlinkat",
    "rmdir",
    "lseek",
    "ioctl",
    "fcntl",
)

_SAVER = """
import os, signal, sys
from pathlib import Path
import torch
from seedbed.server.run.checkpoint import Checkpoint, CheckpointStore

def checkpoint(step):
    return Checkpoint(agent_steps=step, tensors={"a": torch.full((1000,), float(step))}, metadata={})

for line in sys.stdin:
    store = CheckpointStore(Path(line.strip()), keep=2)
    store.save(checkpoint(1))
    store.save(checkpoint(2))
    child = os.fork()
    if child == 0:
        os.kill(os.getpid(), signal.SIGSTOP)
        store.save(checkpoint(3))
        os._exit(0)
    os.waitpid(child, os.WUNTRACED)
    print(child, flush=True)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


class Saver:
    """Saves checkpoint 3 where 1 and 2 are, keeping two."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", _SAVER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def save(self, directory: Path, calls: tuple[str, ...], kill_at: tuple[str, int] | None = None) -> tuple[int, str]:
        """One save under strace.

        Args:
            directory: of the checkpoints.
            calls: which are traced.
            kill_at: a call, and the how-manieth of its kind.

        Returns:
            The exit code, and what strace wrote.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        log = directory.with_suffix(".strace")
        self._process.stdin.write(f"{directory}\n")
        self._process.stdin.flush()
        pid = int(self._process.stdout.readline())
        inject = [] if kill_at is None else ["-e", f"inject={kill_at[0]}:signal=KILL:when={kill_at[1]}"]
        command = ["strace", "-f", "-y", "-o", str(log), "-e", f"trace={','.join(calls)}", *inject, "-p", str(pid)]
        tracer = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        assert tracer.stderr is not None
        said = tracer.stderr.readline()
        subprocess.run(["kill", "-CONT", str(pid)], check=True)
        code = int(self._process.stdout.readline())
        tracer.communicate()
        if "attached" not in said:
            pytest.skip(f"strace may not attach here: {said.strip()}")
        return code, log.read_text()

    def close(self) -> None:
        """Ends it."""
        self._process.communicate()


@pytest.fixture(scope="module")
def saver() -> Iterator[Saver]:
    if shutil.which("strace") is None:
        pytest.skip("strace is not installed")
    subject = Saver()
    yield subject
    subject.close()


def calls_of(log: str) -> list[tuple[str, str]]:
    """(call, the rest of its line), in order."""
    return re.findall(r"^\d+ +(\w+)\((.*)$", log, re.MULTILINE)


def assert_loads(directory: Path) -> int:
    """The newest checkpoint is whole; another can be saved, and nothing is left over. Returns its step."""
    newest = load_newest(directory)
    assert newest is not None
    assert torch.equal(newest.tensors["a"], torch.full((1000,), float(newest.agent_steps)))
    CheckpointStore(directory, keep=2).save(Checkpoint(agent_steps=4, tensors={}, metadata={}))
    kept = [1, 2, 3][newest.agent_steps - 1 : newest.agent_steps]
    assert sorted(path.name for path in directory.iterdir()) == [f"checkpoint-{step:012d}" for step in (*kept, 4)]
    return newest.agent_steps


def kill_everywhere(saver: Saver, tmp_path: Path, calls: tuple[str, ...]) -> None:
    code, log = saver.save(tmp_path / "whole", calls)
    assert code == 0
    seen: Counter[str] = Counter()
    places = []
    for name, _ in calls_of(log):
        seen[name] += 1
        places.append((name, seen[name]))
    found = []
    for number, place in enumerate(places):
        code, _ = saver.save(tmp_path / str(number), calls, place)
        assert code == -signal.SIGKILL, f"{place}: it should have been killed there"
        found.append(assert_loads(tmp_path / str(number)))
    print(f"killed at each of {len(places)} calls ({dict(seen)}): {found.count(2)} times the old one, "
          f"{found.count(3)} times the new one")  # fmt: skip
    assert found == sorted(found), "once the new one is there it stays"
    assert set(found) == {2, 3}


def test_killed_at_every_call_that_decides(saver: Saver, tmp_path: Path) -> None:
    kill_everywhere(saver, tmp_path, DECISIVE)


@pytest.mark.slow
def test_killed_at_every_call(saver: Saver, tmp_path: Path) -> None:
    kill_everywhere(saver, tmp_path, EVERY)


def test_contents_reach_the_disk_before_names(saver: Saver, tmp_path: Path) -> None:
    """As the kernel saw it: both files, their folder, the rename, the folder above; only then the old one goes."""
    _, log = saver.save(tmp_path / "run", ("fsync", "rename", "unlinkat", "rmdir"))
    order = [
        (name, Path(paths[-1]).name)
        for name, rest in calls_of(log)
        if (paths := re.findall(r'<(/[^>]*)>|"(/[^"]*)"', rest)) and (paths := ["".join(pair) for pair in paths])
    ]
    assert order[:6] == [
        ("fsync", TENSORS_FILE),
        ("fsync", MANIFEST_FILE),
        ("fsync", ".partial-checkpoint-000000000003"),
        ("rename", "checkpoint-000000000003"),
        ("fsync", "run"),
        ("rename", ".partial-checkpoint-000000000001"),
    ]
    assert {name for name, _ in order[6:]} <= {"unlinkat", "rmdir"}
