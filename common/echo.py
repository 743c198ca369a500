"""The arithmetic of echo environments: data that identifies itself.

An echo observation is float32 `[..., 3]` = (environment index, episode, step): exact, since all three stay far below
2**24. Everything else about it is a pure function: the action an echo policy must answer, the reward of the transition
that led to it, how long an episode is and how it ends. So any row found anywhere (a batch, an unroll, a log) tells
where it came from, and a misplaced one is an arithmetic fact.

All functions take arrays of any leading shape and broadcast.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

ECHO_ACTIONS = 7
"""A of the echo environments: prime, so no regular pattern in the rows hides a swap."""

ECHO_MAX_LENGTH = 16
"""Longest episode in agent steps; the shortest is 1."""

_ACTION, _REWARD, _LENGTH, _TRUNCATION = range(4)  # keep the hashes of different questions apart


def echo_encode(index: ArrayLike, episode: ArrayLike, step: ArrayLike) -> NDArray[np.float32]:
    """The observation float32 `[..., 3]` of an environment's stable index, episode (from 0) and step (0 at FIRST)."""
    return np.stack(np.broadcast_arrays(index, episode, step), axis=-1).astype(np.float32)


def echo_decode(observation: ArrayLike) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Reads (index, episode, step), int64 `[...]` each, from observations `[..., 3]`."""
    with np.errstate(invalid="ignore"):  # whoever sends 1e30 gets some answer
        index, episode, step = np.moveaxis(np.asarray(observation).astype(np.int64), -1, 0)
    return index, episode, step


def echo_action(observation: ArrayLike, num_actions: int = ECHO_ACTIONS) -> NDArray[np.int64]:
    """What an echo policy must answer: int64 `[...]` from 0 to `num_actions` - 1."""
    return (_hash(_ACTION, *echo_decode(observation)) % np.uint64(num_actions)).astype(np.int64)


def echo_reward(observation: ArrayLike, last_action: ArrayLike) -> NDArray[np.float32]:
    """The reward of the transition into an observation, float32 `[...]`; 0 at FIRST.

    Multiples of 1/8 from -8 to 8: exact in float32, and so is their sum.
    """
    index, episode, step = echo_decode(observation)
    raw = (_hash(_REWARD, index, episode, step, last_action) % np.uint64(129)).astype(np.float32) / 8 - 8
    return np.where(step == 0, np.float32(0), raw)


def echo_length(index: ArrayLike, episode: ArrayLike) -> NDArray[np.int64]:
    """Agent steps of an episode, int64 `[...]` from 1 to `ECHO_MAX_LENGTH`; its LAST has this step number."""
    return (_hash(_LENGTH, index, episode) % np.uint64(ECHO_MAX_LENGTH)).astype(np.int64) + 1


def echo_truncates(index: ArrayLike, episode: ArrayLike) -> NDArray[np.bool_]:
    """Whether an episode ends by truncation (a quarter of them) instead of termination."""
    return np.asarray(_hash(_TRUNCATION, index, episode) % np.uint64(4) == 0)


def _hash(*parts: ArrayLike) -> NDArray[np.uint64]:
    """A well mixed number for each tuple of integers: the finaliser of SplitMix64 after every part."""
    mixed: Any = np.uint64(0)
    with np.errstate(over="ignore"):  # arithmetic modulo 2**64 is meant
        for part in parts:
            mixed = (mixed ^ np.asarray(part).astype(np.uint64)) + np.uint64(0x9E3779B97F4A7C15)
            mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
            mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
            mixed = mixed ^ (mixed >> np.uint64(31))
    return np.asarray(mixed)
