"""Vectors: environments that are stepped by one call, behind one interface.

    gymnasium   what `gymnasium.make_vec` makes: an environment's own vector, else one after another; or somebody's own
    ale         the ALE's vector environment, in C++ with threads
    envpool     EnvPool's, in C++ with threads

All of them must begin the next episode with the call *after* the one that ended the last (next-step autoreset, the
default of all three): then the last observation of an episode is shown, and the first one of the next as well, each as
a row of its own. With same-step autoreset no row is left for the first, so such a vector is refused.

Shapes: E environments.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from seedbed.common.containers import ActionMapping, Containers
from seedbed.common.environment_name import EnvironmentName, canonical
from seedbed.common.errors import MissingExtraError, SpecError, UsageError
from seedbed.common.plugins import Trust, check_trusted
from seedbed.common.specs import EnvironmentSpec, action_mask
from seedbed.common.timestep import Array
from seedbed.env_client.environments.interface import Row
from seedbed.env_client.environments.making import make_vector
from seedbed.env_client.environments.spaces import action_specs, observation_specs
from seedbed.env_client.environments.vector_masks import VectorMasks

Kind = Literal["gymnasium", "ale", "envpool"]

_POOL_NAMES = ("env_id", "players", "elapsed_step")
"""What EnvPool tells of every step, and what no metric is made of."""


class Stepped(NamedTuple):
    """What one call gave, `[E, ...]` each.

    Attributes:
        observations: for each array of the spec.
        reward: of the step; of a row whose episode begins, nothing.
        terminated, truncated: bool `[E]`.
        info: arrays by name.
    """

    observations: Sequence[Any]
    reward: Any
    terminated: Any
    truncated: Any
    info: Mapping[str, Any]


class Vector:
    """A `gymnasium.vector.VectorEnv`.

    Args:
        env: it.
        name: of the environment, in the contract.
        spaces: of one environment's observations and actions.
        spec: the contract, where it is not simply what the spaces say.
        seeds: of the first reset, which then happens here if only that can tell whether there are action masks beside
            the observations.

    Attributes:
        spec: the contract.
        shown, containers: the part of it that an observation itself has, without a mask beside it, and its containers.

    Raises:
        SpecError: a space that is not supported, or autoreset in another step.
    """

    def __init__(
        self,
        env: Any,
        name: str,
        spaces: tuple[Any, Any] | None = None,
        spec: EnvironmentSpec | None = None,
        seeds: Sequence[int] | None = None,
    ) -> None:
        self._env = env
        shown, taken = spaces or (env.single_observation_space, env.single_action_space)
        _expect_next_step(name, env)
        actions = action_specs(taken)
        self.spec = spec or EnvironmentSpec(
            environment=name, observations=observation_specs(shown, actions), actions=actions
        )
        self.shown = self.spec.observations
        self.containers = Containers([array.name for array in self.shown])
        self._own_units = ActionMapping(self.spec.actions)
        self._first: tuple[Any, Mapping[str, Any]] | None = None
        self._masks: VectorMasks | None = None
        if seeds is not None and self.spec.mask_position is None and self.spec.num_mask_entries:
            self._look_for_masks(seeds)

    def reset(self, seeds: Sequence[int] | None) -> Sequence[Any]:
        """Begins an episode everywhere.

        Args:
            seeds: of the environments; vectors in one piece take the first, of which they make the others. None: their
                random numbers go on.
        """
        (observations, info), self._first = self._first or self._reset(seeds), None
        return self._with_masks(observations, info, np.zeros(self._env.num_envs, np.bool_))

    def step(self, sent: Row) -> Stepped:
        """One step, or the begin of an episode where one has ended.

        Args:
            sent: `[E, ...]` for each action array, as they travel.
        """
        observations, reward, terminated, truncated, info = self._env.step(self._own_units.of_many(sent))
        parts = self._with_masks(observations, info, np.logical_or(terminated, truncated))
        return Stepped(parts, reward, terminated, truncated, info)

    def frames(self, row: int, steps: int) -> int:
        """Emulator frames of the episode that has just ended in a row, after so many steps."""
        return steps

    def close(self) -> None:
        """Frees what it holds."""
        self._env.close()

    def _parts(self, observations: Any) -> Sequence[Any]:
        return self.containers.parts(observations)

    def _with_masks(self, observations: Any, info: Mapping[str, Any], over: NDArray[np.bool_]) -> Sequence[Any]:
        parts = self._parts(observations)
        return parts if self._masks is None else [*parts, self._masks(info, over)]

    def _reset(self, seeds: Sequence[int] | None) -> tuple[Any, Mapping[str, Any]]:
        given: Any = seeds
        if seeds is not None:
            given = [int(seed) for seed in seeds] if hasattr(self._env, "envs") else int(seeds[0])
        observations, info = self._env.reset(seed=given)
        return observations, info

    def _look_for_masks(self, seeds: Sequence[int]) -> None:
        """Only a reset tells. It is the one that the first episodes begin with."""
        self._first = self._reset(seeds)
        masks = VectorMasks(self._env, self._first[1], self.spec.actions, len(seeds))
        if masks.found:
            self._masks = masks
            self.spec = replace(self.spec, observations=(*self.spec.observations, action_mask(self.spec.actions)))


class AtariVector(Vector):
    """The ALE's: the frames, rewards and ends of `AtariEnvironment` under the same seed, where that is not negative.

    The last frame of a game is what the emulator's two buffers held, as in Gymnasium's AtariPreprocessing: up to three
    emulator frames older.
    """

    def __init__(self, name: EnvironmentName, preset: str, num_envs: int, threads: int) -> None:
        from seedbed.env_client.environments.ale import game_id
        from seedbed.env_client.environments.atari import AtariEnvironment, make_vector_env

        full_id = name.id if "/" in name.id else game_id(name.id)
        one = AtariEnvironment(full_id, preset, 0, name.kwargs)
        if one.preset.life_loss_ends_episode:
            raise SpecError(
                f"{full_id}: expected --atari-preset modern with --vector ale, got {preset}: a game cannot stand still "
                "while a lost life is told"
            )
        if name.max_steps is not None and one.preset.max_noops:
            raise SpecError(
                f"{full_id}: expected no --max-episode-steps with --vector ale and no-op starts, got {name.max_steps}: "
                "emulator frames are counted there; say --env-kwargs '{\"max_noops\":0}', or --vector none"
            )
        env = make_vector_env(one, num_envs, threads, name.max_steps)
        super().__init__(env, full_id, spec=one.spec)

    def reset(self, seeds: Sequence[int] | None) -> Sequence[Any]:
        """See the base class; seeds of emulators are made as Gymnasium makes them."""
        made = [np.random.SeedSequence(seed).generate_state(2)[1] & 0x7FFFFFFF for seed in seeds or ()]
        observations, _ = self._env.reset(seed=np.array(made, np.int64) if made else None)
        return self._parts(observations)

    def step(self, sent: Row) -> Stepped:
        """See the base class; what the emulator tells of itself is no number of an episode."""
        stepped = super().step(sent)
        self._frames = stepped.info["episode_frame_number"]
        return stepped._replace(info={})

    def frames(self, row: int, steps: int) -> int:
        """See the base class."""
        return int(self._frames[row])

    def _parts(self, observations: Any) -> Sequence[Any]:
        return [observations[:, 0]]


class PoolVector(Vector):
    """EnvPool's, whose seeds are given when it is made."""

    def reset(self, seeds: Sequence[int] | None) -> Sequence[Any]:
        """See the base class."""
        observations, _ = self._env.reset()
        return self._parts(observations)

    def step(self, sent: Row) -> Stepped:
        """See the base class."""
        stepped = super().step(sent)
        return stepped._replace(info={key: x for key, x in stepped.info.items() if key not in _POOL_NAMES})


VectorMaker = Callable[[Sequence[int]], Vector]
"""Seeds of the environments -> the vector of them."""


def vector_maker(environment: str, preset: str, kind: Kind, trust: Trust, threads: int = 1) -> VectorMaker:
    """What makes the vectors of a name.

    Args:
        environment: its name with all that is asked for, as in the contract. Limits of steps are made here, smaller
            images by whoever steps the vector.
        preset: of Atari preprocessing.
        kind: which vectors.
        trust: what may be imported.
        threads: of ale and envpool.

    Raises (here or when called):
        SpecError, UsageError, MissingExtraError: as for environments one by one.
    """
    name = EnvironmentName.parse(environment)
    check_trusted("--env", name.id, trust)
    if name.id.startswith("seedbed/"):
        raise UsageError(f"expected --vector none for {name.id}, whose environments come one by one, got {kind}")
    atari = name.id.startswith("ALE/") or name.id.isalnum()
    if atari != (kind == "ale") and kind != "envpool":
        raise UsageError(f"expected --vector ale for ALE/* and gymnasium for others, got {kind} for {name.id}")
    if kind == "ale":
        return lambda seeds: AtariVector(name, preset, len(seeds), threads)
    if kind == "envpool":
        return lambda seeds: _pool(name, seeds, threads)
    return lambda seeds: Vector(*make_vector(name.id, len(seeds), name.kwargs, trust, name.max_steps), seeds=seeds)


def _pool(name: EnvironmentName, seeds: Sequence[int], threads: int) -> Vector:
    try:
        import envpool
    except ImportError as error:
        raise MissingExtraError(
            f"{name.id}: expected envpool to be installed (pip install envpool), {error}"
        ) from error
    given = {"num_threads": threads, **name.kwargs}
    if name.max_steps is not None:
        given["max_episode_steps"] = min(name.max_steps, name.kwargs.get("max_episode_steps", name.max_steps))
    seeds = [seed & 0x7FFFFFFF for seed in seeds]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # its bounds are float64, and its spaces float32
            env = envpool.make(name.id, env_type="gymnasium", num_envs=len(seeds), seed=seeds, **given)
            spaces = env.observation_space, env.action_space
    except (AssertionError, TypeError, ValueError, KeyError) as error:
        raise SpecError(f"cannot make {name.id!r} of envpool with {canonical(name.kwargs)}: {error}") from error
    return PoolVector(env, name.id + canonical(name.kwargs), spaces)


def _expect_next_step(name: str, env: Any) -> None:
    """Refuses vectors that begin an episode with the step that ended the last, or never by themselves.

    Raises:
        SpecError: it does.
    """
    mode = (getattr(env, "metadata", None) or {}).get("autoreset_mode")
    text = str(getattr(mode, "value", mode))
    if mode is not None and text != "NextStep":
        raise SpecError(
            f"{name}: expected a vector with next-step autoreset (autoreset_mode=AutoresetMode.NEXT_STEP), got {text}: "
            "the first observation of an episode needs a row of its own"
        )


def row_of(parts: Sequence[Any], row: int) -> tuple[Array, ...]:
    """One environment's part."""
    return tuple(np.asarray(part[row]) for part in parts)
