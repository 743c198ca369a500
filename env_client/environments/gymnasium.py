"""Any Gymnasium environment with arrays as observations and discrete actions."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seedbed.common.errors import MissingExtraError, SpecError
from seedbed.common.specs import MAX_BOUNDS, ArraySpec, EnvironmentSpec, discrete
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
        observation[0][...] = value


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
        return discrete(name, int(space.n), start=int(space.start))
    if kind == "MultiBinary":
        shape = tuple(space.shape)
        return ArraySpec(name=name, dtype="uint8", shape=shape, low=(0,), high=(1,), kind="binary", source_dtype="int8")
    if kind == "Box" and space.dtype.name in _DTYPES:
        return ArraySpec(
            name=name,
            dtype=_DTYPES[space.dtype.name],
            shape=tuple(space.shape),
            low=_bounds(space.low, np.min),
            high=_bounds(space.high, np.max),
            source_dtype=space.dtype.name,
        )
    raise SpecError(f"{name} space {space}: {SUPPORTED}")


def _bounds(bounds: NDArray[Any], widest: Callable[[NDArray[Any]], Any]) -> tuple[float, ...]:
    """One bound for each element; of too many the widest alone."""
    return tuple(bounds.flatten().tolist()) if bounds.size <= MAX_BOUNDS else (float(widest(bounds)),)


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
