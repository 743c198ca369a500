"""An environment as its user asked for it: images smaller or grey, episodes cut after so many steps."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from seedbed.common.environment_name import EnvironmentName
from seedbed.common.errors import SpecError
from seedbed.common.image_layout import image_layout
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
        spec = environment.spec
        self._shrinks: list[Shrink | None] = []
        shown = []
        wants_images = wanted.image_size is not None or wanted.grey
        for array in spec.observations:
            small, shrink = array, None
            if wants_images and (layout := image_layout(array)) is not None:
                small, shrink = shrinking(array, layout, wanted.image_size, wanted.grey)
            shown.append(small)
            self._shrinks.append(shrink)
        if wants_images and not any(self._shrinks):
            seen = ", ".join(f"{array.name!r} {array}" for array in spec.shown)
            raise SpecError(f"{spec.environment}: expected an image for --image-size and --grey, got {seen}")
        self._before = [np.zeros(array.shape, array.numpy_dtype) for array in spec.observations]
        self.spec = replace(spec, environment=wanted.around(spec.environment), observations=tuple(shown))

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
