"""Episodes of an evaluation: as many of each environment, whichever end first."""

from __future__ import annotations

import threading
from collections import defaultdict

from seedbed.common.timestep import EpisodeEnd


class EpisodeCollection:
    """The first episodes of each environment: as many of each, the first ones one more where that leaves a rest."""

    def __init__(self, num_envs: int, episodes: int) -> None:
        self.complete = threading.Event()
        self.num_expected = episodes
        self._each, self._rest = divmod(episodes, num_envs)
        self._missing = episodes
        self._returns: dict[int, list[float]] = defaultdict(list)

    def add(self, environment_index: int, end: EpisodeEnd, client: str = "") -> None:
        """Keeps an episode if its environment still owes one."""
        returns = self._returns[environment_index]
        if len(returns) < self._each + (environment_index < self._rest):
            returns.append(end.episode_return)
            self._missing -= 1
            if self._missing == 0:
                self.complete.set()

    @property
    def num_kept(self) -> int:
        """Episodes so far."""
        return self.num_expected - self._missing

    def returns_of(self, environment_index: int) -> list[float]:
        """Those of one environment, in order."""
        return list(self._returns.get(environment_index, ()))

    @property
    def returns(self) -> list[float]:
        """All that were kept."""
        return [value for index in sorted(self._returns) for value in self._returns[index]]
