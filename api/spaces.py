"""Environments as a contract, and what they show as rows that travel: the layout of the environment <-> arrays.

Shapes: N environments, M entries of an action mask.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seedbed.common.containers import ActionMapping, Containers, path_of
from seedbed.common.environment_name import EnvironmentName
from seedbed.common.errors import SpecError, UsageError
from seedbed.common.image_layout import image_layout
from seedbed.common.specs import ArraySpec, EnvironmentSpec, action_mask
from seedbed.common.timestep import LARGEST, Array, is_usable
from seedbed.env_client.environments.action_masks import MaskFlattener
from seedbed.env_client.environments.images import Shrink, shrinking
from seedbed.env_client.environments.spaces import action_specs, observation_specs


def spec_of(
    env: Any,
    *,
    name: str | None = None,
    kwargs: Mapping[str, Any] | None = None,
    mask: bool = False,
    image_size: tuple[int, int] | None = None,
    grey: bool = False,
    frames_per_step: int = 1,
) -> EnvironmentSpec:
    """The contract of an environment, which a server must have too.

    Args:
        env: a Gymnasium environment, a vector of them, or the pair of an observation space and an action space.
        name: the server's --env; the id that the environment was made by unless given.
        kwargs: its --env-kwargs.
        mask: an action mask is given beside each observation. One in a Dict observation is found by itself.
        image_size, grey: its --image-size, as height and width, and --grey. `first` and `next` shrink what they are
            shown.
        frames_per_step: emulator frames per step, for counting.

    Raises:
        SpecError: a space that is not supported.
        UsageError: there is no name.
    """
    if isinstance(env, tuple):
        shown, taken = env
    else:
        shown = getattr(env, "single_observation_space", None) or env.observation_space
        taken = getattr(env, "single_action_space", None) or env.action_space
    name = name or getattr(getattr(env, "spec", None), "id", None)
    if name is None:
        raise UsageError("expected name=, by which the server knows this environment: it has no registered id")
    actions = action_specs(taken)
    observations = observation_specs(shown, actions)
    if mask:
        observations = (*observations, action_mask(actions))
    wanted = EnvironmentName(id=name, kwargs=kwargs or {}, image_size=image_size, grey=grey)
    return EnvironmentSpec(
        environment=str(wanted),
        observations=tuple(_smaller(array, wanted)[0] for array in observations),
        actions=actions,
        frames_per_step=frames_per_step,
    )


class ObservationReader:
    """Observations in the environment's own layout -> arrays `[N, ...]` in the order in which they travel.

    Args:
        spec: the contract.

    Attributes:
        mask_beside: the contract has an action mask, and the observation does not carry it.
    """

    def __init__(self, spec: EnvironmentSpec) -> None:
        mask = None if spec.mask_position is None else spec.observations[spec.mask_position]
        self.mask_beside = mask is not None and not path_of(mask.name)
        self._carried = tuple(array for array in spec.observations if array is not mask or not self.mask_beside)
        self._containers = Containers([array.name for array in self._carried])
        self._mask = mask
        self._flatten = MaskFlattener(spec.actions)
        self._order = spec.observations
        self._wanted = EnvironmentName.parse(spec.environment)
        self._shrinks: dict[tuple[str, tuple[int, ...]], Shrink] = {}

    def __call__(self, observation: Any, mask: Any = None, *, num: int | None = None) -> tuple[Array, ...]:
        """Copies what is shown.

        Args:
            observation: of one environment; of N each array in it has the additional first dimension `[N, ...]`.
            mask: of one environment or N; None: everything is allowed.
            num: N; None for one environment, whose arrays get a first dimension of 1.

        Raises:
            SpecError: that is not what the contract says.
            UsageError: a mask that it does not speak of.
        """
        try:
            parts = self._containers.parts(observation)
        except (KeyError, IndexError, TypeError) as error:
            names = ", ".join(repr(array.name) for array in self._carried)
            raise SpecError(f"expected an observation with the parts {names}, got {observation!r:.200}") from error
        if mask is not None and not self.mask_beside:
            raise UsageError("expected no mask=: the contract has none beside the observation")
        shown = dict(zip((array.name for array in self._carried), parts, strict=True))
        return tuple(
            self._read_mask(array, shown.get(array.name, mask), num)
            if array is self._mask
            else self._read(array, shown[array.name], num)
            for array in self._order
        )

    def _read(self, spec: ArraySpec, value: Any, num: int | None) -> Array:
        """One array; an image as the environment shows it is made smaller and grey, as far as the contract says so."""
        given = np.asarray(value)
        shape = given.shape if num is None else given.shape[1:]
        if not (self._wanted.image_size or self._wanted.grey) or shape == spec.shape or given.size == 0:
            return _checked(spec, given, num)
        if (spec.name, shape) not in self._shrinks:
            small, shrink = _smaller(replace(spec, shape=shape, low=spec.low[:1], high=spec.high[:1]), self._wanted)
            if shrink is None or small.shape != spec.shape:
                return _checked(spec, given, num)  # which says what is wrong
            self._shrinks[spec.name, shape] = shrink
        large = _checked(replace(spec, shape=shape, low=spec.low[:1], high=spec.high[:1]), given, num)
        rows: NDArray[Any] = np.empty((len(large), *spec.shape), spec.numpy_dtype)
        for image, row in zip(large, rows, strict=True):
            self._shrinks[spec.name, shape](image, row)
        return rows

    def _read_mask(self, spec: ArraySpec, mask: Any, num: int | None) -> Array:
        rows = np.ones((num or 1, *spec.shape), spec.numpy_dtype)
        try:
            for row in range(len(rows) if mask is not None else 0):
                self._flatten(mask if num is None else _row(mask, row), rows[row])
        except (ValueError, KeyError, IndexError, TypeError) as error:
            raise SpecError(f"the action mask: {error}") from error
        return rows


class ActionWriter:
    """Actions as they travel -> what the environment's own space contains; of N environments in its vector's layout.

    Args:
        spec: the contract.
    """

    def __init__(self, spec: EnvironmentSpec) -> None:
        self._of_one = ActionMapping(spec.actions)
        self._containers = Containers([array.name for array in spec.actions])

    def parts(self, action: Any) -> list[Any]:
        """The arrays of such an action, in the contract's order."""
        return self._containers.parts(action)

    def __call__(self, sent: tuple[Array, ...], *, single: bool) -> Any:
        """Takes `[N, ...]` for each action array; `single` gives the only row's action, without the dimension."""
        rows = [self._of_one(tuple(array[row] for array in sent)) for row in range(len(sent[0]))]
        if single:
            return rows[0]
        parts = zip(*(self._containers.parts(row) for row in rows), strict=True)
        return self._containers.build([np.stack(part) for part in parts])


def _smaller(spec: ArraySpec, wanted: EnvironmentName) -> tuple[ArraySpec, Shrink | None]:
    """What an image becomes where a contract wants it smaller or grey; everything else stays."""
    layout = image_layout(spec) if wanted.image_size or wanted.grey else None
    return (spec, None) if layout is None else shrinking(spec, layout, wanted.image_size, wanted.grey)


def _checked(spec: ArraySpec, given: NDArray[Any], num: int | None) -> Array:
    """One array: a wrong one would be cast or broadcast, and acted on as something that nobody saw."""
    shape = spec.shape if num is None else (num, *spec.shape)
    if given.shape != shape or not _same_kind(given.dtype, spec.numpy_dtype):
        raise SpecError(f"observation {spec.name!r}: expected {spec.dtype}{list(shape)}, got {_described(given)}")
    rows: NDArray[Any] = np.empty((num or 1, *spec.shape), spec.numpy_dtype)
    rows[...] = given
    if rows.dtype.kind == "f":
        if not is_usable(rows):
            raise SpecError(
                f"observation {spec.name!r}: expected finite numbers of at most {LARGEST:g}, got {_described(given)}"
            )
    elif spec.kind != "box" and ((given < spec.lower) | (given > spec.upper)).any():
        raise SpecError(f"observation {spec.name!r}: expected {spec}, got {given.tolist()!r:.100}")
    elif not np.can_cast(given.dtype, rows.dtype) and (rows != given).any():
        raise SpecError(f"observation {spec.name!r}: expected {spec.dtype}, got {given.tolist()!r:.100}")
    return rows


def _same_kind(given: np.dtype[Any], travels: np.dtype[Any]) -> bool:
    return given.kind in "biuf" if travels.kind == "f" else given.kind in "biu"


def _described(array: NDArray[Any]) -> str:
    return f"{array.dtype}{list(array.shape)}"


def _row(value: Any, row: int) -> Any:
    """One environment's part of what N give."""
    if isinstance(value, Mapping):
        return {key: _row(part, row) for key, part in value.items()}
    return tuple(_row(part, row) for part in value) if isinstance(value, tuple) else value[row]
