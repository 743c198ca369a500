"""The actor's loop, with tape doubles: what was done, in order, is the assertion."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, cast

import numpy as np
import pytest

from seedbed.common.timestep import Array, Timesteps
from seedbed.env_client.actor import LeaseLost, RunFinished, Stopped, run_actor


class TapedEnvironments:
    """Counts its timesteps in the reward, so that every message tells which one it is."""

    def __init__(self, group: int, tape: list[str]) -> None:
        self._group = group
        self._tape = tape
        self._count = 0

    def reset(self) -> Timesteps:
        self._tape.append(f"reset {self._group}")
        return self._rows()

    def step(self, actions: tuple[Array, ...]) -> Timesteps:
        self._tape.append(f"step {self._group} with {actions[0].item()}")
        return self._rows()

    def _rows(self) -> Timesteps:
        self._count += 1
        number = np.array([self._count], np.float32)
        return Timesteps(np.zeros(1, np.uint8), number, np.ones(1, np.float32), (number,))


class TapedPolicy:
    """Answers with the number of the timestep; raises what `failures` says for the n-th receive (from 0)."""

    def __init__(self, tape: list[str], failures: dict[int, Exception] | None = None) -> None:
        self._tape = tape
        self._failures = failures or {}
        self._sent: dict[int, int] = {}
        self._num_receives = 0

    def send(self, group: int, rows: Timesteps) -> None:
        assert group not in self._sent, "two in flight"
        self._sent[group] = int(rows.reward[0])
        self._tape.append(f"send {group}: {self._sent[group]}")

    def receive(self, group: int) -> tuple[Array, ...]:
        number, self._num_receives = self._num_receives, self._num_receives + 1
        answer = self._sent.pop(group)
        if number in self._failures:
            self._tape.append(f"receive {group}: {type(self._failures[number]).__name__}")
            raise self._failures[number]
        self._tape.append(f"receive {group}: {answer}")
        return (np.array([answer]),)


def play(num_groups: int, num_rounds: int, failures: dict[int, Exception] | None = None) -> list[str]:
    tape: list[str] = []
    groups = cast(Any, [TapedEnvironments(group, tape) for group in range(num_groups)])
    rounds = iter(range(num_rounds + 1))
    run_actor(TapedPolicy(tape, failures), groups, stop=lambda: next(rounds) == num_rounds)
    return tape


def lines(text: str) -> Iterable[str]:
    return [line.strip() for line in text.strip().splitlines()]


def test_one_half_steps_while_the_other_waits() -> None:
    assert play(num_groups=2, num_rounds=2) == lines(
        """
        reset 0
        send 0: 1
        reset 1
        send 1: 1
        receive 0: 1
        step 0 with 1
        send 0: 2
        receive 1: 1
        step 1 with 1
        send 1: 2
        receive 0: 2
        step 0 with 2
        send 0: 3
        receive 1: 2
        step 1 with 2
        send 1: 3
        """
    )


def test_single_group() -> None:
    assert play(num_groups=1, num_rounds=1) == ["reset 0", "send 0: 1", "receive 0: 1", "step 0 with 1", "send 0: 2"]


def test_lost_lease_resets_its_group_only() -> None:
    assert play(num_groups=2, num_rounds=2, failures={1: LeaseLost()})[4:] == lines(
        """
        receive 0: 1
        step 0 with 1
        send 0: 2
        receive 1: LeaseLost
        reset 1
        send 1: 2
        receive 0: 2
        step 0 with 2
        send 0: 3
        receive 1: 2
        step 1 with 2
        send 1: 3
        """
    )


@pytest.mark.parametrize("reason", [RunFinished(), Stopped()])
def test_end_of_the_run_ends_the_loop_at_once(reason: Exception) -> None:
    tape = play(num_groups=2, num_rounds=100, failures={2: reason})
    assert tape[-3:] == ["step 1 with 1", "send 1: 2", f"receive 0: {type(reason).__name__}"]


def test_stop_before_the_first_round_only_resets() -> None:
    assert play(num_groups=1, num_rounds=0) == ["reset 0", "send 0: 1"]
