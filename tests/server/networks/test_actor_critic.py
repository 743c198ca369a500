"""The whole network: acting and learning must see the same policy."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch

from seedbed.common.specs import ArraySpec
from seedbed.common.timestep import StepType
from seedbed.server.networks.actor_critic import ActorCritic
from seedbed.server.networks.interface import AgentState, Inputs, Outputs

T, B, A = 7, 3, 5
SCREEN = (ArraySpec(name="screen", dtype="uint8", shape=(44, 44)),)
STATE = (ArraySpec(name="state", dtype="float32", shape=(4,)),)
NETWORKS: dict[str, dict[str, Any]] = {
    "feed-forward": {},
    "recurrent": {"core": "lstm", "core_size": 8},
    "convolutional": {"torso": "impala_shallow", "frame_stack": 2},
    "convolutional, half": {"torso": "impala_shallow", "frame_stack": 2, "dtype": torch.bfloat16},
    "all, half": {
        "torso": "nature",
        "frame_stack": 2,
        "core": "lstm",
        "core_size": 8,
        "dtype": torch.bfloat16,
    },
}
every_network = pytest.mark.parametrize("options", NETWORKS.values(), ids=NETWORKS.keys())


def make(options: dict[str, Any]) -> ActorCritic:
    torch.manual_seed(0)
    network = ActorCritic(STATE if options.get("torso", "mlp") == "mlp" else SCREEN, A, **options)
    with torch.no_grad():  # as after some training: logits that differ
        network.policy.weight.mul_(100.0)
    return network


def some_inputs(options: dict[str, Any], seed: int = 0) -> Inputs:
    generator = torch.Generator().manual_seed(seed)
    if options.get("torso", "mlp") == "mlp":
        observation = torch.randn(T, B, 1, 4, generator=generator)
    else:
        observation = torch.randint(0, 256, (T, B, 2, 44, 44), dtype=torch.uint8, generator=generator)
    step_type = torch.full((T, B), StepType.MID, dtype=torch.uint8)
    step_type[3, 1], step_type[4, 1] = StepType.LAST, StepType.FIRST
    step_type[0, 2] = StepType.FIRST
    return Inputs(
        (observation,),
        step_type,
        torch.randn(T, B, generator=generator),
        (torch.randint(0, A, (T, B), generator=generator),),
    )


def some_state(network: ActorCritic) -> AgentState:
    return tuple(torch.randn(x.shape, generator=torch.Generator().manual_seed(5)) for x in network.initial_state(B))


def act(network: ActorCritic, inputs: Inputs, state: AgentState) -> tuple[Outputs, AgentState]:
    """Row by row, as the server acts."""
    steps = []
    for t in range(T):
        outputs, state = network.step(inputs.map(lambda x, t=t: x[t]), state)  # type: ignore[misc]
        steps.append(outputs)
    return Outputs(*(torch.stack(x) for x in zip(*steps, strict=True))), state


@every_network
@torch.no_grad()
def test_unrolling_is_stepping(options: dict[str, Any]) -> None:
    network, inputs = make(options), some_inputs(options)
    acted, acted_state = act(network, inputs, some_state(network))
    learnt, learnt_state = network.unroll(inputs, some_state(network))
    tolerance = 2e-2 if "dtype" in options else 1e-5
    torch.testing.assert_close(acted, learnt, rtol=tolerance, atol=tolerance)
    torch.testing.assert_close(acted_state, learnt_state, rtol=tolerance, atol=tolerance)
    assert acted.logits.std() > 0.01


@every_network
@torch.no_grad()
def test_a_copy_that_acts_is_bit_for_bit_its_master(options: dict[str, Any]) -> None:
    master, inputs = make(options), some_inputs(options)
    acting = copy.deepcopy(master)
    acting.store_for_acting()
    dtype = options.get("dtype", torch.float32)
    assert {x.dtype for x in acting.body.torso.parameters()} == {dtype}
    assert {x.dtype for x in (*acting.body.core.parameters(), *acting.policy.parameters())} == {torch.float32}
    for x in master.parameters():
        x.add_(0.01 * torch.randn_like(x))
    for copied, original in zip(acting.parameters(), master.parameters(), strict=True):
        copied.copy_(original)
    ours, theirs = (network.unroll(inputs, some_state(network)) for network in (acting, master))
    assert all(torch.equal(x, y) for x, y in zip((*ours[0], *ours[1]), (*theirs[0], *theirs[1]), strict=True))


@every_network
def test_outputs_and_gradients_are_float32_and_reach_everything(options: dict[str, Any]) -> None:
    network, inputs = make(options), some_inputs(options)
    outputs, state = network.unroll(inputs, network.initial_state(B))
    assert outputs.logits.shape == (T, B, A)
    assert outputs.value.shape == (T, B)
    assert {x.dtype for x in (*outputs, *state)} == {torch.float32}
    (outputs.logits.square().sum() + outputs.value.sum()).backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.dtype == torch.float32
        assert parameter.grad.any(), name


@every_network
@torch.no_grad()
def test_rows_do_not_depend_on_who_shares_the_batch(options: dict[str, Any]) -> None:
    network, inputs = make(options), some_inputs(options)
    whole, _ = network.unroll(inputs, some_state(network))
    order = torch.tensor([2, 0, 1])
    permuted, _ = network.unroll(inputs.map(lambda x: x[:, order]), tuple(x[order] for x in some_state(network)))
    torch.testing.assert_close(permuted, Outputs(*(x[:, order] for x in whole)))


@torch.no_grad()
def test_the_first_policy_is_nearly_uniform() -> None:
    for options in NETWORKS.values():
        torch.manual_seed(0)
        network = ActorCritic(STATE if options.get("torso", "mlp") == "mlp" else SCREEN, A, **options)
        outputs, _ = network.unroll(some_inputs(options), network.initial_state(B))
        assert (outputs.logits.softmax(-1) - 1 / A).abs().max() < 0.02
        assert outputs.value.abs().max() < 5.0
        assert not network.policy.bias.any()


@torch.no_grad()
def test_only_a_recurrent_network_reads_reward_and_last_action() -> None:
    for options, reads in ((NETWORKS["feed-forward"], False), (NETWORKS["recurrent"], True)):
        network, inputs = make(options), some_inputs(options)
        changed = inputs._replace(reward=-inputs.reward, last_action=((inputs.last_action[0] + 1) % A,))
        before, after = (network.unroll(x, network.initial_state(B))[0].logits for x in (inputs, changed))
        assert torch.equal(before, after) is not reads


def test_an_unknown_option_is_refused() -> None:
    with pytest.raises(TypeError, match="torse"):
        ActorCritic(STATE, A, torse="mlp")
