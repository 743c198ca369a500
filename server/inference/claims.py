"""Ends of episodes as clients tell of them, against what the server has seen: nobody ends a run by a word.

A return counts where it is the sum of the raw rewards that came with the rows of an episode, over as many steps.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from seedbed.common.timestep import EpisodeEnd, StepType
from seedbed.server.inference.sinks import EpisodeListener
from seedbed.server.shared.recent import Recent

logger = logging.getLogger(__name__)

_RELATIVE = 1e-4  # rewards travel as float32, and clients add them up in other ways
_ABSOLUTE = 1e-3
_MOST_DOUBTED = 4096  # clients that are remembered as those of which it was said

Slots = NDArray[np.int64]


class _Claim(NamedTuple):
    """What a client says of an episode."""

    environment: int
    end: EpisodeEnd
    client_id: str


class Claims:
    """Used by the inference thread."""

    def __init__(self, num_slots: int, on_episode: EpisodeListener, on_refusal: Callable[[], None]) -> None:
        """Nothing has come yet.

        Args:
            num_slots: S.
            on_episode: hears of those that are right.
            on_refusal: hears that one is not.
        """
        self._on_episode = on_episode
        self._on_refusal = on_refusal
        self._claims: dict[int, _Claim] = {}
        self._ended: set[int] = set()  # slots whose row, not answered yet, is the real end of an episode
        self._doubted: Recent[str] = Recent(_MOST_DOUBTED)
        self._return = np.zeros(num_slots)
        self._magnitude = np.zeros(num_slots)
        self._steps = np.zeros(num_slots, np.int64)

    def begin(self, slots: Slots) -> None:
        """A lease begins: whatever was in these slots is forgotten."""
        self._clear(slots)
        for slot in slots.tolist():
            self._claims.pop(slot, None)
            self._ended.discard(slot)

    def claim(self, slot: int, index: int, end: EpisodeEnd, client_id: str) -> None:
        """A client says that an episode ends with the row that comes next."""
        self._ended.add(slot)
        self._claims[slot] = _Claim(index, end, client_id)

    def told_of(self, slots: Collection[int]) -> set[int]:
        """Those of these slots whose row is said to be the end of an episode, and not answered yet."""
        return self._ended.intersection(slots)

    def take_told_of(self, slots: Collection[int]) -> set[int]:
        """The same of rows that are LAST and about to be answered."""
        ended = self.told_of(slots)
        self._ended -= ended
        return ended

    def judge(self, slots: Slots, step_type: NDArray[np.uint8], reward: NDArray[np.float32], over: set[int]) -> None:
        """Rows that are about to be answered.

        Args:
            slots: `[N]`.
            step_type, reward: of these rows. A lost life ends no episode, and the FIRST after it is no step.
            over: those of them with which an episode ends, however it does.
        """
        stepped = step_type != StepType.FIRST
        chosen, rewards = slots[stepped], reward[stepped].astype(np.float64)
        self._return[chosen] += rewards
        self._magnitude[chosen] += np.abs(rewards)
        self._steps[chosen] += 1
        for slot in sorted(over):
            claim = self._claims.pop(slot, None)
            if claim is not None and self._agrees(slot, claim.end):
                self._on_episode(*claim)
            elif claim is not None:
                self._refuse(slot, claim)
        if over:
            self._clear(np.array(sorted(over), np.int64))

    def _agrees(self, slot: int, end: EpisodeEnd) -> bool:
        allowed = _ABSOLUTE + _RELATIVE * self._magnitude[slot]
        return end.steps == self._steps[slot] and abs(end.episode_return - self._return[slot]) <= allowed

    def _refuse(self, slot: int, claim: _Claim) -> None:
        self._on_refusal()
        if self._doubted.add(claim.client_id) > 1:
            return
        logger.warning(
            "%s: an episode of %g over %d steps is not counted, its rows say %g over %d; more are only counted",
            claim.client_id,
            claim.end.episode_return,
            claim.end.steps,
            self._return[slot],
            self._steps[slot],
        )

    def _clear(self, slots: Slots) -> None:
        self._return[slots] = self._magnitude[slots] = self._steps[slots] = 0
