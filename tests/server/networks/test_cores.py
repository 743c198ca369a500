"""Cores: the LSTM against PyTorch's own, and episodes that must not see one another."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from seedbed.common.errors import UsageError
from seedbed.common.specs import ArraySpec, discrete
from seedbed.common.timestep import StepType
from seedbed.server.networks.cores import LSTM, FeedForward
from seedbed.server.networks.distributions import ActionSpace
from seedbed.server.networks.interface import AgentState, Inputs
from seedbed.server.networks.registry import find_core
from seedbed.server.options.network import NetworkConfig

T, B, F, A, H = 9, 3, 5, 4, 6
SPACE = ActionSpace((discrete("action", A),))
CONFIG = NetworkConfig(core_size=H)


def lstm() -> LSTM:
    torch.manual_seed(0)
    return LSTM(F, SPACE, CONFIG)


def some_inputs() -> tuple[Tensor, Inputs]:
    """Features and rows; environment 0 has no FIRST, 1 has two in mid-unroll, 2 starts with one."""
    generator = torch.Generator().manual_seed(1)
    step_type = torch.full((T, B), StepType.MID, dtype=torch.uint8)
    for t, b in ((3, 1), (7, 1), (0, 2), (5, 2)):
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


def some_state(seed: int = 2) -> AgentState:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(B, H, generator=generator), torch.randn(B, H, generator=generator)


def rows(inputs: Inputs, times: slice, batch: slice = slice(None)) -> Inputs:
    return inputs.map(lambda x: x[times, batch])


def oracle(core: LSTM, features: Tensor, inputs: Inputs, state: AgentState) -> tuple[Tensor, AgentState]:
    """`torch.nn.LSTMCell`, one environment and one row at a time, as the definition says."""
    cell = torch.nn.LSTMCell(F + 1 + A, H)
    weights = (core.input_projection.weight, core.recurrence.weight, core.input_projection.bias, torch.zeros(4 * H))
    for parameter, weight in zip((cell.weight_ih, cell.weight_hh, cell.bias_ih, cell.bias_hh), weights, strict=True):
        parameter.data.copy_(weight.detach())
    outputs, states = torch.zeros(T, B, H), [torch.zeros(B, H), torch.zeros(B, H)]
    for b in range(B):
        hidden, memory = state[0][b : b + 1], state[1][b : b + 1]
        for t in range(T):
            reward, action = [inputs.reward[t, b].clamp(-1, 1).item()], [0.0] * A
            action[int(inputs.last_action[0][t, b])] = 1.0
            if inputs.step_type[t, b] == StepType.FIRST:
                hidden, memory = torch.zeros(1, H), torch.zeros(1, H)
                reward, action = [0.0], [0.0] * A
            x = torch.cat((features[t, b], torch.tensor(reward), torch.tensor(action)))
            hidden, memory = cell(x[None], (hidden, memory))
            outputs[t, b] = hidden[0]
        states[0][b], states[1][b] = hidden[0], memory[0]
    return outputs, (states[0], states[1])


@torch.no_grad()
def test_the_lstm_is_pytorchs_with_state_zeroed_before_first_rows() -> None:
    core = lstm()
    torch.testing.assert_close(core(*some_inputs(), some_state()), oracle(core, *some_inputs(), some_state()))


@torch.no_grad()
@pytest.mark.parametrize("length", [1, 2, 4])
def test_an_unroll_is_its_pieces_one_after_the_other(length: int) -> None:
    core, (features, inputs) = lstm(), some_inputs()
    whole, final = core(features, inputs, some_state())
    state = some_state()
    pieces = []
    for t in range(0, T, length):
        times = slice(t, t + length)
        piece, state = core(features[times], rows(inputs, times), state)
        pieces.append(piece)
    torch.testing.assert_close(torch.cat(pieces), whole)
    torch.testing.assert_close(state, final)


@torch.no_grad()
def test_an_unroll_split_at_its_episodes_is_each_from_the_initial_state() -> None:
    core, (features, inputs) = lstm(), some_inputs()
    whole, final = core(features, inputs, some_state())
    for t, end in ((3, 7), (7, 9)):
        times, alone = slice(t, end), slice(1, 2)
        piece, state = core(features[times, alone], rows(inputs, times, alone), core.initial_state(1))
        torch.testing.assert_close(piece, whole[times, alone])
    torch.testing.assert_close(state, tuple(x[alone] for x in final))


def test_nothing_before_first_matters_not_even_nan() -> None:
    core, (features, inputs) = lstm(), some_inputs()
    clean, clean_state = core(features, inputs, some_state())
    spoilt = tuple(x.clone() for x in some_state())
    for x in spoilt:
        x[2] = math.nan
    spoilt[0].requires_grad_()
    reward, last_action = inputs.reward.clone(), inputs.last_action[0].clone()
    first = inputs.step_type == StepType.FIRST
    reward[first], last_action[first] = math.nan, -1
    outputs, state = core(features, inputs._replace(reward=reward, last_action=(last_action,)), spoilt)
    assert torch.equal(outputs, clean)
    assert all(torch.equal(x, y) for x, y in zip(state, clean_state, strict=True))
    (gradient,) = torch.autograd.grad(outputs.sum(), spoilt[0])
    assert not gradient[2].any()
    assert gradient[0].all()


def test_gradients_stop_at_first() -> None:
    core, (features, inputs) = lstm(), some_inputs()
    features.requires_grad_()
    outputs, _ = core(features, inputs, some_state())
    (gradient,) = torch.autograd.grad(outputs[6, 1].sum(), features)
    reached = gradient.any(-1)
    assert reached[:, 1].tolist() == [False] * 3 + [True] * 4 + [False] * 2
    assert not reached[:, [0, 2]].any()


@torch.no_grad()
def test_reward_and_last_action_are_read_and_reward_is_clipped() -> None:
    core, (features, inputs) = lstm(), some_inputs()
    before, _ = core(features, inputs, some_state())
    larger, _ = core(features, inputs._replace(reward=inputs.reward.sign() * 100), some_state())
    ones, _ = core(features, inputs._replace(reward=inputs.reward.sign()), some_state())
    assert torch.equal(larger, ones)
    assert not torch.equal(before, ones)
    other, _ = core(features, inputs._replace(last_action=((inputs.last_action[0] + 1) % A,)), some_state())
    assert not torch.isclose(other[1], before[1]).all(-1).any()


def test_the_initial_state_is_zero_and_the_forget_gate_open() -> None:
    core = lstm()
    state = core.initial_state(7)
    assert [tuple(x.shape) for x in state] == [(7, H), (7, H)]
    assert not any(x.any() for x in state)
    assert core.input_projection.bias.tolist() == [0.0] * H + [1.0] * H + [0.0] * 2 * H


@torch.no_grad()
def test_every_array_of_the_last_action_is_read_but_not_at_first() -> None:
    box = ArraySpec(name="b", dtype="float32", shape=(2,), low=(-1,), high=(1,))
    space = ActionSpace((discrete("a", 3), box))
    torch.manual_seed(0)
    core = LSTM(F, space, CONFIG)
    features, inputs = some_inputs()
    sent = (torch.randint(0, 3, (T, B)), torch.rand(T, B, 2))
    before, _ = core(features, inputs._replace(last_action=sent), some_state())
    for changed in (((sent[0] + 1) % 3, sent[1]), (sent[0], -sent[1])):
        after, _ = core(features, inputs._replace(last_action=changed), some_state())
        reads = ~torch.isclose(after[0], before[0]).all(-1)
        assert reads.tolist() == [True, True, False], "environment 2 starts with a FIRST"


def test_feed_forward_passes_features_on() -> None:
    features, inputs = some_inputs()
    core = find_core("none")(F, SPACE, CONFIG)
    assert isinstance(core, FeedForward)
    assert core.output_size == F
    assert core.initial_state(3) == ()
    outputs, state = core(features, inputs, ())
    assert outputs is features
    assert state == ()


def test_an_unknown_core_is_refused() -> None:
    with pytest.raises(UsageError, match=r"expected --core to be one of none, lstm, .* got 'gru'"):
        find_core("gru")
