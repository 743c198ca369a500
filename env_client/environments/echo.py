"""Echo environments: data that identifies itself, for tests of who gets which answer. They misbehave on request."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from seedbed.common.echo import (
    ECHO_ACTIONS,
    echo_actions,
    echo_digest,
    echo_encode,
    echo_length,
    echo_observations,
    echo_reward,
    echo_truncates,
)
from seedbed.common.errors import InvalidMessageError, SpecError
from seedbed.common.specs import ArraySpec, EnvironmentSpec, action_mask, discrete
from seedbed.env_client.environments.faults import FAULTS
from seedbed.env_client.environments.interface import Row, Status
from seedbed.env_client.environments.synthetic import take_time

_ID = ArraySpec(name="observation", dtype="float32", shape=(3,), low=(0,))
_BUTTON = discrete("action", ECHO_ACTIONS)
_SHOWN = (
    ArraySpec(name="/id", dtype="float32", shape=(3,), low=(0,)),
    ArraySpec(name="/camera", dtype="uint8", shape=(5, 4, 3), low=(0,), high=(255,)),
    ArraySpec(name="/flags", dtype="uint8", shape=(4,), low=(0,), high=(1,), kind="binary", source_dtype="int8"),
    discrete("/room", 5, start=3),
    ArraySpec(name="/speeds[0]", dtype="float32", source_dtype="float64"),
    ArraySpec(name="/speeds[1]", dtype="int32", shape=(2,), low=(-9,), high=(5, 90), source_dtype="int16"),
)
_STICK = ArraySpec(name="/stick", dtype="float32", shape=(2,), low=(-3, 0), high=(2.5,), source_dtype="float64")
_SEVERAL = (
    discrete("/button", ECHO_ACTIONS, start=-2),
    ArraySpec(name="/keys[0]", dtype="int64", shape=(3,), low=(0, 4, 0), high=(1, 6, 4), kind="discrete"),
    ArraySpec(name="/keys[1]", dtype="uint8", shape=(2, 2), low=(0,), high=(1,), kind="binary", source_dtype="int8"),
    _STICK,
)
_BOX = ArraySpec(name="action", dtype="float32", shape=(2, 3), low=(-1, -2, -3, -4, -5, -6), high=(0.5,))

ECHO_SPECS: Mapping[str, EnvironmentSpec] = {
    name: EnvironmentSpec(environment=name, observations=observations, actions=actions)
    for name, observations, actions in (
        ("seedbed/Echo-v0", (_ID,), (_BUTTON,)),
        ("seedbed/EchoBox-v0", (_ID,), (_BOX,)),
        ("seedbed/EchoMasked-v0", (_ID, action_mask((_BUTTON,))), (_BUTTON,)),
        ("seedbed/EchoMulti-v0", _SHOWN, _SEVERAL),
        ("seedbed/EchoMixed-v0", (*_SHOWN[:2], action_mask(_SEVERAL, "/action_mask"), *_SHOWN[2:]), _SEVERAL),
    )
}
"""One discrete action; a box; a mask beside the observation; arrays of every kind; these and a mask among them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EchoOptions:
    """Options of `Echo`, none of them part of the contract.

    Attributes:
        check: 1: an action that is not the echo of the observation ends the client with an error.
        fault: a name out of `FAULTS`; empty: none.
        fault_index, fault_at: which environment commits it, and in which of its steps, counted from when it was built.
        step_ms, jitter_ms: as in `SyntheticOptions`.
    """

    check: int = 0
    fault: str = ""
    fault_index: int = 0
    fault_at: int = 1
    step_ms: float = 0.0
    jitter_ms: float = 0.0


class Echo:
    """Shows (environment index, episode, step); `seedbed.common.echo` says what must follow from it.

    Args:
        name: out of `ECHO_SPECS`.
        options: see `EchoOptions`.
        index: the environment's stable index.
        seed: of the jitter.

    Raises:
        SpecError: there is no such fault.
    """

    def __init__(self, name: str, options: EchoOptions, index: int, seed: int) -> None:
        if options.fault and options.fault not in FAULTS:
            raise SpecError(f"{name}: expected a fault out of {', '.join(FAULTS)}, got {options.fault!r}")
        self._options = options
        self._steps_to_fault = options.fault_at if options.fault and options.fault_index == index else -1
        self._index = index
        self._rng = np.random.default_rng(seed)
        self._episode = -1
        self.frames = 0
        self.spec = ECHO_SPECS[name]

    def reset(self, observation: Row) -> None:
        """Starts the next episode; one that was left unfinished is not shown again."""
        self._episode += 1
        self.frames = 0
        self._show(self._here(), observation)

    def step(self, action: Row, observation: Row) -> tuple[float, Status]:
        """Moves one step on, whatever the action.

        Raises:
            InvalidMessageError: the check is on, and this is not the action that answers the last observation.
        """
        if self._options.check:
            self._check(action)
        take_time(self._options.step_ms, self._options.jitter_ms, self._rng)
        self.frames += 1
        here = self._here()
        self._show(here, observation)
        self._steps_to_fault -= 1
        if self._steps_to_fault == 0:
            return FAULTS[self._options.fault](), self._status()
        return float(echo_reward(here, echo_digest(self.spec.actions, action))), self._status()

    def close(self) -> None:
        """Nothing to free."""

    def _check(self, action: Row) -> None:
        expected = echo_actions(self.spec.actions, self._here())
        if not all(map(np.array_equal, action, expected)):
            raise InvalidMessageError(
                f"environment {self._index}, episode {self._episode}, step {self.frames}: "
                f"expected the echo {_shown(expected)}, got action {_shown(action)}"
            )

    def _show(self, here: np.typing.NDArray[np.float32], observation: Row) -> None:
        for array, part in zip(observation, echo_observations(self.spec, here), strict=True):
            array[...] = part

    def _here(self) -> np.typing.NDArray[np.float32]:
        return echo_encode(self._index, self._episode, self.frames)

    def _status(self) -> Status:
        if self.frames < echo_length(self._index, self._episode):
            return Status.RUNNING
        return Status.TRUNCATED if echo_truncates(self._index, self._episode) else Status.TERMINATED


def _shown(action: Row) -> str:
    return ", ".join(str(np.asarray(part).tolist()) for part in action)
