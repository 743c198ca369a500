"""An environment in a process of its own: the same timesteps, and every fault is an exception."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import psutil
import pytest

from seedbed.common.echo import ECHO_ACTIONS, echo_action
from seedbed.common.errors import BrokenError, InvalidMessageError, SpecError, UsageError
from seedbed.env_client.environments.building import Care, describe, make_environments
from seedbed.env_client.environments.interface import Limits
from seedbed.env_client.environments.isolated import EnvironmentProcessError, IsolatedEnvironment
from seedbed.env_client.environments.isolated_process import Recipe
from seedbed.env_client.environments.rows import Environments

pytestmark = pytest.mark.system

_ACTION = (np.array(0),)
BRISK = Limits(step_s=1.0, reset_s=30.0)


def recipe(environment_id: str, **fields: int) -> Recipe:
    values = {"index": 0, "seed": 0, "allow_import": False, **fields}
    return Recipe(environment_id=environment_id, preset="", **values)  # type: ignore[arg-type]


@contextmanager
def isolated(environment_id: str, limits: Limits = BRISK) -> Iterator[IsolatedEnvironment]:
    environment = IsolatedEnvironment(recipe(environment_id), limits)
    try:
        yield environment
    finally:
        environment.close()
        assert environment._process.returncode is not None, "nothing is left behind"


@contextmanager
def fleet(environment_id: str, num_envs: int, care: Care) -> Iterator[Environments]:
    environments = make_environments(environment_id, "", range(num_envs), 3, care)
    yield environments
    environments.close()


@pytest.mark.parametrize("environment_id", ["seedbed/Echo-v0", "seedbed/Catch-v0", "CartPole-v1"])
def test_it_is_the_same_environment(environment_id: str) -> None:
    care = Care(isolate=True, limits=BRISK)
    with fleet(environment_id, 2, Care()) as near, fleet(environment_id, 2, care) as far:
        assert near.spec == far.spec == describe(environment_id, "", care)
        ours, theirs = near.reset(), far.reset()
        num_ends = 0
        for step in range(120):
            for name in ("step_type", "reward", "discount"):
                np.testing.assert_array_equal(getattr(ours, name), getattr(theirs, name))
            np.testing.assert_array_equal(ours.observations, theirs.observations)
            assert ours.episode_ends == theirs.episode_ends
            num_ends += len(ours.episode_ends)
            actions = (np.full(2, step // 5 % 2),)
            ours, theirs = near.step(actions), far.step(actions)
        assert num_ends > 2


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("raise", "RuntimeError.*on purpose(?s:.)*Traceback(?s:.)*in _raise"),
        ("hang", "no answer within 1 s"),
        ("hang-alone", "no answer within 1 s"),
        ("crash", "ended by SIGSEGV"),
        ("quit", "SystemExit"),
        ("vanish", "ended with exit code 3"),
    ],
)
def test_faults_are_exceptions(fault: str, message: str) -> None:
    with isolated(f"seedbed/Echo-v0,fault={fault},fault_at=2") as environment:
        observation = (np.zeros(3, np.float32),)
        environment.reset(observation)
        environment.step(_ACTION, observation)
        with pytest.raises(EnvironmentProcessError, match=message):
            environment.step(_ACTION, observation)


def test_a_killed_process_is_an_exception() -> None:
    with isolated("seedbed/Echo-v0") as environment:
        observation = (np.zeros(3, np.float32),)
        environment.reset(observation)
        os.kill(environment._process.pid, signal.SIGKILL)
        with pytest.raises(EnvironmentProcessError, match="ended by SIGKILL"):
            environment.step(_ACTION, observation)


def test_messages_to_a_person_keep_their_class() -> None:
    with isolated("seedbed/Nothing-v0") as environment, pytest.raises(SpecError, match="did you mean"):
        assert environment.spec
    with pytest.raises(UsageError, match="--allow-import"):
        describe("os:system", "", Care(isolate=True, limits=BRISK))
    with isolated("seedbed/Echo-v0,check=1") as environment:
        observation = (np.zeros(3, np.float32),)
        environment.reset(observation)
        wrong = (np.array((echo_action(observation[0]) + 1) % ECHO_ACTIONS),)
        with pytest.raises(InvalidMessageError, match="expected the echo"):
            environment.step(wrong, observation)


def test_one_that_cannot_be_built_in_time_is_told() -> None:
    with pytest.raises(BrokenError, match=r"cannot build seedbed/Echo-v0: no answer within 0.01 s"):
        describe("seedbed/Echo-v0", "", Care(isolate=True, limits=Limits(reset_s=0.01)))


def test_it_ends_with_the_process_that_started_it() -> None:
    """Even while it hangs."""
    program = (
        "import numpy as np, sys\n"
        "from seedbed.env_client.environments.building import Care, make_environments\n"
        "it = make_environments('seedbed/Echo-v0,fault=hang-alone', '', [0], 0, Care(isolate=True))\n"
        "it.reset()\n"
        "print(it._seats[0].environment._process.pid, flush=True)\n"
        "it.step((np.zeros(1, np.int64),))\n"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        child = psutil.Process(int(parent.stdout.readline()))
        time.sleep(0.3)
        parent.kill()
    child.wait(10.0)
