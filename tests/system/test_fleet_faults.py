"""One client, whatever it sends and however it dies, costs only its own rows: training goes on, and ends well."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from seedbed.common.timestep import LARGEST, MAX_COUNT, StepType
from seedbed.server.run.directory import RunDirectory
from tests.conformance.faults import STEPS_FAULTS
from tests.conformance.wire import RawClient, ServerUnderTest
from tests.system.processes import FAST, Program, read_metrics

pytestmark = pytest.mark.system

GRACE_S = 1.0
HUGE = LARGEST
"""More is refused."""


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of the training."""
    return tmp_path_factory.mktemp("runs") / "fleet"


@pytest.fixture(scope="module")
def training(run_dir: Path) -> Iterator[Program]:
    """One run that lives through all of this: three local clients, and room for strangers."""
    options = ("--num-envs", 6, "--num-clients", 3, "--num-slots", 128, "--grace-s", GRACE_S, "--max-seconds", 600)
    with Program("train", "--preset", "cartpole", *FAST, *options, "--run-dir", run_dir) as program:
        program.eventually(lambda: any(line["updates"] for line in read_metrics(run_dir)), "an update")
        program.eventually(lambda: program.stderr.count("connected to") == 3, "three clients")
        yield program
        program.send(signal.SIGTERM)
        assert program.wait() == 0
        assert "Traceback" not in program.stderr
        program.assert_alone()


@pytest.fixture
def unharmed(training: Program, run_dir: Path) -> Iterator[None]:
    """What happens meanwhile leaves no log interval without steps, and learning goes on with sound parameters."""
    began = len(read_metrics(run_dir))
    yield
    before = read_metrics(run_dir)[-1]["updates"]
    training.eventually(lambda: read_metrics(run_dir)[-1]["updates"] >= before + 20, "more updates")
    lines = read_metrics(run_dir)[began:]
    assert all(line["steps_per_s"] > 0 for line in lines)
    newest = [line for line in lines if "entropy" in line][-1]
    assert newest["loss"] is not None, f"NaN, which JSON has as null: {newest}"
    assert newest["entropy"] is not None, f"NaN, which JSON has as null: {newest}"


def _stranger(training: Program, run_dir: Path) -> ServerUnderTest:
    run_file = RunDirectory(run_dir).read()
    assert run_file is not None
    return ServerUnderTest(address=training.address, spec=run_file.spec, num_slots=128, grace_s=GRACE_S)


@pytest.mark.usefixtures("unharmed")
def test_hostile_clients(training: Program, run_dir: Path) -> None:
    """All wrong messages, one after the other, while training goes on."""
    server = _stranger(training, run_dir)
    for fault in STEPS_FAULTS:
        client = RawClient(server, num_envs=1)
        client.connect()
        for _ in range(2):
            client.exchange()
        steps = client.steps()
        fault.apply(steps.steps, server.spec)
        client.stream.send(steps)
        client.stream.break_off()


@pytest.mark.usefixtures("unharmed")
@pytest.mark.parametrize("what", ["observation", "reward", "episode_return"])
def test_numbers_that_are_legal_and_absurd(training: Program, run_dir: Path, what: str) -> None:
    """Whole unrolls of the largest float32: they may cost an update, but neither the parameters nor the run."""
    client = RawClient(_stranger(training, run_dir), num_envs=8)
    client.connect()
    for _ in range(60):
        message = client.steps()
        steps, huge = message.steps, np.full(client.num_envs, HUGE, "<f4")
        match what:
            case "observation":
                size = len(steps.observations[0]) // 4
                steps.observations[0] = np.full(size, HUGE, "<f4").tobytes()
            case "reward":
                steps.reward = np.where(np.frombuffer(steps.step_type, "u1") == 0, 0, huge).astype("<f4").tobytes()
            case "episode_return":
                if steps.step_type[0] == StepType.LAST:
                    steps.episode_ends.add(row=0, episode_return=-MAX_COUNT, steps=MAX_COUNT, frames=MAX_COUNT)
        client.stream.send(message)
        client.answer()
    client.leave()


@pytest.mark.usefixtures("unharmed")
def test_killed_and_frozen_clients(training: Program) -> None:
    """The killed one is started again; the frozen one stays frozen until the end of the run, which ends it too."""
    killed, frozen, _ = training.clients()
    frozen.suspend()
    killed.kill()
    training.eventually(lambda: training.stderr.count("connected to") == 4, "a client that is started again")
