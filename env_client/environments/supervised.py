"""Where one environment sits: watched while it works, and built again when it breaks."""

from __future__ import annotations

import contextlib
import logging
import time
import traceback
from collections.abc import Callable

from seedbed.common.errors import BrokenError, SeedbedError
from seedbed.common.restarts import RestartBudget
from seedbed.common.timestep import LARGEST, is_usable
from seedbed.env_client.environments.interface import Environment, Limits, Row, Status
from seedbed.env_client.environments.step_watchdog import Watchdog

_log = logging.getLogger(__name__)

MAX_REBUILDS, WINDOW_S = 3, 600.0

_FAULTS = (Exception, SystemExit)  # some games leave the interpreter when their window is closed
_told: set[tuple[type[BaseException], str, int]] = set()
"""Kinds of faults, and the places where they were raised, whose traceback this process has shown."""


class Supervised:
    """One environment, or its successors.

    An environment that raises, or shows what no server would take, is closed and another one is built in its place: up
    to `MAX_REBUILDS` times within `WINDOW_S`. A `SeedbedError` is no fault but a message to a person, and passes.

    Args:
        index: stable index of the environment.
        build: (how many were built before) -> an environment; raises a SeedbedError if it never can.
        limits: of the watchdog.
        watchdog: told when the environment works.
        clock: monotonic.

    Attributes:
        environment: the present one; None between a fault and the next reset.
    """

    def __init__(
        self,
        index: int,
        build: Callable[[int], Environment],
        *,
        limits: Limits | None = None,
        watchdog: Watchdog | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        limits = limits or Limits()
        self.index = index
        self._build = build
        self._num_built = 1
        self._step_limit_s, self._reset_limit_s = limits.step_s, limits.reset_s
        self._watchdog = watchdog or Watchdog()
        self._clock = clock
        self._budget = RestartBudget(MAX_REBUILDS, WINDOW_S)
        self._step_text, self._reset_text = (f"environment {index}: a {what}" for what in ("step", "reset"))
        self._watchdog.watch(self._reset_text, self._reset_limit_s)
        self.environment: Environment | None = build(0)
        self._watchdog.rest()

    def reset(self, observation: Row) -> bool:
        """Starts an episode, with as many new environments as that takes.

        Returns:
            Whether the environment is a new one.

        Raises:
            BrokenError: it took too many.
        """
        rebuilt = False
        while True:
            self._watchdog.watch(self._reset_text, self._reset_limit_s)
            try:
                if self.environment is None:
                    rebuilt = True
                    self.environment = self._build(self._num_built)
                    self._num_built += 1
                self.environment.reset(observation)
                for part in observation:
                    if part.dtype.kind == "f" and not is_usable(part):
                        raise ValueError(f"the first observation is not finite, or beyond {LARGEST:g}")
            except SeedbedError:
                raise
            except _FAULTS as fault:
                self.fail(fault)
            else:
                return rebuilt
            finally:
                self._watchdog.rest()

    def step(self, action: Row, observation: Row) -> tuple[float, Status] | None:
        """Takes one agent step; see `Environment.step`.

        Returns:
            None when the environment broke; the observation may be anything then.

        Raises:
            BrokenError: it has broken too often.
        """
        environment = self.environment
        assert environment is not None, "a seat whose environment broke is reset first"
        self._watchdog.watch(self._step_text, self._step_limit_s)
        try:
            reward, status = environment.step(action, observation)
            if not abs(reward) <= LARGEST:
                raise ValueError(f"the reward {reward} is not finite, or beyond {LARGEST:g}")
        except SeedbedError:
            raise
        except _FAULTS as fault:
            self.fail(fault)
            return None
        finally:
            self._watchdog.rest()
        return reward, status

    def fail(self, fault: BaseException) -> None:
        """Closes the environment, which is of no more use.

        Raises:
            BrokenError: this happens too often.
        """
        trace = fault if _is_new(fault) else None
        _log.warning("environment %d broke and is built again: %r", self.index, fault, exc_info=trace)
        self.close()
        if self._budget.spend(self._clock()) is None:
            often = f"{MAX_REBUILDS + 1} times within {WINDOW_S / 60:g} minutes"
            raise BrokenError(f"environment {self.index} broke {often}, at last by {fault!r}") from fault

    def close(self) -> None:
        """Closes the environment; what that raises is of no interest any more."""
        environment, self.environment = self.environment, None
        if environment is not None:
            self._watchdog.watch(f"environment {self.index}: closing it", self._step_limit_s)
            with contextlib.suppress(*_FAULTS):
                environment.close()
            self._watchdog.rest()


def _is_new(fault: BaseException) -> bool:
    """Whether its traceback is worth showing: a fault that many environments have, again and again, is shown once."""
    frames = traceback.extract_tb(fault.__traceback__)
    kind = type(fault), *((frames[-1].filename, frames[-1].lineno or 0) if frames else ("", 0))
    known = kind in _told
    _told.add(kind)
    return not known
