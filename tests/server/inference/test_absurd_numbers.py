"""The largest numbers that clients may send: no answer that is not finite comes of them, whatever acts."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from seedbed.common.errors import DivergedError
from seedbed.common.timestep import LARGEST, StepType
from seedbed.server.training.assemble import assemble
from tests.reference.device_world import make_config


def answer(algorithm: str, core: str, number: float) -> list[str]:
    """Eight rows of four environments, one of which shows the number; returns what was not finite."""
    more: dict[str, Any] = (
        {"algorithm_options__replay__replay_device": "cpu"} if algorithm in ("r2d2", "sac", "td3") else {}
    )
    config, spec = make_config(
        algorithm, image=False, core=core, run__device="cpu", network__normalise_observations="off", **more
    )
    parts, slots, random = assemble(config, spec), np.arange(4), np.random.default_rng(0)
    parts.inference.begin(slots, 1, [0, 1, 2, 3])
    for step in range(8):
        shown = parts.slots.observations[0]
        shown[slots] = random.normal(size=shown[slots].shape)
        shown[0] = number * (-1) ** step
        parts.slots.step_type[slots] = StepType.MID if step else StepType.FIRST
        answered = parts.inference.act(slots)
        if len(complete := parts.inference.remember(answered)):
            parts.unrolls.complete(complete)
    state, recorded = answered.decision.state, answered.decision.recorded
    found = [*recorded.items(), *((f"state {i}", part) for i, part in enumerate(state))]
    return [name for name, tensor in found if not bool(tensor.isfinite().all())]


@pytest.mark.parametrize(
    ("algorithm", "core"), [("vtrace", "gtrxl"), ("r2d2", "lstm"), ("sac", "none"), ("td3", "gtrxl"), ("pqn", "none")]
)
def test_the_largest_numbers_leave_every_answer_finite(algorithm: str, core: str) -> None:
    assert answer(algorithm, core, LARGEST) == []


def test_larger_ones_would_end_a_run() -> None:
    """Which is why nobody takes them."""
    with pytest.raises(DivergedError):
        answer("sac", "none", 3e38)
    assert answer("vtrace", "gtrxl", 3e38)
