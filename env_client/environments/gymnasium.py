"""Gymnasium environments: spaces of arrays, and masks of what is allowed."""

from __future__ import annotations

import contextlib
import functools
import inspect
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seedbed.common.containers import ActionMapping, Containers
from seedbed.common.errors import SpecError
from seedbed.common.specs import ArraySpec, EnvironmentSpec, action_mask
from seedbed.env_client.environments.action_masks import MaskFlattener, MaskSource, find_mask_source
from seedbed.env_client.environments.info import info_reader
from seedbed.env_client.environments.interface import Row, Status
from seedbed.env_client.environments.shown import check_observation, check_reset, check_step, wider_dtypes, write
from seedbed.env_client.environments.spaces import action_specs, observation_specs

_log = logging.getLogger(__name__)


class GymnasiumEnvironment:
    """One Gymnasium environment.

    What it shows in its first reset and its first step is compared with its spaces.

    Args:
        env: it; closed here if it cannot be used.
        name: goes into the spec.
        seed: of its first reset; later episodes go on with the same random numbers.
        info_keys: which numbers of its `info` are told; see `info.py`.

    Raises:
        SpecError: a space that is not supported.
        UsageError: names in `info_keys` that none may have.
    """

    def __init__(self, env: Any, name: str, seed: int, info_keys: str = "auto") -> None:
        self._env = env
        self._read_info = info_reader(info_keys)
        self._newest_info: Any = {}
        self._name = name
        self._seed: int | None = seed
        self.frames = 0
        self.remarks: dict[str, None] = {}
        self._reset_seen = self._step_seen = False
        self._first: tuple[Any, Mapping[str, Any]] | BaseException | None = None
        self._mask_source: MaskSource | None = None
        _accept_seeds(env, seed)
        try:
            actions = action_specs(self._env.action_space)
            observations = observation_specs(self._env.observation_space, actions)
            self._shown = Containers([spec.name for spec in observations])
            self._shown_specs = observations
            masked = any(spec.role == "action_mask" for spec in observations)
            if not masked and any(spec.num_mask_entries for spec in actions) and self._shows_masks(actions):
                observations = (*observations, action_mask(actions))
            self.spec = EnvironmentSpec(environment=name, observations=observations, actions=actions)
        except SpecError as error:
            with contextlib.suppress(Exception):  # the refusal is what counts
                self._env.close()
            raise SpecError(f"{name}: {error}") from None
        self._mask_position = self.spec.mask_position
        self._environment_action = ActionMapping(actions)
        self._flatten_mask = MaskFlattener(actions)

    def reset(self, observation: Row) -> None:
        """Starts an episode."""
        first, self._first = self._first, None
        if isinstance(first, BaseException):
            raise first
        try:
            value, info = first or self._reset()
        except SpecError as error:
            raise SpecError(f"{self._name}: {error}") from None
        self.frames = 0
        self._write(value, info, False, observation)

    def step(self, action: Row, observation: Row) -> tuple[float, Status]:
        """Takes one step; an episode that is terminated and truncated at once counts as terminated."""
        sent = self._environment_action(action)
        result = self._env.step(sent) if self._step_seen else self._first_step(sent)
        value, reward, terminated, truncated, info = result
        self.frames += 1
        self._newest_info = info
        self._write(value, info, terminated or truncated, observation)
        if type(reward) is not float:
            reward = float(np.asarray(reward).item())
        if terminated:
            return reward, Status.TERMINATED
        return reward, Status.TRUNCATED if truncated else Status.RUNNING

    def close(self) -> None:
        """Closes the environment, with its windows."""
        self._env.close()

    @property
    def info(self) -> Mapping[str, float]:
        """Numbers in the info of the last step."""
        return self._read_info(self._newest_info)

    @property
    def fps(self) -> float | None:
        """Steps a second for people, as its metadata say."""
        fps = (getattr(self._env, "metadata", None) or {}).get("render_fps")
        return float(fps) if isinstance(fps, int | float) and fps > 0 else None

    def picture(self) -> NDArray[Any] | None:
        """What it renders; None if that is no picture, because it was made without a render mode for instance."""
        if getattr(self._env, "render_mode", None) != "rgb_array":
            return None
        picture = self._env.render()
        return picture if isinstance(picture, np.ndarray) else None

    def _shows_masks(self, actions: Sequence[ArraySpec]) -> bool:
        """Only a reset tells. It is the one that the first episode begins with, and so is what it may raise."""
        try:
            self._first = self._reset()
        except SpecError:
            raise
        except (Exception, SystemExit) as fault:  # as `Supervised` has it
            self._first = fault
            return False
        self._mask_source = find_mask_source(self._env, self._first[1], actions)
        return self._mask_source is not None

    def _reset(self) -> tuple[Any, Mapping[str, Any]]:
        seed, self._seed = self._seed, None
        if self._reset_seen:
            value, info = self._env.reset(seed=seed)
            return value, info
        result = _tried(lambda: self._env.reset(seed=seed))
        check_reset(result)
        check_observation(result[0], self._shown_specs, self._shown, "the first reset")
        self.remarks.update(dict.fromkeys(wider_dtypes(result[0], self._shown_specs, self._shown)))
        self._reset_seen = True
        return result[0], result[1]

    def _first_step(self, action: Any) -> Any:
        try:
            result = _tried(lambda: self._env.step(action))
            check_step(result)
            check_observation(result[0], self._shown_specs, self._shown, "the first step")
            self.remarks.update(dict.fromkeys(wider_dtypes(result[0], self._shown_specs, self._shown)))
        except SpecError as error:
            raise SpecError(f"{self._name}: {error}") from None
        self._step_seen = True
        return result

    def _write(self, value: Any, info: Mapping[str, Any], over: bool, observation: Row) -> None:
        parts = self._shown.parts(value)
        if self._mask_source is not None:
            parts.append(self._mask_source(info, over))
        for number, (part, target, spec) in enumerate(zip(parts, observation, self.spec.observations, strict=True)):
            if number != self._mask_position:
                write(part, target, spec)
            elif part is None:
                target[...] = 1
            else:
                self._flatten_mask(part, target)


def _tried(call: Callable[[], Any]) -> Any:
    """The result; a wrapper that finds fewer values than it unpacks tells of an older interface below.

    Raises:
        SpecError: that.
    """
    try:
        return call()
    except ValueError as error:
        if "values to unpack" not in str(error):
            raise
        raise SpecError(
            "expected (observation, info) from reset and (observation, reward, terminated, truncated, info) from step, "
            f"as Gymnasium has them since 0.26, got another number of values ({error})"
        ) from None


def _accept_seeds(env: Any, seed: int) -> None:
    """Lets environments and wrappers whose `reset` takes no seed be reset as all others: wrappers around them pass one.

    Such an environment is reproducible as far as it draws from Gymnasium's `np_random`.
    """
    level = env
    while level is not None:
        try:
            parameters = inspect.signature(level.reset).parameters
        except (TypeError, ValueError):
            return
        taken = {"seed", "options"} & set(parameters)
        open_ended = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())
        if not open_ended and len(taken) < 2:
            level.reset = _dropping(level.reset, taken)
            if "seed" not in taken and level is getattr(env, "unwrapped", env):
                _warn_of_no_seed(type(level).__name__)
                if hasattr(level, "np_random"):
                    level.np_random = np.random.default_rng(seed)
        level = getattr(level, "__dict__", {}).get("env")


@functools.cache
def _warn_of_no_seed(name: str) -> None:
    """Says it once for all environments of a process."""
    _log.warning("%s: its reset takes no seed: episodes are as reproducible as its np_random", name)


def _dropping(reset: Callable[..., Any], taken: set[str]) -> Callable[..., Any]:
    """A reset that is given only the arguments it takes."""
    return lambda **given: reset(**{name: value for name, value in given.items() if name in taken})
