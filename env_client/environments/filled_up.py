"""An environment whose rows are filled up to those of a larger one: for a policy that plays several tasks.

Channels of images, numbers of vectors and whole arrays that it lacks are zero. Actions that it lacks are masked, so the
policy does not take them.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from seedbed.common.errors import SpecError
from seedbed.common.joint_spec import mask_places, padded
from seedbed.common.specs import EnvironmentSpec
from seedbed.common.timestep import Array
from seedbed.env_client.environments.interface import Environment, Row, Status
from seedbed.env_client.environments.wrapper import Wrapper


class FilledUp(Wrapper):
    """Stands before another environment; see `Environment`.

    Args:
        environment: the one that is stepped.
        like: the spec that its rows fit into.

    Raises:
        SpecError: they do not.
    """

    def __init__(self, environment: Environment, like: EnvironmentSpec) -> None:
        super().__init__(environment)
        own = environment.spec
        self.spec = padded(own, like)
        self._own = [np.zeros(array.shape, array.numpy_dtype) for array in own.observations]
        self._mask_place, self._own_mask = self.spec.mask_position, own.mask_position
        self._places = _places(own, self.spec)
        self._entries = mask_places(own, self.spec)

    def reset(self, observation: Row) -> None:
        """See `Environment`."""
        for array in observation:  # what is not its own stays so for the whole episode
            array[...] = 0
        self._environment.reset(tuple(self._own))
        self._write(observation)

    def step(self, action: Row, observation: Row) -> tuple[float, Status]:
        """See `Environment`."""
        result = self._environment.step(action, tuple(self._own))
        self._write(observation)
        return result

    def _write(self, observation: Row) -> None:
        for ours, theirs, region in self._places:
            observation[theirs][region] = self._own[ours]
        if self._mask_place is not None:
            mask = observation[self._mask_place]
            mask[:] = 0
            mask[self._entries] = 1 if self._own_mask is None else self._own[self._own_mask]


def _places(own: EnvironmentSpec, like: EnvironmentSpec) -> list[tuple[int, int, tuple[slice, ...]]]:
    """Of each array that is shown: its place among its own, its place among the larger ones, and what of that it is."""
    theirs = {array.name: place for place, array in enumerate(like.observations)}
    return [
        (place, theirs[array.name], tuple(slice(size) for size in array.shape))
        for place, array in enumerate(own.observations)
        if array.role == "value"
    ]


def fill_up(arrays: Sequence[Array], own: EnvironmentSpec, like: EnvironmentSpec) -> tuple[Array, ...]:
    """Rows `[N, ...]` of an environment's own arrays, its mask among them, as rows of a larger one.

    Args:
        arrays: one for each of `own.observations`.
        own, like: specs of the two.
    """
    num_rows = len(arrays[0])
    filled = tuple(np.zeros((num_rows, *array.shape), array.numpy_dtype) for array in like.observations)
    for ours, theirs, region in _places(own, like):
        filled[theirs][(slice(None), *region)] = arrays[ours]
    if like.mask_position is not None:
        mask = 1 if own.mask_position is None else arrays[own.mask_position]
        filled[like.mask_position][:, mask_places(own, like)] = mask
    return filled


def fits_among(own: EnvironmentSpec, served: Sequence[EnvironmentSpec]) -> EnvironmentSpec | None:
    """Which of a server's specs an environment's rows have to be filled up to; None: none, or none fits."""
    like = next((spec for spec in served if spec.environment == own.environment), None)
    if like is None or like == own:
        return None
    try:
        return like if padded(own, like) == like else None
    except SpecError:
        return None
