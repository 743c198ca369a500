"""An environment whose first episodes become a video."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seedbed.common.image_layout import image_layout
from seedbed.common.specs import ArraySpec, EnvironmentSpec
from seedbed.env_client.environments.film import Film, Picture, as_picture, bars, beside
from seedbed.env_client.environments.interface import Asides, Environment, Row, Status, fps_of, picture_of
from seedbed.env_client.environments.wrapper import Wrapper

_log = logging.getLogger(__name__)

_WIDE = 1e6  # bounds so far apart are none
_FPS = 10.0  # where the environment does not say
_HOLD_S = 0.7  # how long the last picture of an episode stays


class Filmed(Wrapper):
    """Stands before another environment; see `Environment`. Its pictures, else its observations, go into a video.

    The video is whole before anybody hears that its last episode has ended. What goes wrong with it costs it alone.

    Args:
        environment: the one that is stepped.
        asides: the file, and how many episodes.

    Raises:
        MissingExtraError: PyAV is not installed.
    """

    def __init__(self, environment: Environment, asides: Asides) -> None:
        super().__init__(environment)
        assert asides.film is not None
        self._missing = asides.film_episodes
        self.spec: EnvironmentSpec = environment.spec
        self._scales = [_Scale(array) for array in self.spec.shown]
        self._shows_pictures = True
        fps = asides.film_fps or fps_of(environment) or _FPS
        self._film: Film | None = Film(Path(asides.film), fps)

    def reset(self, observation: Row) -> None:
        """See `Environment`."""
        self._environment.reset(observation)
        self._shoot(observation)

    def step(self, action: Row, observation: Row) -> tuple[float, Status]:
        """See `Environment`."""
        reward, status = self._environment.step(action, observation)
        self._shoot(observation)
        if status in (Status.TERMINATED, Status.TRUNCATED) and self._film is not None:
            self._missing -= 1
            self._film.hold(_HOLD_S)
            if not self._missing:
                self._end()
        return reward, status

    def close(self) -> None:
        """See `Environment`; a film that waits for an end is ended here."""
        self._end()
        self._environment.close()

    def _shoot(self, observation: Row) -> None:
        if self._film is None:
            return
        try:
            self._film.add(self._picture() if self._shows_pictures else self._observed(observation))
        except _NoPicture as error:
            _log.warning("%s shows no picture (%s): the video shows its observations", self.spec.environment, error)
            self._shows_pictures = False
            self._shoot(observation)
        except Exception as error:  # a full disk, or what no codec takes
            _log.error("the video ends here: %s", error)
            self._end()

    def _end(self) -> None:
        film, self._film = self._film, None
        if film is not None:
            try:
                film.close()
            except Exception as error:
                _log.error("the video was not written: %s", error)

    def _picture(self) -> NDArray[Any]:
        try:
            picture = picture_of(self._environment)
            if picture is None:
                raise _NoPicture("it cannot render rgb_array")
            return as_picture(picture)
        except _NoPicture:
            raise
        except (Exception, SystemExit) as error:  # a missing package, no display, or rendering that is broken
            raise _NoPicture(f"{type(error).__name__}: {error}".splitlines()[0]) from error

    def _observed(self, observation: Row) -> Picture:
        """Arrays that are images as such, all others as bars; all beside each other."""
        pictures = []
        shown = [part for number, part in enumerate(observation) if number != self.spec.mask_position]
        for array, part, scale in zip(self.spec.shown, shown, self._scales, strict=True):
            if image_layout(array) is not None or (part.ndim == 2 and min(part.shape) > 1):
                bounds = (min(array.low), max(array.high)) if array.bounded else None
                pictures.append(as_picture(part, bounds))
            else:
                pictures.append(bars(part, *scale.of(part)))
        return pictures[0] if len(pictures) == 1 else beside(pictures)


class _Scale:
    """Bottom and top of each bar: the bounds of an array, and where these are none to speak of, all that was seen."""

    def __init__(self, array: ArraySpec) -> None:
        self._low, self._high = np.array(array.lower, np.float64), np.array(array.upper, np.float64)
        with np.errstate(over="ignore"):
            self._open = ~(self._high - self._low < _WIDE)
        self._low[self._open], self._high[self._open] = np.inf, -np.inf

    def of(self, values: NDArray[Any]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """With these values among what was seen."""
        self._low = np.where(self._open, np.minimum(self._low, values), self._low)
        self._high = np.where(self._open, np.maximum(self._high, values), self._high)
        return self._low, self._high


class _NoPicture(Exception):
    """The environment renders nothing that could be shown."""
