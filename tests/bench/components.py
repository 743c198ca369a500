"""What each part of an agent step costs when it runs alone, at the batch sizes that the preset gives it.

    environment   one process steps one message's worth of environments with random actions, resets included
    inference     gather, stack, policy, sample, actions out, agent state and unrolls stored: the real `Inference`
    hand_over     complete unrolls into the learner's queue and out again as a train batch
    training      the real `Learner.update` and the publishing of its parameters
    transport     see `tests/bench/wire.py`

CPU time counts, since wall-clock time depends on what else runs. An agent step is an answered row that is not LAST.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np

from seedbed.common.specs import ArraySpec, EnvironmentSpec
from seedbed.common.timestep import Array, StepType
from seedbed.env_client.environments.building import make_environments
from seedbed.env_client.environments.rows import Environments
from seedbed.server.options.config import ServerConfig

NUM_ACTION_SETS = 64  # drawn beforehand, shown in turn


@dataclass(frozen=True, slots=True)
class Cost:
    """Of one agent step, in microseconds: on cores, and by the clock."""

    cpu_us: float
    wall_us: float


class Stopwatch:
    """Adds up the time between `running`'s entries and exits.

    Attributes:
        cpu_s, wall_s: so far; CPU seconds are those of this whole process.
    """

    def __init__(self, synchronise: Callable[[], None] = lambda: None) -> None:
        """`synchronise` waits for the device, so that its work counts where it was asked for."""
        self.cpu_s = self.wall_s = 0.0
        self._synchronise = synchronise

    @contextmanager
    def running(self) -> Iterator[None]:
        """Counts the time of the block."""
        cpu_s, wall_s = time.process_time(), time.perf_counter()
        yield
        self._synchronise()
        self.cpu_s += time.process_time() - cpu_s
        self.wall_s += time.perf_counter() - wall_s

    def per_step(self, num_steps: int) -> Cost:
        """The cost of one of so many agent steps."""
        return Cost(self.cpu_s / num_steps * 1e6, self.wall_s / num_steps * 1e6)


class EnvironmentAlone:
    """The environments of one message, stepped as a client steps them."""

    def __init__(self, config: ServerConfig, environment_id: str | None = None) -> None:
        """Builds them.

        Args:
            config: gives the environment, and how many of them there are in a message.
            environment_id: another environment than the configuration's.
        """
        environment = config.environment
        self._environments = make_environments(
            environment_id or environment.env_id,
            environment.atari_preset,
            range(rows_per_message(config)),
            environment.seed,
        )
        self._actions = _random_actions(self._environments)
        self._environments.reset()

    def measure(self, seconds: float) -> Cost:
        """Steps for so long."""
        watch, num_steps, turn = Stopwatch(), 0, 0
        deadline_s = time.monotonic() + seconds
        while time.monotonic() < deadline_s:
            with watch.running():
                rows = self._environments.step(self._actions[turn % NUM_ACTION_SETS])
            num_steps += int(np.count_nonzero(rows.step_type != StepType.LAST))
            turn += 1
        return watch.per_step(num_steps)

    def close(self) -> None:
        """Ends them."""
        self._environments.close()


def num_clients(config: ServerConfig) -> int:
    """Local client processes of a run."""
    return min(config.fleet.num_clients or os.cpu_count() or 1, config.fleet.num_envs)


def rows_per_message(config: ServerConfig) -> int:
    """E of a local client's larger group: it steps one half of its environments while the other half waits."""
    per_client = -(-config.fleet.num_envs // num_clients(config))
    return -(-per_client // 2)


def inference_batch(config: ServerConfig) -> int:
    """N: one message of every client, as far as that fits into a batch."""
    rows = rows_per_message(config) * num_clients(config)
    return min(rows, config.serving.max_inference_batch, config.fleet.num_envs)


def synthetic_id(spec: EnvironmentSpec) -> str:
    """The synthetic environment whose messages are as large as those of a spec.

    The values differ and several arrays become one: transport looks at neither, but for whether floats are finite.
    Answers other than one discrete action become one of two values: a few bytes less.
    """
    (action, *others) = spec.actions
    single = not others and action.kind == "discrete" and action.shape == ()
    actions = spec.num_actions if single else 2
    observation = spec.observations[0]
    if len(spec.observations) > 1:
        dtype, shape = "uint8", str(sum(array.row_bytes for array in spec.observations))
    else:
        dtype, shape = observation.dtype, "x".join(map(str, observation.shape)) or "1"
    return f"seedbed/Synthetic-v0,shape={shape},dtype={dtype},actions={actions},length=1000"


def _random_actions(environments: Environments) -> list[tuple[Array, ...]]:
    """Of every array, as they come over the wire."""
    rng, rows = np.random.default_rng(0), len(environments.indices)

    def drawn(spec: ArraySpec) -> Array:
        if spec.kind == "box":
            return rng.uniform(-1.0, 1.0, (rows, *spec.shape)).astype(np.float32)
        counts = np.array(spec.num_values).reshape(spec.shape)
        return rng.integers(counts, size=(rows, *spec.shape)).astype(spec.numpy_dtype)

    return [tuple(map(drawn, environments.spec.actions)) for _ in range(NUM_ACTION_SETS)]
