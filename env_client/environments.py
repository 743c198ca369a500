"""E environments as rows of timesteps, and how an id becomes an environment.

Ids: "ALE/Pong-v5" (or "Pong"), "seedbed/Catch-v0", "seedbed/MemoryChain-v0", "seedbed/Synthetic-v0",
"seedbed/Echo-v0", and everything that Gymnasium has registered. Options of the built-in ones follow after commas:
"seedbed/MemoryChain-v0,length=12".
"""

from __future__ import annotations

import dataclasses
import difflib
import logging
from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np

from seedbed.common.errors import SpecError
from seedbed.common.specs import EnvironmentSpec
from seedbed.common.timestep import (
    DISCOUNT_DTYPE,
    REWARD_DTYPE,
    STEP_TYPE_DTYPE,
    Array,
    EpisodeEnd,
    StepType,
    Timesteps,
)
from seedbed.env_client.environment import Environment, Status
from seedbed.env_client.synthetic import Echo, EchoOptions, Synthetic, SyntheticOptions
from seedbed.env_client.tasks import Catch, MemoryChain, MemoryChainOptions

_log = logging.getLogger(__name__)

Builder = Callable[[int, int], Environment]
"""(stable index, seed) -> environment."""

_OptionsT = TypeVar("_OptionsT")

_LOCAL_OPTIONS = ("step_ms", "jitter_ms", "check")
"""Options that do not change what the environment looks like: left out of the spec's id."""


class Environments:
    """E environments which are stepped one after another in the calling thread.

    Args:
        environments: at least one; all have the same spec.
        indices: their stable indices in the fleet, one each.
    """

    def __init__(self, environments: Sequence[Environment], indices: Sequence[int]) -> None:
        self.spec = environments[0].spec
        self.indices = tuple(indices)
        self._environments = tuple(environments)
        num_rows = len(environments)
        self._step_type = np.zeros(num_rows, STEP_TYPE_DTYPE)
        self._reward = np.zeros(num_rows, REWARD_DTYPE)
        self._discount = np.ones(num_rows, DISCOUNT_DTYPE)
        self._observations: tuple[Array, ...] = tuple(
            np.zeros((num_rows, *spec.shape), spec.numpy_dtype) for spec in self.spec.observations
        )
        # `[row, ...]` keeps scalar observations writable views.
        self._rows = [tuple(array[row, ...] for array in self._observations) for row in range(num_rows)]
        self._status = [Status.RUNNING] * num_rows
        self._return = [0.0] * num_rows
        self._steps = [0] * num_rows

    def reset(self) -> Timesteps:
        """Starts an episode in every row.

        Returns:
            All rows FIRST. The arrays belong to this object: the next call writes into them.
        """
        for row in range(len(self._environments)):
            self._start(row)
        return self._timesteps([])

    def step(self, actions: tuple[Array, ...]) -> Timesteps:
        """Steps every row that is within an episode, and starts a new one in the rows that were LAST.

        Args:
            actions: one array `[E, ...]` for each action spec; rows that were LAST are ignored.

        Returns:
            The next timesteps. The arrays belong to this object: the next call writes into them.
        """
        ends: list[EpisodeEnd] = []
        for row in range(len(self._environments)):
            if self._step_type[row] == StepType.LAST:
                self._start(row)
            else:
                self._advance(row, actions, ends)
        return self._timesteps(ends)

    def close(self) -> None:
        """Closes all of them."""
        for environment in self._environments:
            environment.close()

    def _start(self, row: int) -> None:
        if self._status[row] is not Status.LIFE_LOST:  # a real episode starts
            self._return[row] = 0.0
            self._steps[row] = 0
        self._environments[row].reset(self._rows[row])
        self._status[row] = Status.RUNNING
        self._step_type[row] = StepType.FIRST
        self._reward[row] = 0.0
        self._discount[row] = 1.0

    def _advance(self, row: int, actions: tuple[Array, ...], ends: list[EpisodeEnd]) -> None:
        environment = self._environments[row]
        reward, status = environment.step(tuple(array[row] for array in actions), self._rows[row])
        self._return[row] += reward
        self._steps[row] += 1
        self._status[row] = status
        self._step_type[row] = StepType.MID if status is Status.RUNNING else StepType.LAST
        self._reward[row] = reward
        self._discount[row] = 0.0 if status in (Status.TERMINATED, Status.LIFE_LOST) else 1.0
        if status in (Status.TERMINATED, Status.TRUNCATED):
            ends.append(EpisodeEnd(row, self._return[row], self._steps[row], environment.frames))

    def _timesteps(self, ends: list[EpisodeEnd]) -> Timesteps:
        return Timesteps(self._step_type, self._reward, self._discount, self._observations, tuple(ends))


def make_environments(
    environment_id: str, preset: str, indices: Sequence[int], run_seed: int, *, allow_import: bool = False
) -> Environments:
    """Builds one environment for each index.

    Args:
        environment_id: see the top of this file.
        preset: of Atari preprocessing; environments without presets ignore it.
        indices: stable indices, unique in the fleet. At least one.
        run_seed: with an index it decides an environment's seed.
        allow_import: accept "module:id", which imports and so runs the module.

    Raises:
        SpecError: unknown id or preset, an unsupported space, or an id that would import a module.
        MissingExtraError: a package that the environment needs is not installed.
    """
    build = _builder(environment_id, preset, allow_import)
    seeds = {index: environment_seed(run_seed, index) for index in indices}
    environments = [build(index, seed) for index, seed in seeds.items()]
    _log.info("%s, seed of each environment index: %s", environments[0].spec.environment, seeds)
    return Environments(environments, indices)


def describe(environment_id: str, preset: str, *, allow_import: bool = False) -> EnvironmentSpec:
    """The spec of an environment, found out by building one.

    Raises:
        SpecError, MissingExtraError: as in `make_environments`.
    """
    environment = _builder(environment_id, preset, allow_import)(0, 0)
    environment.close()
    return environment.spec


def environment_seed(run_seed: int, index: int) -> int:
    """The seed of one environment: a 32-bit number, the same wherever and whenever the environment runs."""
    return int(np.random.SeedSequence([run_seed, index]).generate_state(1)[0])


def _builder(environment_id: str, preset: str, allow_import: bool) -> Builder:
    if ":" in environment_id and not allow_import:
        raise SpecError(
            f"{environment_id!r} would import a module; if that is meant, give it as --env and say --allow-import"
        )
    if environment_id.startswith("seedbed/"):
        return _built_in(environment_id)
    # Imported late: a client pays only for what it steps.
    if environment_id.startswith("ALE/") or environment_id.isalnum():  # Gymnasium's own ids all carry a version
        from seedbed.env_client.atari import AtariEnvironment, game_id

        full_id = environment_id if "/" in environment_id else game_id(environment_id)
        return lambda _, seed: AtariEnvironment(full_id, preset, seed)
    from seedbed.env_client.gymnasium_adapter import GymnasiumEnvironment

    return lambda _, seed: GymnasiumEnvironment(environment_id, seed)


def _built_in(environment_id: str) -> Builder:
    name, *given = environment_id.split(",")
    if name == "seedbed/Catch-v0" and not given:
        return lambda _, seed: Catch(name, seed)
    if name == "seedbed/MemoryChain-v0":
        full_id, chain = _read_options(name, given, MemoryChainOptions())
        return lambda _, seed: MemoryChain(full_id, chain, seed)
    if name == "seedbed/Synthetic-v0":
        full_id, synthetic = _read_options(name, given, SyntheticOptions())
        return lambda _, seed: Synthetic(full_id, synthetic, seed)
    if name == "seedbed/Echo-v0":
        full_id, echo = _read_options(name, given, EchoOptions())
        return lambda index, seed: Echo(full_id, echo, index, seed)
    known = [f"seedbed/{task}-v0" for task in ("Catch", "MemoryChain", "Synthetic", "Echo")]
    near = difflib.get_close_matches(name, known, n=1) or known
    raise SpecError(f"unknown environment {environment_id!r}: did you mean {', '.join(near)}?")


def _read_options(name: str, given: Sequence[str], defaults: _OptionsT) -> tuple[str, _OptionsT]:
    """Reads `key=value` parts.

    Returns:
        The id with the options that belong to the contract, sorted, without those that have their default; all options.

    Raises:
        SpecError: an unknown key, or a value of the wrong kind.
    """
    kinds = {field.name: type(getattr(defaults, field.name)) for field in dataclasses.fields(defaults)}  # type: ignore[arg-type]
    values = {}
    for part in given:
        key, _, text = part.partition("=")
        if key not in kinds:
            raise SpecError(f"{name}: expected options out of {', '.join(kinds)}, got {part!r}")
        try:
            values[key] = kinds[key](text)
        except ValueError:
            raise SpecError(f"{name}: expected {key} to be of type {kinds[key].__name__}, got {text!r}") from None
    contract = [
        f",{key}={values[key]}"
        for key in sorted(values)
        if key not in _LOCAL_OPTIONS and values[key] != getattr(defaults, key)
    ]
    return name + "".join(contract), dataclasses.replace(defaults, **values)  # type: ignore[type-var]
