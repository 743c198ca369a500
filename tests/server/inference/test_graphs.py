"""Padded, recorded steps equal plain ones. A stand-in for CUDA graphs replays on a CPU into the same fixed memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from seedbed.common.specs import ArraySpec, discrete
from seedbed.server.inference.graphs import GraphedStep, Graphs, buckets, capture_cuda_graph
from seedbed.server.networks.actor_critic import ActorCritic
from seedbed.server.networks.distributions import ActionSpace
from seedbed.server.networks.interface import Inputs
from seedbed.server.options.network import NetworkConfig

SPEC = ArraySpec(name="state", dtype="float32", shape=(3,))
RECORDED: list[int] = []


def capture(run: Callable[[], Any]) -> tuple[Callable[[], None], Any]:
    """Like a graph: results always stand in the memory of the recording."""
    outputs, state = run()
    RECORDED.append(len(outputs.policy))

    def replay() -> None:
        new_outputs, new_state = run()
        for old, new in zip((*outputs, *state), (*new_outputs, *new_state), strict=True):
            old.copy_(new)

    return replay, (outputs, state)


def make_network(seed: int = 0, core: str = "lstm", core_size: int = 5) -> ActorCritic:
    torch.manual_seed(seed)
    config = NetworkConfig(
        torso="mlp", core=core, core_size=core_size, core_memory=3, frame_stack=1, precision="float32"
    )
    return ActorCritic((SPEC,), ActionSpace((discrete("action", 4),)), config).requires_grad_(False)


def random_rows(count: int, seed: int = 0) -> tuple[Inputs, tuple[Tensor, ...]]:
    generator = torch.Generator().manual_seed(seed)
    inputs = Inputs(
        (torch.randn(count, 1, 3, generator=generator),),
        torch.randint(0, 3, (count,), dtype=torch.uint8, generator=generator),
        torch.randn(count, generator=generator),
        (torch.randint(0, 4, (count,), generator=generator),),
    )
    return inputs, tuple(torch.randn(count, 5, generator=generator) for _ in range(2))


def assert_equal(got: Any, expected: Any) -> None:
    (outputs, state), (expected_outputs, expected_state) = got, expected
    for ours, theirs in zip((*outputs, *state), (*expected_outputs, *expected_state), strict=True):
        torch.testing.assert_close(ours, theirs)


def test_buckets_are_powers_of_two_that_hold_all() -> None:
    assert buckets(256) == [16, 32, 64, 128, 256]
    assert buckets(100) == [16, 32, 64, 128]
    assert buckets(1) == [16]


def test_replays_equal_plain_steps_whatever_stood_in_the_memory_before() -> None:
    network = make_network()
    graphed = GraphedStep(network.step, 64, capture)
    RECORDED.clear()
    for seed, count in enumerate((16, 5, 1, 40, 33, 7, 64)):
        rows = random_rows(count, seed)
        assert_equal(graphed.step(*rows), network.step(*rows))
    assert RECORDED == [16, 64], "one recording a bucket"


def test_memories_of_several_dtypes_are_replayed() -> None:
    network = make_network(core="gtrxl", core_size=8)
    graphed = GraphedStep(network.step, 64, capture)
    for seed, count in enumerate((16, 5, 16)):
        inputs, _ = random_rows(count, seed)
        ring, position = network.initial_state(count)
        state = (torch.randn_like(ring), position + torch.arange(count))
        assert_equal(graphed.step(inputs, state), network.step(inputs, state))


def test_batches_beyond_the_largest_bucket_run_as_they_are() -> None:
    network = make_network()
    RECORDED.clear()
    rows = random_rows(17)
    assert_equal(GraphedStep(network.step, 16, capture).step(*rows), network.step(*rows))
    assert RECORDED == []


def test_new_weights_in_the_same_place_are_used() -> None:
    network, other = make_network(), make_network(1)
    graphed = GraphedStep(network.step, 16, capture)
    rows = random_rows(3)
    graphed.step(*rows)
    network.load_state_dict(other.state_dict())
    assert_equal(graphed.step(*rows), other.step(*rows))


def test_each_acting_copy_has_its_own() -> None:
    graphs, networks, rows = Graphs(16, capture), (make_network(0), make_network(1)), random_rows(3)
    for _ in range(2):
        for network in networks:
            assert_equal(graphs.of(network).step(*rows), network.step(*rows))
    assert graphs.of(networks[0]) is graphs.of(networks[0])


def test_without_graphs_networks_are_used_as_they_are() -> None:
    network = make_network()
    assert Graphs(16, None).of(network) is network


@pytest.mark.gpu
def test_cuda_graphs_equal_plain_steps() -> None:
    network = make_network().cuda()
    graphed = GraphedStep(network.step, 64, capture_cuda_graph)
    with torch.inference_mode():
        for seed, count in enumerate((16, 5, 40, 33)):
            inputs, state = random_rows(count, seed)
            rows = inputs.map(Tensor.cuda), tuple(map(Tensor.cuda, state))
            assert_equal(graphed.step(*rows), network.step(*rows))


def test_masks_and_several_arrays_of_any_dtype_are_padded_too() -> None:
    def step(inputs: Inputs, state: tuple[Tensor, ...]) -> tuple[Tensor, tuple[Tensor, ...]]:
        assert inputs.mask is not None
        counts, torque = inputs.last_action
        outputs = inputs.observations[1].sum((1, 2)) + counts + torque.sum(-1) + inputs.mask.sum(-1)
        return outputs, (state[0] + 1, state[1] * 2)

    def replayed(run: Callable[[], Any]) -> tuple[Callable[[], None], Any]:
        outputs, state = run()

        def replay() -> None:
            new_outputs, new_state = run()
            for old, new in zip((outputs, *state), (new_outputs, *new_state), strict=True):
                old.copy_(new)

        return replay, (outputs, state)

    graphed = GraphedStep(step, 64, replayed)
    for count in (3, 16, 5):
        inputs = Inputs(
            (torch.randint(0, 255, (count, 4, 2, 2), dtype=torch.uint8), torch.randn(count, 1, 3)),
            torch.ones(count, dtype=torch.uint8),
            torch.randn(count),
            (torch.randint(0, 4, (count,)), torch.randn(count, 2)),
            torch.randint(0, 2, (count, 7), dtype=torch.uint8),
        )
        state = (torch.arange(count), torch.randn(count, 2).to(torch.bfloat16))
        got, expected = graphed.step(inputs, state), step(inputs, state)
        assert torch.equal(got[0], expected[0])
        for ours, theirs in zip(got[1], expected[1], strict=True):
            assert ours.dtype == theirs.dtype
            assert torch.equal(ours, theirs)
