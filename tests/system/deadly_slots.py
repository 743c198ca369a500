"""A slot table that kills the frontends which write to it. No torch here: frontends import this file."""

from __future__ import annotations

import os
import signal
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seedbed.common.timestep import Timesteps
from seedbed.server.shared.slots import SlotTable

MOMENTS = ("observations", "step_type", "reward", "discount", "accepted_seq", "accepted")
"""When a frontend dies: before it writes that, or after it has accepted a Steps and before it tells."""

DEATHS = len(MOMENTS)
_CALLS_OF_A_LIFE = 37


class DeadlySlots(SlotTable):
    """Every frontend process dies in the midst of its 37th Steps, each in another moment, until `DEATHS` have."""

    _deaths: NDArray[np.uint8]
    _calls = 0

    @property
    def deaths(self) -> int:
        """So many have died."""
        return int(self._deaths[0])

    def accept(self, lease: int, num_rows: int, seq: int, rows: Timesteps) -> None:
        """See the base class."""
        self._calls += 1
        if self._calls < _CALLS_OF_A_LIFE or self.deaths == DEATHS:
            super().accept(lease, num_rows, seq, rows)
            return
        deadly: Any = _Deadly()
        moment = MOMENTS[self.deaths % len(MOMENTS)]
        self._deaths[0] += 1
        if moment == "observations":
            rows = replace(rows, observations=(deadly,))
        elif moment == "accepted_seq":
            deadly.seq = seq
            seq = deadly
        elif moment != "accepted":
            rows = replace(rows, **{moment: deadly})
        super().accept(lease, num_rows, seq, rows)
        os.kill(os.getpid(), signal.SIGKILL)

    def _fields(self) -> dict[str, Any]:
        return {**super()._fields(), "_deaths": [(np.dtype("u1"), ())]}


class _Deadly:
    """An array, or a number when it is written for the last time, that kills the process which reads it."""

    seq: int | None = None

    def __mod__(self, other: int) -> int:
        assert self.seq is not None
        seq, self.seq = self.seq, None  # all that is left is `accepted_seq`
        return seq % other

    def __int__(self) -> int:
        return int(self.__array__())

    def __array__(self, *_: Any, **__: Any) -> Any:
        if self.seq is not None:
            return np.array(self.seq)
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError("not reached")
