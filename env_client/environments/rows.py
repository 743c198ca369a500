"""E environments as rows of timesteps.

An environment that breaks costs its own episode: that is cut like at a time limit, on its last observation, and a new
environment (`seat.py`) begins the next one. Such an end is no `EpisodeEnd`: it says nothing about the policy.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np

from seedbed.common.environment_name import EnvironmentName
from seedbed.common.errors import BrokenError, SeedbedError, SpecError
from seedbed.common.image_layout import image_layout
from seedbed.common.plugins import NOTHING_TYPED, Trust
from seedbed.common.specs import EnvironmentSpec
from seedbed.common.timestep import (
    DISCOUNT_DTYPE,
    LARGEST,
    MAX_COUNT,
    REWARD_DTYPE,
    STEP_TYPE_DTYPE,
    Array,
    EpisodeEnd,
    StepType,
    Timesteps,
    is_usable,
)
from seedbed.env_client.environments.filled_up import FilledUp, fits_among
from seedbed.env_client.environments.images import with_medians
from seedbed.env_client.environments.interface import Asides, Environment, Limits, Row, Status, info_of
from seedbed.env_client.environments.isolated import EnvironmentProcessError, IsolatedEnvironment
from seedbed.env_client.environments.isolated_process import Recipe
from seedbed.env_client.environments.making import told
from seedbed.env_client.environments.registry import Builder, builder, environment_seed, is_ours
from seedbed.env_client.environments.step_watchdog import Watchdog
from seedbed.env_client.environments.supervised import Supervised
from seedbed.env_client.environments.vectors import Kind

_log = logging.getLogger(__name__)


class Environments:
    """E environments which are stepped one after another in the calling thread.

    Args:
        seats: at least one; their environments have the same spec.
    """

    def __init__(self, seats: Sequence[Supervised]) -> None:
        first = seats[0].environment
        assert first is not None
        self.spec = first.spec
        self.indices = tuple(seat.index for seat in seats)
        self._seats = tuple(seats)
        num_rows = len(seats)
        self._step_type = np.zeros(num_rows, STEP_TYPE_DTYPE)
        self._reward = np.zeros(num_rows, REWARD_DTYPE)
        self._discount = np.ones(num_rows, DISCOUNT_DTYPE)
        self._observations: tuple[Array, ...] = tuple(
            np.zeros((num_rows, *spec.shape), spec.numpy_dtype) for spec in self.spec.observations
        )
        self._before = tuple(np.zeros_like(array) for array in self._observations)  # the last timestep's
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
        for row in range(len(self._seats)):
            self._start(row)
        return self._timesteps([])

    def step(self, actions: tuple[Array, ...]) -> Timesteps:
        """Steps every row that is within an episode, and starts a new one in the rows that were LAST.

        Args:
            actions: one array `[E, ...]` for each action spec; rows that were LAST are ignored.

        Returns:
            The next timesteps. The arrays belong to this object: the next call writes into them.
        """
        for before, array in zip(self._before, self._observations, strict=True):
            np.copyto(before, array)
        ends: list[EpisodeEnd] = []
        for row in range(len(self._seats)):
            if self._step_type[row] == StepType.LAST:
                self._start(row)
            else:
                self._advance(row, actions, ends)
        broken = self._fail_where_not_finite()
        return self._timesteps([end for end in ends if end.row not in broken] if broken else ends)

    def close(self) -> None:
        """Closes all of them."""
        for seat in self._seats:
            seat.close()

    def _start(self, row: int) -> None:
        rebuilt = self._seats[row].reset(self._rows[row])
        if rebuilt or self._status[row] is not Status.LIFE_LOST:  # a real episode starts
            self._return[row] = 0.0
            self._steps[row] = 0
        self._status[row] = Status.RUNNING
        self._step_type[row] = StepType.FIRST
        self._reward[row] = 0.0
        self._discount[row] = 1.0

    def _advance(self, row: int, actions: tuple[Array, ...], ends: list[EpisodeEnd]) -> None:
        seat = self._seats[row]
        result = seat.step(tuple(array[row] for array in actions), self._rows[row])
        if result is None:
            self._cut(row)
            return
        reward, status = result
        self._return[row] += reward
        if abs(self._return[row]) > MAX_COUNT:  # no server would take it
            seat.fail(ValueError(f"the return {self._return[row]} is out of bounds"))
            self._cut(row)
            return
        self._steps[row] += 1
        self._status[row] = status
        self._step_type[row] = StepType.MID if status is Status.RUNNING else StepType.LAST
        self._reward[row] = reward
        self._discount[row] = 0.0 if status in (Status.TERMINATED, Status.LIFE_LOST) else 1.0
        if status in (Status.TERMINATED, Status.TRUNCATED):
            assert seat.environment is not None
            frames, info = seat.environment.frames, info_of(seat.environment)
            truncated = status is Status.TRUNCATED
            ends.append(EpisodeEnd(row, self._return[row], self._steps[row], frames, truncated, info))

    def _cut(self, row: int) -> None:
        """The environment broke: its episode ends, truncated, with what was seen last."""
        for before, array in zip(self._before, self._observations, strict=True):
            array[row] = before[row]
        self._status[row] = Status.TRUNCATED
        self._step_type[row] = StepType.LAST
        self._reward[row] = 0.0
        self._discount[row] = 1.0

    def _fail_where_not_finite(self) -> set[int]:
        """A server refuses such a message and with it the whole client. All rows at once: it costs a microsecond."""
        broken: set[int] = set()
        for array, spec in zip(self._observations, self.spec.observations, strict=True):
            if array.dtype.kind == "f" and not is_usable(array):
                finite = (np.abs(array) <= LARGEST).reshape(len(array), -1).all(axis=1)
                for row in map(int, np.flatnonzero(~finite)):
                    if row not in broken:
                        self._seats[row].fail(ValueError(f"{spec.name!r} is not finite, or beyond {LARGEST:g}"))
                    broken.add(row)
        for row in broken:
            self._cut(row)
        return broken

    def _timesteps(self, ends: list[EpisodeEnd]) -> Timesteps:
        return Timesteps(self._step_type, self._reward, self._discount, self._observations, tuple(ends))


@dataclass(frozen=True, slots=True, kw_only=True)
class Care:
    """How much environments are trusted.

    Attributes:
        trust: what may be imported for their names.
        isolate: each in a process of its own.
        asides: what they show beside the contract.
        limits: how long each may take.
        watchdog: told when environments work.
        vector: a group is stepped by one call, see `vectors.py`; "none": one environment after another.
        vector_threads: of vectors that have threads.
        served: specs that a server lists: rows of an environment among them are filled up to its one.
    """

    trust: Trust = NOTHING_TYPED
    isolate: bool = False
    asides: Asides = field(default_factory=Asides)
    limits: Limits = field(default_factory=Limits)
    watchdog: Watchdog = field(default_factory=Watchdog)
    vector: Kind | Literal["none"] = "none"
    vector_threads: int = 1
    served: tuple[EnvironmentSpec, ...] = ()


def make_environments(
    environment: str, preset: str, indices: Sequence[int], run_seed: int, care: Care | None = None
) -> Environments:
    """Builds one environment for each index.

    Args:
        environment: its name with all that is asked for; see `registry.py`.
        preset: of Atari preprocessing; environments without presets ignore it.
        indices: stable indices, unique in the fleet. At least one.
        run_seed: with an index it decides an environment's seed.
        care: how much they are trusted.

    Raises:
        SpecError: unknown id or preset, an unsupported space, or keyword arguments that it does not take.
        UsageError: the id would import a module, and may not.
        MissingExtraError: a package that the environment needs is not installed.
    """
    care = care or Care()
    build = careful_builder(environment, preset, care)

    def seat(index: int) -> Supervised:
        def build_again(rebuilt: int) -> Environment:
            return build(index, environment_seed(run_seed, index, rebuilt))

        return Supervised(index, build_again, limits=care.limits, watchdog=care.watchdog)

    environments = Environments([seat(index) for index in indices])
    seeds = {index: environment_seed(run_seed, index) for index in indices}
    _log.info("%s, seed of each environment index: %s", environments.spec.environment, seeds)
    return environments


def describe(environment: str, preset: str, care: Care | None = None) -> EnvironmentSpec:
    """The spec of an environment, found out by building one and, of somebody else's and of images, by looking at it.

    Raises:
        SpecError, UsageError, MissingExtraError: as in `make_environments`, or it shows something else than it says.
        BrokenError: it is isolated, and its process died or hung.
    """
    care = replace(care or Care(), asides=Asides())
    build = careful_builder(environment, preset, care)
    seat = Supervised(0, lambda _: build(0, 0), limits=care.limits, watchdog=care.watchdog)
    assert seat.environment is not None
    try:
        if is_ours(environment) and not any(map(image_layout, seat.environment.spec.observations)):
            return seat.environment.spec
        return with_medians(seat.environment.spec, _try_out(seat.environment))
    except EnvironmentProcessError as error:
        raise BrokenError(f"cannot build {environment}: {error}") from error
    except SeedbedError:
        raise
    except (Exception, SystemExit) as fault:
        _log.debug("%s failed", environment, exc_info=True)
        raise SpecError(f"{environment}: its first reset or step raised {told(fault)}") from fault
    finally:
        seat.close()


def _try_out(environment: Environment) -> Row:
    """What is shown after a reset and one step; the environment looks at it itself, too."""
    spec = environment.spec
    row = tuple(np.zeros(array.shape, array.numpy_dtype) for array in spec.observations)
    environment.reset(row)
    environment.step(some_action(spec, row, np.random.default_rng(0)), row)
    return row


def some_action(spec: EnvironmentSpec, observation: Row, rng: np.random.Generator) -> Row:
    """A random action, as it travels, out of those that a mask in the observation allows."""
    mask = None if spec.mask_position is None else observation[spec.mask_position]
    parts, start = [], 0
    for action in spec.actions:
        if action.kind == "box":
            parts.append(rng.uniform(-1, 1, action.shape).astype(action.numpy_dtype))
            continue
        chosen = []
        for size in action.num_values:
            allowed = np.arange(size) if mask is None else np.flatnonzero(mask[start : start + size])
            chosen.append(rng.choice(allowed if allowed.size else np.arange(size)))
            start += size
        parts.append(np.array(chosen, action.numpy_dtype).reshape(action.shape))
    return tuple(parts)


def careful_builder(environment: str, preset: str, care: Care) -> Builder:
    """What builds the environments of a name, as far as they are trusted, with rows as the server wants them."""
    build = _careful_builder(environment, preset, care)
    if not care.served:
        return build

    def build_filled_up(index: int, seed: int) -> Environment:
        made = build(index, seed)
        like = fits_among(made.spec, care.served)
        return made if like is None else FilledUp(made, like)

    return build_filled_up


def _careful_builder(environment: str, preset: str, care: Care) -> Builder:
    trust = care.trust
    if not care.isolate:
        return builder(environment, preset, trust, care.asides)

    def build(index: int, seed: int) -> Environment:
        recipe = Recipe(
            environment_id=environment,
            preset=preset,
            index=index,
            seed=seed,
            allow_import=trust.covers(EnvironmentName.parse(environment).id),
            installed=trust.installed,
            asides=dataclasses.asdict(care.asides),
            import_from=None if trust.start_directory is None else str(trust.start_directory),
        )
        return IsolatedEnvironment(recipe, care.limits)

    return build
