"""An environment before another one: whatever is asked of it and it does not do itself, the other does."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from numpy.typing import NDArray

from seedbed.env_client.environments.interface import Environment, fps_of, info_of, picture_of, remarks_of


class Wrapper:
    """Base of those that stand before another environment; see `Environment`.

    Args:
        environment: the one that is stepped.
    """

    def __init__(self, environment: Environment) -> None:
        self._environment = environment

    @property
    def frames(self) -> int:
        """See `Environment`."""
        return self._environment.frames

    @property
    def remarks(self) -> list[str]:
        """See `remarks_of`."""
        return remarks_of(self._environment)

    @property
    def info(self) -> Mapping[str, float]:
        """See `info_of`."""
        return info_of(self._environment)

    @property
    def fps(self) -> float | None:
        """See `fps_of`."""
        return fps_of(self._environment)

    def picture(self) -> NDArray[Any] | None:
        """See `picture_of`."""
        return picture_of(self._environment)

    def close(self) -> None:
        """See `Environment`."""
        self._environment.close()
