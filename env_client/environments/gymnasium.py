"""Any Gymnasium environment with arrays as observations and discrete actions."""

from __future__ import annotations

import difflib
from typing import Any

import numpy as np

from seedbed.common.errors import MissingExtraError, SpecError
from seedbed.common.specs import ArraySpec, EnvironmentSpec
from seedbed.env_client.environments.interface import Row, Status

_DTYPES = {
    "bool": "uint8",
    "uint8": "uint8",
    "int8": "int32",
    "int16": "int32",
    "uint16": "int32",
    "int32": "int32",
    "int64": "int64",
    "float16": "float32",
    "float32": "float32",
    "float64": "float32",
}
"""What travels for each dtype of a space. Only float64 loses digits, which no network would have used."""

SUPPORTED = "supported are Box, Discrete and MultiBinary observations and Discrete actions"


class GymnasiumEnvironment:
    """One Gymnasium environment.

    Args:
        environment_id: a registered id; "module:id" imports the module, so the caller must have allowed it.
        seed: of its first reset; later episodes go on with the same random numbers.

    Raises:
        MissingExtraError: Gymnasium, or what this environment needs beside it, is not installed.
        SpecError: unknown id, or a space that is not supported.
    """

    def __init__(self, environment_id: str, seed: int) -> None:
        self._env = _make(environment_id)
        self._seed: int | None = seed
        self.frames = 0
        observation_space, action_space = self._env.observation_space, self._env.action_space
        # A Discrete space counts from `start`, the wire from 0.
        self._observation_start = getattr(observation_space, "start", 0)
        self._action_start = int(getattr(action_space, "start", 0))
        try:
            if type(action_space).__name__ != "Discrete":
                raise SpecError(f"action space {action_space}: {SUPPORTED}")
            self.spec = EnvironmentSpec(
                environment=self._env.spec.id,
                observations=(array_spec("observation", observation_space),),
                actions=(array_spec("action", action_space),),
            )
        except SpecError as error:
            self._env.close()
            raise SpecError(f"{environment_id}: {error}") from None

    def reset(self, observation: Row) -> None:
        """Starts an episode."""
        value, _ = self._env.reset(seed=self._seed)
        self._seed = None
        self.frames = 0
        self._write(value, observation)

    def step(self, action: Row, observation: Row) -> tuple[float, Status]:
        """Takes one step; an episode that is terminated and truncated at once counts as terminated."""
        taken = int(action[0]) + self._action_start
        value, reward, terminated, truncated, _ = self._env.step(taken)
        self.frames += 1
        self._write(value, observation)
        if terminated:
            return float(reward), Status.TERMINATED
        return float(reward), Status.TRUNCATED if truncated else Status.RUNNING

    def close(self) -> None:
        """Closes the environment, with its windows."""
        self._env.close()

    def _write(self, value: Any, observation: Row) -> None:
        observation[0][...] = value - self._observation_start if self._observation_start else value


def array_spec(name: str, space: Any) -> ArraySpec:
    """What travels for a space.

    Args:
        name: of the array.
        space: a Gymnasium space.

    Raises:
        SpecError: the space is not one array of numbers.
    """
    kind = type(space).__name__
    if kind == "Discrete":
        return ArraySpec(name=name, dtype="int64", minimum=0, maximum=int(space.n) - 1)
    if kind == "MultiBinary":
        return ArraySpec(name=name, dtype="uint8", shape=tuple(space.shape), minimum=0, maximum=1)
    if kind == "Box" and space.dtype.name in _DTYPES:
        return ArraySpec(
            name=name,
            dtype=_DTYPES[space.dtype.name],
            shape=tuple(space.shape),
            minimum=_finite(space.low.min()),
            maximum=_finite(space.high.max()),
        )
    raise SpecError(f"{name} space {space}: {SUPPORTED}")


def _finite(bound: Any) -> float | None:
    return float(bound) if np.isfinite(bound) else None


def _make(environment_id: str) -> Any:
    try:
        import gymnasium
    except ImportError as error:
        raise MissingExtraError(f"{environment_id} needs `pip install seedbed[env]` ({error})") from error
    try:
        # The checker warns about style and costs time in every step.
        return gymnasium.make(environment_id, disable_env_checker=True)
    except (gymnasium.error.DependencyNotInstalled, ImportError) as error:
        raise MissingExtraError(f"{environment_id}: {error}") from error
    except gymnasium.error.Error as error:
        near = difflib.get_close_matches(environment_id, gymnasium.registry, n=3)
        hint = f"; did you mean {', '.join(near)}?" if near else ""
        raise SpecError(f"cannot make {environment_id!r}: {error}{hint}") from error
