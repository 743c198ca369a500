"""Episodes that somebody else steps, as rows of timesteps: where they begin and end, their returns and lengths.

It knows of no connection; `remote.ConnectedPolicy` sends what it makes.

Shapes: N environments in lockstep.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from seedbed.common.errors import UsageError
from seedbed.common.timestep import Array, EpisodeEnd, StepType, Timesteps
from seedbed.env_client.environments.info import info_of_row, info_reader

Flags = NDArray[np.bool_]


class EpisodeRows:
    """The episodes of N environments; a row that ended begins its next one with the next timestep.

    Args:
        num_envs: N; None: one, whose values have no dimension N.
        frames_per_step: of the environment.
    """

    def __init__(self, num_envs: int | None, frames_per_step: int) -> None:
        self._single = num_envs is None
        self._num_rows = 1 if num_envs is None else num_envs
        self._frames_per_step = frames_per_step
        self._read_info = info_reader("auto")
        self._over: Flags = np.zeros(self._num_rows, bool)  # rows whose last timestep was LAST
        self._return: NDArray[np.float64] = np.zeros(self._num_rows)
        self._steps: NDArray[np.int64] = np.zeros(self._num_rows, np.int64)

    def begin(self, observations: tuple[Array, ...]) -> Timesteps:
        """The first timestep of an episode in every row."""
        self._over[:], self._return[:], self._steps[:] = False, 0.0, 0
        num = self._num_rows
        return Timesteps(
            step_type=np.full(num, StepType.FIRST, np.uint8),
            reward=np.zeros(num, np.float32),
            discount=np.ones(num, np.float32),
            observations=observations,
            episode_ends=(),
        )

    def ends(self, terminated: Any, truncated: Any) -> tuple[Flags, Flags]:
        """What has terminated, and what has ended at all, `[N]`; a row that begins anew cannot end with it.

        Raises:
            UsageError: there are neither one nor N of them.
        """
        terminated, truncated = self._spread(terminated, bool), self._spread(truncated, bool)
        return terminated & ~self._over, (terminated | truncated) & ~self._over

    def go_on(
        self, observations: tuple[Array, ...], reward: Any, terminated: Flags, ended: Flags, info: Any
    ) -> Timesteps:
        """The next timestep of every row.

        Args:
            observations: `[N, ...]` each.
            reward: raw, one or N.
            terminated, ended: from `ends`.
            info: of the environment's step.

        Raises:
            UsageError: a reward is not finite.
        """
        begins = self._over
        rewards = np.where(begins, 0.0, self._rewards(reward))
        self._steps = np.where(begins, 0, self._steps + 1)
        self._return = np.where(begins, 0.0, self._return + rewards)
        self._over = ended
        step_type = np.where(ended, StepType.LAST, np.where(begins, StepType.FIRST, StepType.MID))
        return Timesteps(
            step_type=step_type.astype(np.uint8),
            reward=rewards.astype(np.float32),
            discount=np.float32(1) - terminated.astype(np.float32),
            observations=observations,
            episode_ends=tuple(
                self._end(row, truncated=not terminated[row], info=info) for row in map(int, np.flatnonzero(ended))
            ),
        )

    def _end(self, row: int, *, truncated: bool, info: Any) -> EpisodeEnd:
        steps = int(self._steps[row])
        numbers = self._read_info(info if self._single else info_of_row(info, row))
        return EpisodeEnd(row, float(self._return[row]), steps, steps * self._frames_per_step, truncated, numbers)

    def _rewards(self, reward: Any) -> NDArray[np.float64]:
        rewards: NDArray[np.float64] = self._spread(reward, np.float64)
        if not (np.abs(rewards) <= np.finfo(np.float32).max).all():
            raise UsageError(f"expected finite rewards, got {reward!r:.100}")
        return rewards

    def _spread(self, value: Any, dtype: type) -> NDArray[Any]:
        given = np.asarray(value)
        if given.shape not in ((), (self._num_rows,)):
            raise UsageError(f"expected one value or {self._num_rows}, got {value!r:.100}")
        return np.array(np.broadcast_to(given, self._num_rows), dtype)
