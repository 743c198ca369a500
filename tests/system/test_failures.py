"""What fails inside a server ends it so that the next start goes on from sound parameters."""

from __future__ import annotations

import signal
from pathlib import Path

import psutil
import pytest
import torch

from seedbed.server.run.checkpoint import load_newest
from seedbed.server.run.state import RunState
from tests.system.processes import FAST, Program, eventually
from tests.system.test_health import http_address, metric

pytestmark = pytest.mark.system

TRAIN = ("train", "--preset", "cartpole", *FAST, "--max-steps", 10**8, "--checkpoint-interval-s", 1)

_AFTER_SOME_UPDATES = """
import threading, torch
from seedbed.server.learning.learner import Learner
update, number = Learner.update, 0
def faulty(self, *arguments):
    if self.num_updates < 40:
        return update(self, *arguments)
    {fault}
Learner.update = faulty
"""
STUCK = _AFTER_SOME_UPDATES.format(fault="threading.Event().wait()")
DEVICE_LOST = _AFTER_SOME_UPDATES.format(
    fault="raise torch.AcceleratorError('CUDA error: device-side assert triggered')"
)
NO_MEMORY = _AFTER_SOME_UPDATES.format(fault="raise torch.OutOfMemoryError('CUDA out of memory')")
DEFECT = _AFTER_SOME_UPDATES.format(fault="raise RuntimeError('a defect in the learner')")
DEFECT_AT_THE_END = f"""{DEFECT}
from seedbed.server.inference.policy_server import PolicyServer
stop = PolicyServer.announce_stop
def announce_stop(self):
    stop(self)
    raise RuntimeError("a defect at the end")
PolicyServer.announce_stop = announce_stop
"""
NOT_FINITE = """
from seedbed.server.algorithms.vtrace import VTrace
step, number = VTrace.step, 0
def faulty(self, *arguments):
    global number
    number += 1
    found = step(self, *arguments)
    return found if number <= 40 else found._replace(loss=found.loss * float("nan"))
VTrace.step = faulty
"""


def sound_state(run_dir: Path) -> RunState:
    """The newest checkpoint's, of which every number is finite."""
    checkpoint = load_newest(run_dir / "checkpoints")
    assert checkpoint is not None
    assert all(bool(tensor.isfinite().all()) for tensor in checkpoint.tensors.values())
    return RunState.from_checkpoint(checkpoint)


@pytest.mark.slow
def test_gradients_that_stay_infinite_end_the_run(tmp_path: Path) -> None:
    """Exit code 1, and the checkpoint from before is the newest: started again, the run goes on from there."""
    with Program(*TRAIN, "--max-lost-updates", 30, "--run-dir", tmp_path, prelude=NOT_FINITE) as program:
        assert program.wait() == 1
        program.assert_alone()
        assert "expected finite gradients" in program.stderr.splitlines()[-1]
    assert sound_state(tmp_path).updates > 0


@pytest.mark.slow
@pytest.mark.parametrize(
    ("fault", "code", "words"),
    [
        (STUCK, 75, "the learner has finished no update"),
        (DEVICE_LOST, 75, "the device is lost"),
        (NO_MEMORY, 75, "--batch-size"),
        (DEFECT, 1, "a defect in the learner"),
        (DEFECT_AT_THE_END, 1, "not all of the run has ended in order"),
    ],
    ids=["stuck", "device lost", "no memory", "defect", "defect at the end"],
)
def test_a_learner_that_fails(fault: str, code: int, words: str, tmp_path: Path) -> None:
    """Nothing is saved of it, nothing is left running, and the next start goes on."""
    with Program(*TRAIN, "--stall-limit-s", 2, "--run-dir", tmp_path, prelude=fault) as program:
        assert program.wait() == code
        program.assert_alone()
        assert words in program.stderr
        assert "faulty" in program.stderr, "where it stood"
    before = sound_state(tmp_path) if any((tmp_path / "checkpoints").iterdir()) else RunState()
    assert before.updates <= 40
    with Program(*TRAIN, "--run-dir", tmp_path) as program:
        program.eventually(lambda: "connected to" in program.stderr, "a client")
        program.send(signal.SIGTERM)
        assert program.wait() == 0
    assert sound_state(tmp_path).updates >= before.updates


@pytest.mark.slow
def test_a_full_disk_costs_checkpoints_and_nothing_else(tmp_path: Path) -> None:
    """The alarm is a metric; the next attempt after there is room again succeeds."""
    options = ("--checkpoint-interval-s", 0.5, "--http-port", 0, "--run-dir", tmp_path)
    with Program(*TRAIN, *options) as program:
        address = http_address(program)
        program.eventually(lambda: metric(address, "seedbed_checkpoints_total") >= 1, "a checkpoint")
        disk = psutil.Process(program.process.pid)
        # No file may grow beyond what the log has: much less than the tensors.
        disk.rlimit(psutil.RLIMIT_FSIZE, (60_000, psutil.RLIM_INFINITY))
        program.eventually(lambda: metric(address, "seedbed_checkpoint_failures_total") >= 2, "failures")
        updates = metric(address, "seedbed_updates_total")
        good = sound_state(tmp_path)
        program.eventually(lambda: metric(address, "seedbed_updates_total") > updates, "training to go on")
        disk.rlimit(psutil.RLIMIT_FSIZE, (psutil.RLIM_INFINITY, psutil.RLIM_INFINITY))
        program.eventually(lambda: metric(address, "seedbed_checkpoint_age_seconds") < 0.5, "a checkpoint again")
        program.send(signal.SIGTERM)
        assert program.wait() == 0
    eventually(lambda: sound_state(tmp_path).updates > good.updates, "a newer one")
    assert torch.is_tensor(sound_state(tmp_path).random)
