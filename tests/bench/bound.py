"""How fast could this machine be, if each part cost what it costs alone and nobody ever waited?

On a CPU machine all parts share its cores, so the bound is cores / (sum of the parts' CPU costs), or what one learner
can do with its threads where that is less: it makes one update after the other. With a GPU each part is a stage of a
pipeline, and the slowest bounds them all.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from tests.bench.components import Cost
from tests.bench.wire import TransportCost

IN_BOUND = ("environment", "inference", "training", "transport")
"""The parts that no design can do without. Hand-over is ours, so it counts against us."""


@dataclass(frozen=True, slots=True)
class Bound:
    """Agent steps per second, and what sets them."""

    agent_steps_per_s: float
    stage: str


@dataclass(frozen=True, slots=True)
class Costs:
    """What every part costs alone.

    Attributes:
        parts: "environment", "inference", "hand_over" and "training".
        transport: the rest.
    """

    parts: Mapping[str, Cost]
    transport: TransportCost

    def cpu_us(self) -> dict[str, float]:
        """CPU microseconds of one agent step, by part."""
        return {name: cost.cpu_us for name, cost in self.parts.items()} | {"transport": self.transport.total.cpu_us}


def bound_of(costs: Costs, *, cores: int, device: str, frontends: int, torch_threads: int) -> Bound:
    """The bound of a machine.

    Args:
        costs: of the parts alone.
        cores: of the machine.
        device: "cpu" or "cuda".
        frontends: gRPC processes.
        torch_threads: of one operation on a CPU.
    """
    cpu_us = costs.cpu_us()
    all_cores = Bound(cores * 1e6 / sum(cpu_us[name] for name in IN_BOUND), "cores")
    learner = Bound(torch_threads * 1e6 / cpu_us["training"], "training")
    if device == "cpu":
        return min(all_cores, learner, key=lambda stage: stage.agent_steps_per_s)
    stages = (
        all_cores,
        Bound(cores * 1e6 / cpu_us["environment"], "environment"),
        Bound(1e6 / costs.parts["inference"].wall_us, "inference"),
        Bound(1e6 / costs.parts["training"].wall_us, "training"),
        Bound(frontends * 1e6 / costs.transport.frontend, "frontend"),
    )
    return min(stages, key=lambda stage: stage.agent_steps_per_s)
