"""The whole network: acting and learning must see the same policy."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch

from seedbed.common.specs import ArraySpec, discrete
from seedbed.common.timestep import StepType
from seedbed.server.networks.action_values import QNetwork
from seedbed.server.networks.actor_critic import ActorCritic
from seedbed.server.networks.distributions import ActionSpace
from seedbed.server.networks.dueling import Dueling
from seedbed.server.networks.interface import AgentState, Inputs, Outputs
from seedbed.server.networks.observations import to_blocks
from seedbed.server.options.network import NetworkConfig

T, B, A = 7, 3, 5
SCREEN = (ArraySpec(name="screen", dtype="uint8", shape=(44, 44)),)
STATE = (ArraySpec(name="state", dtype="float32", shape=(4,)),)
SPACE = ActionSpace((discrete("action", A),))
MLP = NetworkConfig(torso="mlp", frame_stack=1, core_size=8, precision="float32")
CONV = replace(MLP, torso="impala_shallow", frame_stack=2)
NETWORKS = {
    "feed-forward": MLP,
    "recurrent": replace(MLP, core="lstm"),
    "convolutional": CONV,
    "convolutional, half": replace(CONV, precision="bfloat16"),
    "all, half": replace(CONV, torso="nature", core="lstm", precision="bfloat16"),
}
every_network = pytest.mark.parametrize("config", NETWORKS.values(), ids=NETWORKS.keys())


def make(config: NetworkConfig) -> ActorCritic:
    torch.manual_seed(0)
    network = ActorCritic(STATE if config.torso == "mlp" else SCREEN, SPACE, config)
    with torch.no_grad():  # as after some training: logits that differ
        network.policy.weight.mul_(100.0)
    return network


def some_inputs(config: NetworkConfig, seed: int = 0) -> Inputs:
    generator = torch.Generator().manual_seed(seed)
    if config.torso == "mlp":
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
def test_unrolling_is_stepping(config: NetworkConfig) -> None:
    network, inputs = make(config), some_inputs(config)
    acted, acted_state = act(network, inputs, some_state(network))
    learnt, learnt_state = network.unroll(inputs, some_state(network))
    tolerance = 2e-2 if config.precision == "bfloat16" else 1e-5
    torch.testing.assert_close(acted, learnt, rtol=tolerance, atol=tolerance)
    torch.testing.assert_close(acted_state, learnt_state, rtol=tolerance, atol=tolerance)
    assert acted.policy.std() > 0.01


@every_network
@torch.no_grad()
def test_a_copy_that_acts_is_bit_for_bit_its_master(config: NetworkConfig) -> None:
    master, inputs = make(config), some_inputs(config)
    acting = copy.deepcopy(master)
    acting.store_for_acting()
    dtype = torch.bfloat16 if config.precision == "bfloat16" and config.torso != "mlp" else torch.float32
    assert {x.dtype for x in acting.body.torso.parameters()} == {dtype}
    assert {x.dtype for x in (*acting.body.core.parameters(), *acting.policy.parameters())} == {torch.float32}
    for x in master.parameters():
        x.add_(0.01 * torch.randn_like(x))
    for copied, original in zip(acting.parameters(), master.parameters(), strict=True):
        copied.copy_(original)
    ours, theirs = (network.unroll(inputs, some_state(network)) for network in (acting, master))
    assert all(torch.equal(x, y) for x, y in zip((*ours[0], *ours[1]), (*theirs[0], *theirs[1]), strict=True))


@every_network
def test_outputs_and_gradients_are_float32_and_reach_everything(config: NetworkConfig) -> None:
    network, inputs = make(config), some_inputs(config)
    outputs, state = network.unroll(inputs, network.initial_state(B))
    assert outputs.policy.shape == (T, B, A)
    assert outputs.value.shape == (T, B)
    assert {x.dtype for x in (*outputs, *state)} == {torch.float32}
    (outputs.policy.square().sum() + outputs.value.sum()).backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.dtype == torch.float32
        assert parameter.grad.any(), name


@every_network
@torch.no_grad()
def test_rows_do_not_depend_on_who_shares_the_batch(config: NetworkConfig) -> None:
    network, inputs = make(config), some_inputs(config)
    whole, _ = network.unroll(inputs, some_state(network))
    order = torch.tensor([2, 0, 1])
    permuted, _ = network.unroll(inputs.map(lambda x: x[:, order]), tuple(x[order] for x in some_state(network)))
    torch.testing.assert_close(permuted, Outputs(*(x[:, order] for x in whole)))


@torch.no_grad()
def test_the_first_policy_is_nearly_uniform() -> None:
    for config in NETWORKS.values():
        torch.manual_seed(0)
        network = ActorCritic(STATE if config.torso == "mlp" else SCREEN, SPACE, config)
        outputs, _ = network.unroll(some_inputs(config), network.initial_state(B))
        assert (outputs.policy.softmax(-1) - 1 / A).abs().max() < 0.02
        assert outputs.value.abs().max() < 5.0
        assert not network.policy.bias.any()


@torch.no_grad()
def test_only_a_recurrent_network_reads_reward_and_last_action() -> None:
    for config, reads in ((NETWORKS["feed-forward"], False), (NETWORKS["recurrent"], True)):
        network, inputs = make(config), some_inputs(config)
        changed = inputs._replace(reward=-inputs.reward, last_action=((inputs.last_action[0] + 1) % A,))
        before, after = (network.unroll(x, network.initial_state(B))[0].policy for x in (inputs, changed))
        assert torch.equal(before, after) is not reads


@every_network
@torch.no_grad()
def test_every_network_reads_its_image_in_blocks(config: NetworkConfig) -> None:
    """Plain frames and frames in the blocks that it asks for are the same to it, whatever its heads."""
    shown = STATE if config.torso == "mlp" else SCREEN
    for network in (
        ActorCritic(shown, SPACE, config),
        QNetwork(shown, SPACE, config),
        Dueling(shown, SPACE, config, head_size=8),
    ):
        assert network.blocks == ((1,) if config.torso == "mlp" else (4,))
        inputs = some_inputs(config)
        frames = inputs.observations[0]
        blocks = to_blocks(frames.flatten(0, 2), network.blocks[0]).unflatten(0, frames.shape[:3])
        state = network.initial_state(B)
        plain, in_blocks = (network.unroll(inputs._replace(observations=(x,)), state)[0] for x in (frames, blocks))
        torch.testing.assert_close(in_blocks, plain)


def test_deviations_of_boxes_are_weights_of_their_own_and_start_at_one() -> None:
    arrays = (discrete("a", 3), ArraySpec(name="b", dtype="float32", shape=(2,), low=(-1,), high=(1,)))
    torch.manual_seed(0)
    network = ActorCritic(STATE, ActionSpace(arrays), MLP)
    inputs = some_inputs(MLP)._replace(last_action=(torch.zeros(T, B).long(), torch.zeros(T, B, 2)))
    policy = network.unroll(inputs, ())[0].policy
    assert policy.shape == (T, B, 3 + 4)
    assert not policy[..., 5:].any()
    assert policy[..., :5].std() > 0
    policy[..., 5:].sum().backward()
    assert network.policy.free is not None
    assert network.policy.free.grad.tolist() == [T * B] * 2  # type: ignore[union-attr]
    assert ActorCritic(STATE, SPACE, MLP).policy.free is None
