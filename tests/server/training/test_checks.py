"""The checks that authors of plug-ins call: they pass what is right, and see what is wrong."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, Literal

import pytest
import torch
from torch import Tensor, nn

from seedbed.common.specs import ArraySpec
from seedbed.server.algorithms.acting import Acting, Decision
from seedbed.server.algorithms.registry import ALGORITHMS, find_algorithm
from seedbed.server.algorithms.update_steps import Step
from seedbed.server.algorithms.vtrace import VTrace
from seedbed.server.experience.batch import TrainBatch
from seedbed.server.networks.interface import AgentState, Inputs, PolicyNetwork
from seedbed.server.networks.registry import TORSOS
from seedbed.server.networks.torso import Torso
from seedbed.server.networks.vectors import MLP
from seedbed.server.options.network import NetworkConfig
from seedbed.server.training.checks import VECTORS, check_algorithm, check_torso

VECTOR = (ArraySpec(name="observation", dtype="float32", shape=(4,)),)


BOXES = replace(VECTORS, actions=(ArraySpec(name="action", dtype="float32", shape=(2,), low=(-1,), high=(1,)),))


@pytest.mark.parametrize("name", ALGORITHMS)
def test_built_in_algorithms_pass(name: str) -> None:
    learnable = [spec for spec in (VECTORS, BOXES) if find_algorithm(name).suits(spec) is not None]
    assert learnable
    for spec in learnable:
        options: dict[str, object] = {"learning.unroll_length": 6}
        if name == "ald":  # what it distils on besides the batch at hand is no part of its state
            options["algorithm_options.distillation_steps"] = 1
        check_algorithm(name, spec, options=options)


@pytest.mark.parametrize("name", TORSOS)
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_built_in_torsos_pass(name: str, precision: Literal["float32", "bfloat16"]) -> None:
    check_torso(name, frame_stacks=(2,), config=NetworkConfig(precision=precision))


class Unplanned(VTrace):
    def plan(self, version: int) -> tuple[str, ...]:
        return ("all", "all")


class Forgetful(VTrace):
    """Records something else than the policy that acted."""

    def act(self, network: PolicyNetwork, inputs: Inputs, state: AgentState, acting: Acting) -> Decision:
        decision = super().act(network, inputs, state, acting)
        return decision._replace(recorded={name: x.flip(-1) for name, x in decision.recorded.items()})


class Careless(VTrace):
    """Takes rows that are none for some."""

    def steps(self, learnt: nn.Module, target: nn.Module | None, batch: TrainBatch) -> Iterator[Step]:
        for step in super().steps(learnt, target, batch):
            assert step.loss is not None
            yield step._replace(loss=step.loss + sum(p.square().sum() for p in learnt.parameters()))


class Counting(VTrace):
    """Keeps state that no checkpoint has."""

    count = 0

    def steps(self, learnt: nn.Module, target: nn.Module | None, batch: TrainBatch) -> Iterator[Step]:
        self.count += 1
        for step in super().steps(learnt, target, batch):
            assert step.loss is not None
            yield step._replace(loss=step.loss * self.count)


@pytest.mark.parametrize(
    ("algorithm", "message"),
    [
        (Unplanned, r"expected the steps of plan\(\): all, all"),
        (Forgetful, "expected log rho of 0 before anything is learnt, got"),
        (Careless, "expected a loss of 0 of a batch without transitions, got"),
        (Counting, "to be the same in a learner that was saved and restored"),
    ],
)
def test_wrong_algorithms_are_seen(algorithm: type[VTrace], message: str) -> None:
    with pytest.raises(AssertionError, match=message):
        check_algorithm(algorithm)


Change = Callable[[Tensor], Tensor]


def bad(change: Change, *, unused: bool = False) -> type[MLP]:
    class Bad(MLP):
        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments)
            self.unused = nn.Parameter(torch.zeros(1)) if unused else None

        def forward(self, observations: tuple[Tensor, ...]) -> Tensor:
            return change(super().forward(observations))

    return Bad


@pytest.mark.parametrize(
    ("torso", "message"),
    [
        (bad(lambda x: x - x.mean(0)), "expected the same features of a row alone and among others"),
        (bad(lambda x: x, unused=True), "expected a gradient for every parameter, got none for unused"),
        (bad(lambda x: x[:, 1:]), r"expected \(6, 64\), got \(6, 63\)"),
        (bad(lambda x: x / 0), "expected finite features"),
        (nn.Identity, "expected a seedbed.server.networks.torso.Torso, got Identity"),
        (Torso, "expected an output_size of at least 1, got 0"),
    ],
)
def test_wrong_torsos_are_seen(torso: Any, message: str) -> None:
    with pytest.raises(AssertionError, match=message):
        check_torso(torso, VECTOR)
