"""Gymnasium environments: spaces of arrays, and masks of what is allowed."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from typing import Any

from seedbed.common.errors import MissingExtraError, SpecError
from seedbed.common.specs import ArraySpec, EnvironmentSpec, action_mask
from seedbed.env_client.environments.action_masks import MaskFlattener, MaskSource, find_mask_source
from seedbed.env_client.environments.interface import Row, Status
from seedbed.env_client.environments.spaces import ActionMapping, Containers, action_specs, observation_specs


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
        self._first: tuple[Any, Mapping[str, Any]] | BaseException | None = None
        self._mask_source: MaskSource | None = None
        try:
            actions = action_specs(self._env.action_space)
            observations = observation_specs(self._env.observation_space, actions)
            self._shown = Containers([spec.name for spec in observations])
            masked = any(spec.role == "action_mask" for spec in observations)
            if not masked and any(spec.num_mask_entries for spec in actions) and self._shows_masks(actions):
                observations = (*observations, action_mask(actions))
            self.spec = EnvironmentSpec(environment=self._env.spec.id, observations=observations, actions=actions)
        except SpecError as error:
            self._env.close()
            raise SpecError(f"{environment_id}: {error}") from None
        self._mask_position = self.spec.mask_position
        self._environment_action = ActionMapping(actions)
        self._flatten_mask = MaskFlattener(actions)

    def reset(self, observation: Row) -> None:
        """Starts an episode."""
        first, self._first = self._first, None
        if isinstance(first, BaseException):
            raise first
        value, info = first or self._reset()
        self.frames = 0
        self._write(value, info, False, observation)

    def step(self, action: Row, observation: Row) -> tuple[float, Status]:
        """Takes one step; an episode that is terminated and truncated at once counts as terminated."""
        value, reward, terminated, truncated, info = self._env.step(self._environment_action(action))
        self.frames += 1
        self._write(value, info, terminated or truncated, observation)
        if terminated:
            return float(reward), Status.TERMINATED
        return float(reward), Status.TRUNCATED if truncated else Status.RUNNING

    def close(self) -> None:
        """Closes the environment, with its windows."""
        self._env.close()

    def _shows_masks(self, actions: Sequence[ArraySpec]) -> bool:
        """Only a reset tells. It is the one that the first episode begins with, and so is what it may raise."""
        try:
            self._first = self._reset()
        except (Exception, SystemExit) as fault:  # as `Supervised` has it
            self._first = fault
            return False
        self._mask_source = find_mask_source(self._env, self._first[1], actions)
        return self._mask_source is not None

    def _reset(self) -> tuple[Any, Mapping[str, Any]]:
        seed, self._seed = self._seed, None
        value, info = self._env.reset(seed=seed)
        return value, info

    def _write(self, value: Any, info: Mapping[str, Any], over: bool, observation: Row) -> None:
        parts = self._shown.parts(value)
        if self._mask_source is not None:
            parts.append(self._mask_source(info, over))
        for number, (part, target) in enumerate(zip(parts, observation, strict=True)):
            if number != self._mask_position:
                target[...] = part
            elif part is None:
                target[...] = 1
            else:
                self._flatten_mask(part, target)


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
