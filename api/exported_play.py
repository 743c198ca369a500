"""Episodes in which an exported policy acts, and the policy it was made from is asked the same.

Shapes: N environments.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seedbed.common.errors import BrokenError
from seedbed.common.timestep import Array
from seedbed.env_client.environments.interface import Environment, Row, Status
from seedbed.policy import Memory, Policy
from seedbed.server.export.contract import Contract, number_port
from seedbed.server.export.session import Arrays, ExportedMemory
from seedbed.spaces import ActionWriter

Session = Callable[[Arrays], dict[str, NDArray[Any]]]

_MOST_TIES = 1e-3
_FORBIDDEN = 1e8  # sizes of logits that a mask forbids are beyond


@dataclass(slots=True)
class Agreement:
    """How far an exported policy agreed.

    Attributes:
        episodes, steps: that were played.
        difference: the largest of any number, as a share of the largest in its row where that is above 1.
        ties: actions that differed although all numbers agreed: two were worth the same.
        returns: of the episodes that ended.
    """

    episodes: int = 0
    steps: int = 0
    difference: float = 0.0
    ties: int = 0
    returns: list[float] = field(default_factory=list)


class Play:
    """Episodes of N environments, which are closed at the end.

    Args:
        environments: to play in.
        episodes: in all; each environment plays as many.
        max_steps: of an episode at most.

    Attributes:
        rows: what is shown now, `[N, ...]` for each observation array.
        first: bool `[N]`, an episode begins here.
        reward: float32 `[N]`, of the step that led here.
        returns: of the episodes that ended by themselves.
        episodes: that are over.
    """

    def __init__(self, environments: Sequence[Environment], *, episodes: int, max_steps: int) -> None:
        self._environments, self._max_steps = environments, max_steps
        self._left = [-(-episodes // len(environments))] * len(environments)
        spec, count = environments[0].spec, len(environments)
        self.rows = tuple(np.zeros((count, *array.shape), array.numpy_dtype) for array in spec.observations)
        self.first = np.ones(count, np.bool_)
        self.reward = np.zeros(count, np.float32)
        self.returns: list[float] = []
        self.episodes = 0
        self._steps = [0] * count
        self._sums = [0.0] * count
        for i, environment in enumerate(environments):
            environment.reset(self._row(i))

    @property
    def count(self) -> int:
        """N."""
        return len(self._environments)

    @property
    def is_over(self) -> bool:
        """Every environment has played its episodes."""
        return not any(self._left)

    def step(self, sent: tuple[Array, ...]) -> None:
        """Takes actions as they are sent; environments that are done stand still."""
        for i, environment in enumerate(self._environments):
            if self._left[i]:
                self._step(i, environment, tuple(array[i] for array in sent))

    def close(self) -> None:
        """Closes the environments."""
        for environment in self._environments:
            environment.close()

    def _step(self, i: int, environment: Environment, action: Row) -> None:
        reward, status = environment.step(action, self._row(i))
        self.reward[i], self.first[i] = reward, False
        self._steps[i] += 1
        self._sums[i] += reward
        if status is Status.RUNNING and self._steps[i] < self._max_steps:
            return
        if status in (Status.TERMINATED, Status.TRUNCATED):
            self.returns.append(self._sums[i])
        if status is not Status.LIFE_LOST:
            self.episodes += 1
            self._left[i] -= 1
            self._steps[i], self._sums[i] = 0, 0.0
        environment.reset(self._row(i))
        self.first[i], self.reward[i] = True, 0.0

    def _row(self, i: int) -> Row:
        return tuple(array[i : i + 1].reshape(array.shape[1:]) for array in self.rows)


def compare(policy: Policy, contract: Contract, session: Session, play: Play, tolerance: float) -> Agreement:
    """Plays with an exported policy to the end, its answers held against the policy's.

    Args:
        policy: that it was made from.
        contract, session: the exported one.
        play: where; it is closed.
        tolerance: of numbers.

    Raises:
        BrokenError: an action differs, or a number by more.
    """
    found = Agreement()
    memory, fed = policy.initial_memory(play.count), ExportedMemory(contract, play.count)
    in_own_units = ActionWriter(policy.spec)
    try:
        while not play.is_over:
            memory = memory.restarted(play.first)
            outputs = session({**_shown(contract, play), **fed.arrays})
            sent, after = policy.answer(play.rows, memory, play.reward)
            found.difference = max(found.difference, _difference(policy, memory, play, outputs, after, tolerance))
            wanted = in_own_units(sent, single=False)
            found.ties += _differing(policy, outputs, in_own_units.parts(wanted), tolerance)
            found.steps += play.count
            memory = after
            fed.take(outputs)
            play.step(sent)
    finally:
        play.close()
    if found.ties > _MOST_TIES * found.steps:
        raise BrokenError(f"expected the actions of seedbed.load, got {found.ties} others in {found.steps} steps")
    found.episodes, found.returns = play.episodes, play.returns
    return found


def _shown(contract: Contract, play: Play) -> dict[str, NDArray[Any]]:
    """Inputs but the memory."""
    arrays = dict(zip((array.name for array in contract.spec.observations), play.rows, strict=True))
    values = {"first": play.first, "reward": play.reward}
    return {
        port.name: arrays[port.array] if port.array is not None else values[port.role]
        for port in contract.inputs
        if port.role != "memory"
    }


def _difference(policy: Policy, memory: Memory, play: Play, outputs: Arrays, after: Memory, tolerance: float) -> float:
    """The largest of numbers and agent states."""
    names = [action.name for action in policy.spec.actions]
    numbers = policy.numbers(play.rows, memory, play.reward)
    wanted = {number_port(name, names).name: value for name, value in numbers.items()}
    wanted |= {f"next.state_{i}": part.cpu().numpy() for i, part in enumerate(after.state)}
    largest = 0.0
    for name, expected in wanted.items():
        worst = _error(outputs[name], expected)
        if not worst <= tolerance:
            raise BrokenError(
                f"expected {name} of the exported policy within {tolerance:g} of the run's, got {worst:.2g}"
            )
        largest = max(largest, worst)
    return largest


def _error(got: NDArray[Any], expected: NDArray[Any]) -> float:
    """The largest difference, as a share of the largest number in its row where that is above 1.

    Sums of large numbers that nearly cancel are no more exact than these; what a mask forbids is no number.
    """
    rows = len(expected)
    sizes = np.abs(expected.reshape(rows, -1).astype(np.float64))
    largest = np.where(sizes < _FORBIDDEN, sizes, 0.0).max(axis=1, initial=1.0)
    errors = np.abs(got.reshape(rows, -1).astype(np.float64) - expected.reshape(rows, -1)) / largest[:, None]
    return float(errors.max(initial=0.0))


def _differing(policy: Policy, outputs: Arrays, wanted: Sequence[Any], tolerance: float) -> int:
    """Rows whose discrete actions are others.

    Raises:
        BrokenError: a continuous one is.
    """
    rows: set[int] = set()
    for action, expected in zip(policy.spec.actions, wanted, strict=True):
        got = outputs[number_port(f"action.{action.name}", [a.name for a in policy.spec.actions]).name]
        if got.shape != expected.shape or got.dtype != expected.dtype:
            raise BrokenError(
                f"expected actions {expected.dtype}{list(expected.shape)}, got {got.dtype}{list(got.shape)}"
            )
        if action.kind == "box":
            spread = np.maximum(action.upper - action.lower, 1e-30)
            worst = float((np.abs(got.astype(np.float64) - expected) / spread).max())
            if not worst <= tolerance:
                raise BrokenError(f"expected action {action.name!r} of the run, got one {worst:.2g} of its range away")
        else:
            rows |= set(map(int, np.flatnonzero((got != expected).reshape(len(got), -1).any(1))))
    return len(rows)
