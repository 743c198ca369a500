"""The arithmetic of echo environments: data that identifies itself.

The first observation array of an echo environment is float32 `[..., 3]` = (environment index, episode, step): exact,
since all three stay far below 2**24. Everything else is a pure function of it: the other observation arrays, the
action that an echo policy must answer, the mask that allows it, the reward of the transition that led to it, how long
an episode is and how it ends. So any row found anywhere (a batch, an unroll, a log) tells where it came from, and a
misplaced one is an arithmetic fact.

All functions take arrays of any leading shape and broadcast.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from seedbed.common.specs import ArraySpec, EnvironmentSpec

ECHO_ACTIONS = 7
"""A of the echo environment with one discrete action: prime, so no regular pattern in the rows hides a swap."""

ECHO_MAX_LENGTH = 16
"""Longest episode in agent steps; the shortest is 1."""

# Keep the hashes of different questions apart. The n-th number of a kind asks `question + n * _NUM_QUESTIONS`.
_ACTION, _REWARD, _LENGTH, _TRUNCATION, _MASK, _SHOWN, _NUM_QUESTIONS = range(7)

_FLOATS_PER_ONE = 64  # floats are multiples of 1/64, exact in float32
_WIDEST = 1000  # values shown where a spec has no bounds


def echo_encode(index: ArrayLike, episode: ArrayLike, step: ArrayLike) -> NDArray[np.float32]:
    """The observation float32 `[..., 3]` of an environment's stable index, episode (from 0) and step (0 at FIRST)."""
    return np.stack(np.broadcast_arrays(index, episode, step), axis=-1).astype(np.float32)


def echo_decode(observation: ArrayLike) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Reads (index, episode, step), int64 `[...]` each, from observations `[..., 3]`."""
    with np.errstate(invalid="ignore"):  # whoever sends 1e30 gets some answer
        index, episode, step = np.moveaxis(np.asarray(observation).astype(np.int64), -1, 0)
    return index, episode, step


def echo_action(observation: ArrayLike, num_actions: int = ECHO_ACTIONS) -> NDArray[np.int64]:
    """What an echo policy must answer where there is one discrete action: int64 `[...]` below `num_actions`."""
    return (_hash(_ACTION, *echo_decode(observation)) % np.uint64(num_actions)).astype(np.int64)


def echo_actions(specs: Sequence[ArraySpec], observation: ArrayLike) -> tuple[NDArray[Any], ...]:
    """What an echo policy must answer: an array `[..., *shape]` for each action, as it travels."""
    arrays, start = [], 0
    for spec in specs:
        numbers = _numbers(_ACTION, start, spec.num_elements, observation)
        start += spec.num_elements
        sizes = np.array(spec.num_values or [2 * _FLOATS_PER_ONE + 1], np.uint64)
        values = (numbers % sizes).reshape((*numbers.shape[:-1], *spec.shape))
        values = values / _FLOATS_PER_ONE - 1 if spec.kind == "box" else values
        arrays.append(np.asarray(values, spec.numpy_dtype))
    return tuple(arrays)


def echo_mask(specs: Sequence[ArraySpec], observation: ArrayLike) -> NDArray[np.uint8]:
    """An action mask uint8 `[..., M]`: half of the values of each discrete element, the echo always among them."""
    sizes = [size for spec in specs for size in spec.num_values]
    mask = (_numbers(_MASK, 0, sum(sizes), observation) % np.uint64(2)).astype(np.uint8)
    answers = [
        array.reshape(*mask.shape[:-1], -1)
        for array, spec in zip(echo_actions(specs, observation), specs, strict=True)
        if spec.kind != "box"
    ]
    starts = np.concatenate([[0], np.cumsum(sizes)[:-1]]).astype(np.int64)
    np.put_along_axis(mask, starts + np.concatenate(answers, axis=-1).astype(np.int64), 1, axis=-1)
    return mask


def echo_observations(spec: EnvironmentSpec, observation: ArrayLike) -> tuple[NDArray[Any], ...]:
    """Every observation array `[..., *shape]`: the one that identifies the row, a mask, and others full of numbers."""
    arrays: list[NDArray[Any]] = [np.asarray(observation, np.float32)]
    start = 0
    for part in spec.observations[1:]:
        if part.role == "action_mask":
            arrays.append(echo_mask(spec.actions, observation))
            continue
        numbers = _numbers(_SHOWN, start, part.num_elements, observation)
        start += part.num_elements
        numbers = numbers.reshape((*numbers.shape[:-1], *part.shape))
        low = np.where(np.isfinite(part.lower), part.lower, 0)
        sizes = np.where(np.isfinite(part.upper), part.upper - low + 1, _WIDEST).astype(np.uint64)
        arrays.append(np.asarray(low + (numbers % sizes).astype(np.float64), part.numpy_dtype))
    return tuple(arrays)


def echo_elements(specs: Sequence[ArraySpec], actions: Sequence[ArrayLike]) -> list[NDArray[np.int64]]:
    """Actions as integers `[...]`, one for each element of each array: what `echo_reward` is made of."""
    elements: list[NDArray[np.int64]] = []
    for spec, action in zip(specs, actions, strict=True):
        array: NDArray[Any] = np.asarray(action)
        flat = array.reshape((*array.shape[: array.ndim - len(spec.shape)], spec.num_elements))
        whole = np.rint(flat * _FLOATS_PER_ONE) if spec.kind == "box" else flat
        elements += list(np.moveaxis(whole.astype(np.int64), -1, 0))
    return elements


def echo_reward(observation: ArrayLike, *last_action: ArrayLike) -> NDArray[np.float32]:
    """The reward of the transition into an observation, float32 `[...]`; 0 at FIRST.

    Multiples of 1/8 from -8 to 8: exact in float32, and so is their sum.

    Args:
        observation: that identifies the row.
        last_action: its elements, see `echo_elements`.
    """
    index, episode, step = echo_decode(observation)
    raw = (_hash(_REWARD, index, episode, step, *last_action) % np.uint64(129)).astype(np.float32) / 8 - 8
    return np.where(step == 0, np.float32(0), raw)


def echo_length(index: ArrayLike, episode: ArrayLike) -> NDArray[np.int64]:
    """Agent steps of an episode, int64 `[...]` from 1 to `ECHO_MAX_LENGTH`; its LAST has this step number."""
    return (_hash(_LENGTH, index, episode) % np.uint64(ECHO_MAX_LENGTH)).astype(np.int64) + 1


def echo_truncates(index: ArrayLike, episode: ArrayLike) -> NDArray[np.bool_]:
    """Whether an episode ends by truncation (a quarter of them) instead of termination."""
    return np.asarray(_hash(_TRUNCATION, index, episode) % np.uint64(4) == 0)


def _numbers(question: int, start: int, count: int, observation: ArrayLike) -> NDArray[np.uint64]:
    """Well mixed numbers `[..., count]`, from the `start`-th of their kind on."""
    questions = question + (start + np.arange(count)) * _NUM_QUESTIONS
    return _hash(questions, *(part[..., None] for part in echo_decode(observation)))


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
