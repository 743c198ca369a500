"""Catch at a pace of its own: steps sleep, in the clients of one learner longer, so that no core decides who is fast.

--env tests.bench.paced:make --env-kwargs '{"step_ms": 2, "slow_rank": 1, "slowness": 3}'
"""

from __future__ import annotations

import os
import time
from typing import Any

import gymnasium
import numpy as np
from numpy.typing import NDArray

from seedbed.env_client.environments.interface import Status
from seedbed.env_client.environments.tasks import CATCH_COLUMNS, CATCH_ROWS, Catch, CatchOptions

Board = NDArray[np.float32]


class PacedCatch(gymnasium.Env[Board, np.int64]):
    """See the module.

    Args:
        step_s: that a step takes.
    """

    def __init__(self, step_s: float) -> None:
        self.observation_space = gymnasium.spaces.Box(0.0, 1.0, (CATCH_ROWS, CATCH_COLUMNS), np.float32)
        self.action_space = gymnasium.spaces.Discrete(3)
        self._step_s = step_s
        self._board = np.zeros((CATCH_ROWS, CATCH_COLUMNS), np.float32)
        self._catch: Catch | None = None

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Board, dict[str, Any]]:
        """See the base class."""
        super().reset(seed=seed)
        if self._catch is None or seed is not None:
            self._catch = Catch("paced", CatchOptions(), int(self.np_random.integers(2**31)))
        self._catch.reset((self._board,))
        return self._board.copy(), {}

    def step(self, action: np.int64) -> tuple[Board, float, bool, bool, dict[str, Any]]:
        """See the base class."""
        assert self._catch is not None
        time.sleep(self._step_s)
        reward, status = self._catch.step((np.asarray(action),), (self._board,))
        return self._board.copy(), reward, status is Status.TERMINATED, False, {}


def make(step_ms: float = 1.0, slow_rank: int = -1, slowness: float = 3.0) -> PacedCatch:
    """An environment of the learner that RANK names.

    Args:
        step_ms: that a step takes.
        slow_rank: the learner whose environments take longer; -1: none.
        slowness: how many times as long.
    """
    is_slow = int(os.environ.get("RANK", "0")) == slow_rank
    return PacedCatch(step_ms / 1000 * (slowness if is_slow else 1.0))
