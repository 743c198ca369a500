"""An environment as its user asked for it: images smaller or grey, episodes cut after so many steps."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from seedbed.common.environment_name import EnvironmentName
from seedbed.common.errors import SpecError
from seedbed.common.image_layout import image_layout
from seedbed.common.specs import EnvironmentSpec
from seedbed.env_client.environments.images import Shrink, shrinking
from seedbed.env_client.environments.interface import Environment, Row, Status
from seedbed.env_client.environments.wrapper import Wrapper


class Adapted(Wrapper):
    """Stands before another environment; see `Environment`.

    Args:
        environment: the one that is stepped.
        wanted: what is asked for; its id and keyword arguments do not matter here.

    Raises:
        SpecError: it shows no image that could be made smaller, or grey.
    """

    def __init__(self, environment: Environment, wanted: EnvironmentName) -> None:
        super().__init__(environment)
        self._max_steps = wanted.max_steps
        self._steps = 0
        self._goes_on = False  # a life was lost: the next reset begins no real episode
        self.spec, self._shrinks = adapted_spec(environment.spec, wanted)
        self._before = [np.zeros(array.shape, array.numpy_dtype) for array in environment.spec.observations]

    def reset(self, observation: Row) -> None:
        """See `Environment`."""
        if not self._goes_on:
            self._steps = 0
        self._goes_on = False
        row = self._row(observation)
        self._environment.reset(row)
        self._shrink(row, observation)

    def step(self, action: Row, observation: Row) -> tuple[float, Status]:
        """See `Environment`."""
        row = self._row(observation)
        reward, status = self._environment.step(action, row)
        self._shrink(row, observation)
        self._steps += 1
        self._goes_on = status is Status.LIFE_LOST
        if status is Status.RUNNING and self._max_steps is not None and self._steps >= self._max_steps:
            return reward, Status.TRUNCATED
        return reward, status

    def _row(self, observation: Row) -> Row:
        """Where the environment writes: straight into what travels but for images that are made smaller."""
        parts = zip(observation, self._before, self._shrinks, strict=True)
        return tuple(target if shrink is None else before for target, before, shrink in parts)

    def _shrink(self, row: Row, observation: Row) -> None:
        for large, target, shrink in zip(row, observation, self._shrinks, strict=True):
            if shrink is not None:
                shrink(large, target)


def adapted_spec(spec: EnvironmentSpec, wanted: EnvironmentName) -> tuple[EnvironmentSpec, list[Shrink | None]]:
    """The contract of an environment as it was asked for, and what makes each of its images smaller.

    Args:
        spec: of the environment as it is made.
        wanted: what is asked for; its id and keyword arguments do not matter here.

    Returns:
        The contract; for each observation array what shrinks one row of it, None where it stays as it is.

    Raises:
        SpecError: it shows no image that could be made smaller, or grey.
    """
    shrinks: list[Shrink | None] = []
    shown = []
    wants_images = wanted.image_size is not None or wanted.grey
    for array in spec.observations:
        small, shrink = array, None
        if wants_images and (layout := image_layout(array)) is not None:
            small, shrink = shrinking(array, layout, wanted.image_size, wanted.grey)
        shown.append(small)
        shrinks.append(shrink)
    if wants_images and not any(shrinks):
        seen = ", ".join(f"{array.name!r} {array}" for array in spec.shown)
        raise SpecError(f"{spec.environment}: expected an image for --image-size and --grey, got {seen}")
    return replace(spec, environment=wanted.around(spec.environment), observations=tuple(shown)), shrinks
