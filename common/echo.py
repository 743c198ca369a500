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
from functools import cache
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
    sizes = _action_sizes(tuple(specs))
    values = _numbers(_ACTION, len(sizes), observation) % sizes
    arrays = []
    for spec, part in zip(specs, _split(specs, values), strict=True):
        arrays.append(np.asarray(part / _FLOATS_PER_ONE - 1 if spec.kind == "box" else part, spec.numpy_dtype))
    return tuple(arrays)


def echo_mask(specs: Sequence[ArraySpec], observation: ArrayLike) -> NDArray[np.uint8]:
    """An action mask uint8 `[..., M]`: half of the values of each discrete element, the echo always among them."""
    sizes = [size for spec in specs for size in spec.num_values]
    mask = (_numbers(_MASK, sum(sizes), observation) % np.uint64(2)).astype(np.uint8)
    answers = [
        array.reshape((*mask.shape[:-1], spec.num_elements))
        for array, spec in zip(echo_actions(specs, observation), specs, strict=True)
        if spec.kind != "box"
    ]
    starts = np.cumsum([0, *sizes[:-1]])
    np.put_along_axis(mask, starts + np.concatenate(answers, axis=-1).astype(np.int64), 1, axis=-1)
    return mask


def echo_observations(spec: EnvironmentSpec, observation: ArrayLike) -> tuple[NDArray[Any], ...]:
    """Every observation array `[..., *shape]`: the one that identifies the row, a mask, and others full of numbers."""
    others = tuple(part for part in spec.observations[1:] if part.role == "value")
    low, sizes = _shown_ranges(others)
    values = low + (_numbers(_SHOWN, len(sizes), observation) % sizes).astype(np.float64)
    arrays = dict(zip(others, _split(others, values), strict=True))
    return (
        np.asarray(observation, np.float32),
        *(
            np.asarray(arrays[part], part.numpy_dtype) if part in arrays else echo_mask(spec.actions, observation)
            for part in spec.observations[1:]
        ),
    )


def echo_digest(specs: Sequence[ArraySpec], actions: Sequence[ArrayLike]) -> NDArray[np.int64]:
    """Actions `[..., *shape]`, as they travel, as one integer `[...]` each: what `echo_reward` is made of.

    One discrete action is its own; else every element of every array counts.
    """
    parts = []
    for spec, action in zip(specs, actions, strict=True):
        array: NDArray[Any] = np.asarray(action)
        flat = array.reshape((*array.shape[: array.ndim - len(spec.shape)], spec.num_elements))
        parts.append((np.rint(flat * _FLOATS_PER_ONE) if spec.kind == "box" else flat).astype(np.int64))
    elements = np.concatenate(parts, axis=-1)
    if elements.shape[-1] == 1:
        return elements[..., 0]
    digest = np.sum(_hash(np.arange(elements.shape[-1]), elements), axis=-1, dtype=np.uint64)
    return np.asarray(digest).astype(np.int64)


def echo_reward(observation: ArrayLike, last_action: ArrayLike) -> NDArray[np.float32]:
    """The reward of the transition into an observation, float32 `[...]`; 0 at FIRST.

    Multiples of 1/8 from -8 to 8: exact in float32, and so is their sum.

    Args:
        observation: that identifies the row.
        last_action: `echo_digest` of the actions before it.
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


@cache
def _action_sizes(specs: tuple[ArraySpec, ...]) -> NDArray[np.uint64]:
    """How many values each element of each action has, one after the other."""
    floats = 2 * _FLOATS_PER_ONE + 1
    return np.array([size for spec in specs for size in spec.num_values or [floats] * spec.num_elements], np.uint64)


@cache
def _shown_ranges(specs: tuple[ArraySpec, ...]) -> tuple[NDArray[np.float64], NDArray[np.uint64]]:
    """The least value of each element of each array, one after the other, and how many values it has."""
    low = np.concatenate([np.zeros(0), *(spec.lower.ravel() for spec in specs)])
    high = np.concatenate([np.zeros(0), *(spec.upper.ravel() for spec in specs)])
    low = np.where(np.isfinite(low), low, 0)
    return low, np.where(np.isfinite(high), high - low + 1, _WIDEST).astype(np.uint64)


def _split(specs: Sequence[ArraySpec], values: NDArray[Any]) -> list[NDArray[Any]]:
    """Values `[..., n]` of all elements, one after the other -> an array `[..., *shape]` for each spec."""
    arrays, start = [], 0
    for spec in specs:
        end = start + spec.num_elements
        arrays.append(values[..., start:end].reshape((*values.shape[:-1], *spec.shape)))
        start = end
    return arrays


def _numbers(question: int, count: int, observation: ArrayLike) -> NDArray[np.uint64]:
    """Well mixed numbers `[..., count]`."""
    questions = question + np.arange(count) * _NUM_QUESTIONS
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
