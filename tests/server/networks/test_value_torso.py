"""A value with a body of its own: nothing that the policy learns reaches it, nor the other way round."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from seedbed.common.specs import ArraySpec, discrete
from seedbed.server.networks.actor_critic import ActorCritic
from seedbed.server.networks.distributions import ActionSpace
from seedbed.server.networks.interface import Inputs, Outputs
from seedbed.server.options.network import NetworkConfig

T, B = 5, 3
STATE = (ArraySpec(name="state", dtype="float32", shape=(4,)), ArraySpec(name="other", dtype="float32", shape=(2,)))
SPACE = ActionSpace((discrete("action", 3), ArraySpec(name="box", dtype="float32", shape=(2,), low=(-1,), high=(1,))))
MLP = NetworkConfig(torso="mlp", frame_stack=1, core_size=8, precision="float32")
every_core = pytest.mark.parametrize("core", ["none", "lstm"])


def made(core: str, *, separate_value: bool = True) -> ActorCritic:
    torch.manual_seed(0)
    return ActorCritic(STATE, SPACE, replace(MLP, core=core), separate_value=separate_value)


def some_inputs() -> Inputs:
    torch.manual_seed(1)
    observations = (torch.randn(T, B, 1, 4), torch.randn(T, B, 1, 2))
    step_type = torch.ones(T, B, dtype=torch.uint8)
    step_type[0, 0] = 0
    return Inputs(observations, step_type, torch.randn(T, B), (torch.ones(T, B).long(), torch.rand(T, B, 2)))


def some_state(network: ActorCritic) -> tuple[Tensor, ...]:
    torch.manual_seed(2)
    return tuple(torch.randn_like(part) for part in network.initial_state(B))


@every_core
@torch.no_grad()
def test_unrolling_is_stepping_and_acting_copies_are_their_masters(core: str) -> None:
    network, inputs = made(core), some_inputs()
    acting = copy.deepcopy(network)
    acting.store_for_acting()
    whole, last = network.unroll(inputs, some_state(network))
    state, rows = some_state(network), []
    for t in range(T):
        outputs, state = acting.step(inputs.map(lambda x, t=t: x[t]), state)  # type: ignore[misc]
        rows.append(outputs)
    torch.testing.assert_close(Outputs(*map(torch.stack, zip(*rows, strict=True))), whole)
    torch.testing.assert_close(state, last)
    assert len(state) == (4 if core == "lstm" else 0)


@every_core
def test_gradients_keep_to_their_own_side(core: str) -> None:
    network, inputs = made(core), some_inputs()
    for name in Outputs._fields:
        network.zero_grad()
        outputs, _ = network.unroll(inputs, some_state(network))
        getattr(outputs, name).square().sum().backward()
        reached = {
            key.partition(".")[0]
            for key, parameter in network.named_parameters()
            if parameter.grad is not None and parameter.grad.any()
        }
        assert reached == ({"body", "policy"} if name == "policy" else {"value_body", "value"})


def test_each_remembers_what_is_its_own() -> None:
    network, inputs = made("lstm"), some_inputs()
    state = some_state(network)
    plain = network.unroll(inputs, state)[0]
    for number, part in enumerate(state):
        changed = list(state)
        changed[number] = part + 1
        other = network.unroll(inputs, tuple(changed))[0]
        assert torch.equal(other.policy, plain.policy) == (number >= 2)
        assert torch.equal(other.value, plain.value) == (number < 2)


def test_one_torso_has_the_weights_it_always_had() -> None:
    """Presets whose figures were measured with one torso start from the same weights."""
    shared, separate = made("none", separate_value=False), made("none")
    names = set(shared.state_dict())
    assert not any(name.startswith("value_body") for name in names)
    assert {name for name in separate.state_dict() if not name.startswith("value_body")} == names
    for name in names:
        assert torch.equal(shared.state_dict()[name], separate.state_dict()[name]), name
