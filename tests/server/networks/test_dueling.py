"""The dueling network: what its heads must not see, and that steps and unrolls agree."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from seedbed.common.specs import ArraySpec, discrete
from seedbed.common.timestep import StepType
from seedbed.server.networks.distributions import ActionSpace
from seedbed.server.networks.dueling import Dueling
from seedbed.server.networks.interface import Inputs
from seedbed.server.options.network import NetworkConfig

SPECS = (ArraySpec(name="observation", dtype="float32", shape=(6,)),)
SPACE = ActionSpace((discrete("action", 5),))
MLP = NetworkConfig(torso="mlp", core_size=8, frame_stack=1, precision="float32")


def make(core: str) -> Dueling:
    torch.manual_seed(0)
    return Dueling(SPECS, SPACE, replace(MLP, core=core), head_size=16)


def make_rows(num_rows: int, batch: int) -> Inputs:
    generator = torch.Generator().manual_seed(1)
    step_type = torch.randint(0, 3, (num_rows, batch), generator=generator).to(torch.uint8)
    step_type[:, 0] = StepType.MID
    return Inputs(
        (torch.randn(num_rows, batch, 1, 6, generator=generator),),
        step_type,
        torch.randn(num_rows, batch, generator=generator),
        (torch.randint(0, 5, (num_rows, batch), generator=generator),),
    )


@pytest.mark.parametrize("core", ["none", "lstm"])
def test_unroll_is_step_by_step(core: str) -> None:
    network, rows = make(core), make_rows(7, 3)
    state = tuple(torch.randn_like(part) for part in network.initial_state(3))
    together, last = network.unroll(rows, state)
    for t in range(7):
        alone, state = network.step(rows.map(lambda x, t=t: x[t]), state)  # type: ignore[misc]
        torch.testing.assert_close(alone.q_values, together.q_values[t])
    for ours, theirs in zip(state, last, strict=True):
        torch.testing.assert_close(ours, theirs)


def test_the_mean_over_actions_is_the_value_whatever_the_advantages() -> None:
    network, features = make("none"), torch.randn(9, 64)
    q_values = network.heads(features).q_values
    torch.testing.assert_close(q_values.mean(-1, keepdim=True), network.value(features))
    assert q_values.std(-1).min() > 1e-4


def test_a_constant_added_to_all_advantages_changes_nothing() -> None:
    network, features = make("none"), torch.randn(9, 64)
    before = network.heads(features).q_values
    with torch.no_grad():
        network.advantage.output.weight += torch.randn(1, 16)  # the same for every action
    torch.testing.assert_close(network.heads(features).q_values, before)


def test_q_values_are_float32_behind_a_torso_in_bfloat16() -> None:
    network = Dueling(SPECS, SPACE, replace(MLP, precision="bfloat16"), head_size=16)
    network.store_for_acting()
    outputs, _ = network.step(make_rows(1, 3).map(lambda x: x[0]), ())
    assert outputs.q_values.dtype == torch.float32
