"""Cores by attention: against an oracle and known numbers; unrolls, single steps and episodes; what is remembered."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from seedbed.common.errors import UsageError
from seedbed.common.specs import discrete
from seedbed.common.timestep import StepType
from seedbed.server.networks.attention import RelativeAttention, encoding_of, window_of
from seedbed.server.networks.distributions import ActionSpace
from seedbed.server.networks.interface import AgentState, Inputs
from seedbed.server.networks.registry import find_core
from seedbed.server.networks.transformer import Gate, Layer, TrXL
from seedbed.server.options.network import NetworkConfig
from tests.reference import transformer as reference

T, B, F, A = 13, 3, 5, 4
SPACE = ActionSpace((discrete("action", A),))
CONFIG = NetworkConfig(core="gtrxl", core_size=8, core_layers=2, core_heads=2, core_memory=5)
LENGTHS = [1, 5, 13, 40]

every_core = pytest.mark.parametrize("name", ["trxl", "gtrxl"])


def made(name: str = "gtrxl", **changes: Any) -> TrXL:
    torch.manual_seed(0)
    core = find_core(name)(F, SPACE, replace(CONFIG, core=name, **changes))
    assert isinstance(core, TrXL)
    with torch.no_grad():
        core.biases.normal_()
    return core


def some_inputs(seed: int = 1) -> tuple[Tensor, Inputs]:
    """Features and rows; environment 0 has no FIRST, 1 has two in mid-unroll, 2 starts with one."""
    generator = torch.Generator().manual_seed(seed)
    step_type = torch.full((T, B), StepType.MID, dtype=torch.uint8)
    for t, b in ((3, 1), (9, 1), (0, 2), (5, 2)):
        step_type[t, b] = StepType.FIRST
        if t:
            step_type[t - 1, b] = StepType.LAST
    inputs = Inputs(
        observations=(),
        step_type=step_type,
        reward=3.0 * torch.randn(T, B, generator=generator),
        last_action=(torch.randint(0, A, (T, B), generator=generator),),
    )
    return torch.randn(T, B, F, generator=generator), inputs


def rows(inputs: Inputs, times: slice, batch: slice = slice(None)) -> Inputs:
    return inputs.map(lambda x: x[times, batch])


def warm_state(core: TrXL, num_rows: int = 7) -> AgentState:
    """The state after some rows, in mid-episode for all but environment 2."""
    features, inputs = some_inputs(seed=5)
    _, state = core(features[:num_rows], rows(inputs, slice(num_rows)), core.initial_state(B))
    return tuple(part.detach() for part in state)


def in_pieces(core: TrXL, state: AgentState, length: int) -> tuple[Tensor, AgentState]:
    features, inputs = some_inputs()
    pieces = []
    for t in range(0, T, length):
        times = slice(t, t + length)
        piece, state = core(features[times], rows(inputs, times), state)
        pieces.append(piece)
    return torch.cat(pieces), state


@torch.no_grad()
@every_core
@pytest.mark.parametrize("memory", LENGTHS)
def test_a_core_is_the_papers_row_by_row(name: str, memory: int) -> None:
    core = made(name, core_memory=memory)
    features, inputs = some_inputs()
    outputs, _ = core(features, inputs, core.initial_state(B))
    first = inputs.step_type == StepType.FIRST
    encoded = torch.nn.functional.one_hot(inputs.last_action[0], A).float()
    reward = inputs.reward.clamp(-1, 1)[..., None]
    read = torch.cat((features, *(x.masked_fill(first[..., None], 0) for x in (reward, encoded))), -1)
    embedded = core.embedding(read).double().numpy()
    for b in range(B):
        expected = reference.transformer(
            embedded[:, b],
            first[:, b].tolist(),
            [weights_of(layer, core.biases) for layer in core.layers],
            heads=2,
            length=memory,
            gated=name == "gtrxl",
        )
        np.testing.assert_allclose(outputs[:, b].numpy(), expected, atol=2e-5)


def weights_of(layer: nn.Module, biases: Tensor) -> dict[str, Any]:
    assert isinstance(layer, Layer)
    attention = layer.attention
    named = {"q": attention.query, "k": attention.key, "v": attention.value, "r": attention.place}
    found: dict[str, Any] = {
        "attention": {
            **{key: linear.weight.numpy() for key, linear in named.items()},
            "o": attention.output.weight.numpy(),
        },
        "u": biases[0].numpy(),
        "v": biases[1].numpy(),
    }
    first, _, second, _ = layer.feed_forward
    assert isinstance(first, nn.Linear)
    assert isinstance(second, nn.Linear)
    found |= {
        "f1": first.weight.numpy(),
        "b1": first.bias.numpy(),
        "f2": second.weight.numpy(),
        "b2": second.bias.numpy(),
    }
    for name, gate in (("gate_1", layer.attention_gate), ("gate_2", layer.feed_forward_gate)):
        if isinstance(gate, Gate):
            made_of, input_of = gate.of_made.weight.chunk(3), gate.of_input.weight.chunk(2)
            matrices = dict(zip(("wr", "wz", "wg", "ur", "uz"), (*made_of, *input_of), strict=True))
            found[name] = {key: matrix.numpy() for key, matrix in matrices.items()}
            found[name] |= {"ug": gate.of_reset.weight.numpy(), "bias": gate.bias.numpy()}
    return found


@torch.no_grad()
@every_core
@pytest.mark.parametrize("memory", [1, 5, 40])
@pytest.mark.parametrize("length", [1, 3, 8])
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_an_unroll_is_its_pieces_one_after_the_other(name: str, memory: int, length: int, precision: str) -> None:
    core = made(name, core_memory=memory, core_memory_precision=precision)
    state = warm_state(core)
    whole, (ring, position) = in_pieces(core, state, T)
    pieces, (ring_after, position_after) = in_pieces(core, state, length)
    # A sum in another order may be rounded to the other neighbour in bfloat16.
    torch.testing.assert_close(pieces, whole, atol=1e-5 if precision == "float32" else 5e-3, rtol=0)
    assert torch.equal(position, position_after)
    assert position.tolist() == [7 + T, T - 9, T - 5]
    held = torch.arange(memory) < position[:, None].clamp(max=memory)  # places of earlier episodes hold anything
    assert ring.dtype == {"float32": torch.float32, "bfloat16": torch.bfloat16}[precision]
    torch.testing.assert_close(ring.transpose(1, 2)[held], ring_after.transpose(1, 2)[held], atol=5e-3, rtol=5e-3)


@torch.no_grad()
def test_rows_at_hand_are_rounded_as_the_ring_rounds_them() -> None:
    core = made(core_memory_precision="bfloat16", core_memory=40)
    whole, _ = in_pieces(core, core.initial_state(B), T)
    steps, _ = in_pieces(core, core.initial_state(B), 1)
    exact = made(core_memory=40)
    exact.load_state_dict(core.state_dict())
    unrounded, _ = in_pieces(exact, exact.initial_state(B), T)
    assert (whole - steps).abs().mean() < (whole - unrounded).abs().mean() / 20


@torch.no_grad()
def test_no_row_sees_further_back_than_the_window() -> None:
    core, (features, inputs) = made(core_layers=1), some_inputs()
    before, _ = core(features, inputs, core.initial_state(B))
    features[2, 0] += 1.0
    after, _ = core(features, inputs, core.initial_state(B))
    changed = ~torch.isclose(before, after, atol=1e-7).all(-1)
    assert changed[:, 0].nonzero().flatten().tolist() == [2, 3, 4, 5, 6, 7]  # itself and the M rows behind it
    assert not changed[:, 1:].any()


@torch.no_grad()
@every_core
def test_an_episode_never_sees_the_one_before_it_not_even_nan(name: str) -> None:
    core, (features, inputs) = made(name), some_inputs()
    clean, _ = core(features, inputs, warm_state(core))
    ring, position = warm_state(core)
    ring[2], position[2] = math.nan, 3
    spoilt, _ = core(features, inputs, (ring, position))
    assert torch.equal(spoilt, clean)
    alone, _ = core(features[9:, 1:2], rows(inputs, slice(9, None), slice(1, 2)), core.initial_state(1))
    torch.testing.assert_close(alone, clean[9:, 1:2])
    ring, position = core.initial_state(B)  # places that are not filled yet
    ring[:], position[:] = math.nan, 2
    ring[:, :, :2] = 0.5
    partly, _ = core(features, inputs, (ring, position))
    assert partly.isfinite().all()


def test_gradients_stop_at_first_and_at_what_is_kept() -> None:
    core, (features, inputs) = made(), some_inputs()
    features.requires_grad_()
    ring, position = warm_state(core)
    outputs, state = core(features, inputs, (ring.requires_grad_(), position))
    (gradient,) = torch.autograd.grad(outputs[11, 1].sum(), features, retain_graph=True)
    assert gradient.any(-1)[:, 1].tolist() == [False] * 9 + [True] * 3 + [False]
    assert not gradient[:, [0, 2]].any()
    assert not state[0].requires_grad
    assert torch.autograd.grad(outputs.sum(), ring, allow_unused=True) == (None,)


def test_every_weight_gets_a_gradient() -> None:
    core = made(core_memory_precision="bfloat16")
    outputs, _ = core(*some_inputs(), warm_state(core))
    outputs.square().sum().backward()
    assert [name for name, weight in core.named_parameters() if weight.grad is None or not weight.grad.any()] == []


def test_the_gate_of_known_numbers() -> None:
    gate, x, y = Gate(2), torch.tensor([1.0, -1.0]), torch.tensor([0.5, 2.0])
    with torch.no_grad():
        for layer in (gate.of_made, gate.of_input, gate.of_reset):
            layer.weight.copy_(torch.eye(2).repeat(len(layer.weight) // 2, 1))
    torch.testing.assert_close(gate(x, y), torch.tensor([0.949477, -0.501514]), atol=1e-6, rtol=0)
    with torch.no_grad():
        gate.bias.zero_()
    torch.testing.assert_close(gate(x, y), torch.tensor([0.890592, 0.355025]), atol=1e-6, rtol=0)
    with torch.no_grad():
        gate.bias.fill_(2.0)
        for layer in (gate.of_made, gate.of_input, gate.of_reset):
            layer.weight.zero_()
    torch.testing.assert_close(gate(x, y), (1 - 0.11920292) * x)
    with torch.no_grad():
        gate.bias.fill_(100.0)
    torch.testing.assert_close(gate(x, y), x)


@torch.no_grad()
def test_attention_of_known_numbers() -> None:
    attention = RelativeAttention(2, heads=1, head_size=2)
    for layer in attention.children():
        assert isinstance(layer, nn.Linear)
        layer.weight.copy_(torch.eye(2))
    context = torch.tensor([[[1.0, 0.0], [0.0, 0.0], [0.0, 1.0], [1.0, 1.0]]])  # two places, of which one is filled
    biases = torch.tensor([[[0.1, 0.0]], [[0.0, 0.2]]])
    for position, expected in (
        (1, [[0.263770, 0.736229], [0.694515, 0.847220]]),
        (0, [[0.0, 1.0], [0.639426, 1.0]]),
    ):
        window = window_of(torch.zeros(2, 1, dtype=torch.bool), torch.tensor([position]), 2)
        found = attention(context[:, 2:], context, window, biases)
        torch.testing.assert_close(found[0], torch.tensor(expected), atol=2e-6, rtol=0)
    expected_encoding = torch.tensor([0.841471, 0.01, 0.540302, 0.99995])
    torch.testing.assert_close(encoding_of(torch.tensor([1]), 4)[0], expected_encoding, atol=1e-6, rtol=0)


@pytest.mark.parametrize(
    ("layers", "size", "heads", "feed_forward", "expected"), [(2, 32, 2, 64, 43_648), (3, 64, 4, 128, 259_904)]
)
def test_the_number_of_parameters(layers: int, size: int, heads: int, feed_forward: int, expected: int) -> None:
    core = made(core_layers=layers, core_size=size, core_heads=heads, core_feed_forward=feed_forward)
    counted = sum(x.numel() for x in core.parameters()) - sum(x.numel() for x in core.embedding.parameters())
    assert counted == expected


def test_sizes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(UsageError, match=r"expected --core-heads that divide --core-size 8, .* got 3"):
        made(core_heads=3)
    with pytest.raises(UsageError, match="expected an even --core-size with --core gtrxl, got 7"):
        made(core_size=7)
    assert made(core_heads=3, core_head_size=4)(*some_inputs(), made().initial_state(B))[0].shape == (T, B, 8)
    NetworkConfig(core="lstm", core_size=7)
