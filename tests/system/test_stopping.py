"""A server that is told to stop at any moment: exit code 0, a checkpoint, and no step lost or counted twice.

The steps are counted by the client too, which knows nothing of the server's counters: what it was answered was counted,
and nothing that it never sent.
"""

from __future__ import annotations

import contextlib
import os
import queue
import random
import signal
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

import numpy as np
import pytest

from seedbed.common.timestep import StepType
from seedbed.server.run.checkpoint import load_newest
from seedbed.server.run.directory import RunDirectory
from seedbed.server.run.state import RunState
from tests.conformance.wire import Ended, RawClient, ServerUnderTest
from tests.system.processes import FAST, START_S, Program, eventually

pytestmark = pytest.mark.system


@dataclass
class Driver:
    """A client that counts its steps; use it as a context.

    Attributes:
        sent, answered: rows that were not LAST.
    """

    server: ServerUnderTest
    sent: int = 0
    answered: int = 0
    _leaving: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> Driver:
        self._thread = threading.Thread(target=self._drive)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._leaving.set()
        self._thread.join()

    def _drive(self) -> None:
        client = RawClient(self.server, num_envs=8)
        with contextlib.suppress(Ended, queue.Empty, AssertionError):  # an answer that is a Drain is none
            client.connect()
            while not self._leaving.is_set():
                steps = client.steps()
                rows = int(np.count_nonzero(np.frombuffer(steps.steps.step_type, "u1") != StepType.LAST))
                self.sent += rows
                client.stream.send(steps)
                client.answer()
                self.answered += rows
        client.leave()


def saved_state(run_dir: Path) -> RunState:
    """What the next start goes on from."""
    checkpoint = load_newest(run_dir / "checkpoints")
    return RunState() if checkpoint is None else RunState.from_checkpoint(checkpoint)


def catches_sigterm(pid: int) -> bool:
    """Whether the process has a handler, from the mask that the kernel shows."""
    status = Path(f"/proc/{pid}/status").read_text()
    caught = int(next(line.split()[1] for line in status.splitlines() if line.startswith("SigCgt")), 16)
    return bool(caught >> (signal.SIGTERM - 1) & 1)


@contextlib.contextmanager
def driven(program: Program, run_dir: Path) -> Iterator[Driver]:
    """A server with a client that counts."""
    address = program.address
    run = RunDirectory(run_dir).read()
    assert run is not None
    with Driver(ServerUnderTest(address=address, spec=run.spec, num_slots=16, grace_s=30.0)) as driver:
        yield driver


class When(StrEnum):
    """From which moment on the time to the signal is counted."""

    STARTED = "started"  # it listens to the signal, and has not even imported torch
    SERVING = "serving"
    SAVING = "saving"  # it serves, and has begun to write a checkpoint


def await_save(run_dir: Path) -> None:
    """Returns in the midst of the next checkpoint, mostly: it is written beside its place."""
    deadline_s = time.monotonic() + START_S
    while not list((run_dir / "checkpoints").glob(".partial-*")):
        assert time.monotonic() < deadline_s, "expected a checkpoint being written"


def stop_after(run_dir: Path, wait_s: float, when: When) -> str:
    """Starts a server, sends SIGTERM, and checks what it leaves.

    Args:
        run_dir: of a run, new or not.
        wait_s: from that moment to the signal.
        when: which moment.

    Returns:
        A line of the table.
    """
    before = saved_state(run_dir)
    options = ("--run-dir", run_dir, "--max-steps", 10**8, "--checkpoint-interval-s", 0.1)
    driver = None
    with Program("server", "--preset", "cartpole", *FAST, *options) as program:
        eventually(lambda: catches_sigterm(program.process.pid), "a handler")
        with contextlib.nullcontext() if when is When.STARTED else driven(program, run_dir) as driver:
            time.sleep(wait_s)
            if when is When.SAVING:
                await_save(run_dir)
            program.send(signal.SIGTERM)
            assert program.wait() == 0
        program.assert_alone()
        assert "Traceback" not in program.stderr
        served = "serving on" in program.stderr
    sent, answered = (driver.sent, driver.answered) if driver else (0, 0)
    after = saved_state(run_dir)
    if after.agent_steps:
        assert after.learner is not None, "a checkpoint"
    else:
        assert not run_dir.exists(), "nothing, of a run that has not begun"
    new, updates = after.agent_steps - before.agent_steps, after.updates - before.updates
    assert answered <= new <= sent, "every answered step once, and nothing else"
    assert updates >= 0
    assert after.consumed - before.consumed <= 2 * sent, (
        "no transition in two batches, the pairs LAST -> FIRST included"
    )
    doing = "training" if updates else "serving" if served else "starting"
    counts = f"{answered:6} answered <= {new:6} counted <= {sent:6} sent  {updates:4} updates"
    return f"{when:<8} + {wait_s:4.2f} s  {doing:<8}  {counts}"


@pytest.mark.timeout(400)
def test_sigterm_while_starting_and_while_training(tmp_path: Path) -> None:
    """Three moments, in a row, of the same run."""
    for wait_s, when in ((0.1, When.STARTED), (2.0, When.SERVING), (0.0, When.SAVING)):
        print(stop_after(tmp_path / "run", wait_s, when))
    assert saved_state(tmp_path / "run").updates > 0


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("seed", range(5))
def test_sigterm_at_ten_of_fifty_random_moments(seed: int, tmp_path: Path) -> None:
    """Four while it starts, which takes seconds; four while it serves; two in the midst of a checkpoint."""
    moments = random.Random(seed)
    kinds = [When.STARTED, When.SERVING] * 4 + [When.SAVING] * 2
    moments.shuffle(kinds)
    for number, when in enumerate(kinds, 1):
        wait_s = moments.uniform(0, 4 if when is When.STARTED else 3)
        print(f"{number:2}: {stop_after(tmp_path / 'run', wait_s, when)}", flush=True)
    print(f"{len(kinds)} of {len(kinds)} exits with 0 and a checkpoint that loads, no step counted twice")


def test_a_second_signal_leaves_at_once(tmp_path: Path) -> None:
    """Something that will not stop holds the first one up: a frozen client, for which the server has patience."""
    with Program("train", "--preset", "cartpole", *FAST, "--run-dir", tmp_path / "run") as program:
        program.eventually(lambda: "connected to" in program.stderr, "a client")
        for client in program.clients():
            client.suspend()
        program.send(signal.SIGTERM)
        time.sleep(0.5)
        assert program.process.poll() is None
        program.send(signal.SIGTERM)
        assert program.wait(2.0) == -signal.SIGTERM
        for client in program.clients():
            client.resume()
        program.assert_alone()


def test_a_terminal_that_closes_costs_nothing(tmp_path: Path) -> None:
    """All processes of its group get SIGHUP, from the kernel and once more from the shell."""
    with Program("train", "--preset", "cartpole", *FAST, "--run-dir", tmp_path / "run") as program:
        program.eventually(lambda: "connected to" in program.stderr, "a client")
        for _ in range(2):
            os.killpg(program.process.pid, signal.SIGHUP)
            time.sleep(0.05)
        assert program.wait() == 0
        program.assert_alone()
        assert "is gone" not in program.stderr, "frontends outlive it too"
    assert saved_state(tmp_path / "run").learner is not None
