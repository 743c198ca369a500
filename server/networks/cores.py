"""Cores: what a network remembers from row to row of an episode.

A core turns features into features, and takes the agent state before the first row to the state after the last. State
is zeroed at FIRST *before* that row is processed, inside an unroll as in a single step, so that an episode never sees
the one before it.

Shapes: T rows, B environments, F features of the torso, E numbers of an encoded action, H state width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from seedbed.common.timestep import StepType
from seedbed.server.networks.distributions import ActionSpace
from seedbed.server.networks.interface import AgentState, Inputs
from seedbed.server.options.network import NetworkConfig


class Core(nn.Module):
    """Base of cores. A subclass builds its layers from what the constructor gets.

    Args:
        input_size: F.
        space: of the actions.
        config: the options of the network.

    Attributes:
        output_size: length of the feature vector it gives; F unless said otherwise.
        costly: a row costs many times what a small torso's does, as with attention: defaults go over it less often.
    """

    costly = False

    def __init__(self, input_size: int, space: ActionSpace, config: NetworkConfig) -> None:
        super().__init__()
        self.output_size = input_size

    def initial_state(self, batch_size: int, device: torch.device | str | None = None) -> AgentState:
        """The state at the start of an episode, each `[batch_size, ...]`."""
        raise NotImplementedError

    def forward(self, features: Tensor, inputs: Inputs, state: AgentState) -> tuple[Tensor, AgentState]:
        """`[T, B, F]` and the state before row 0 to `[T, B, output_size]` and the state after the last row."""
        raise NotImplementedError


def fed(features: Tensor, inputs: Inputs, space: ActionSpace) -> Tensor:
    """What a core reads of each row, `[T, B, F + 1 + E]`: features `[T, B, F]`, clipped reward and encoded last action.

    Reward and last action belong to the transition into the row, so both are zero at FIRST.
    """
    first = (inputs.step_type == StepType.FIRST).unsqueeze(-1)
    reward = inputs.reward.clamp(-1.0, 1.0).unsqueeze(-1).masked_fill(first, 0.0)
    last_action = space.encode(inputs.last_action).masked_fill(first, 0.0)
    return torch.cat((features, reward, last_action), dim=-1)


class FeedForward(Core):
    """The core that remembers nothing, and sees neither reward nor last action."""

    def initial_state(self, batch_size: int, device: torch.device | str | None = None) -> AgentState:
        """Empty."""
        return ()

    def forward(self, features: Tensor, inputs: Inputs, state: AgentState) -> tuple[Tensor, AgentState]:
        """Passes the features on."""
        return features, state


class LSTM(Core):
    """IMPALA's core (arXiv 1802.01561, figure 3): an LSTM over features, clipped reward and encoded last action."""

    def __init__(self, input_size: int, space: ActionSpace, config: NetworkConfig) -> None:
        """See `Core`."""
        super().__init__(input_size, space, config)
        self.output_size = size = config.core_size
        self._space = space
        self.input_projection = nn.Linear(input_size + 1 + space.encoded_size, 4 * size)
        self.recurrence = nn.Linear(size, 4 * size, bias=False)
        for layer in (self.input_projection, self.recurrence):
            for gate in layer.weight.detach().chunk(4):
                nn.init.orthogonal_(gate)
        with torch.no_grad():
            self.input_projection.bias.zero_()
            # Start by remembering (Jozefowicz et al. 2015), as IMPALA's and SEED RL's cores do. Gates: i, f, g, o.
            self.input_projection.bias[size : 2 * size] = 1.0

    def initial_state(self, batch_size: int, device: torch.device | str | None = None) -> AgentState:
        """Hidden and cell state, zero."""
        hidden = torch.zeros(batch_size, self.output_size, device=device)
        return hidden, torch.zeros_like(hidden)

    def forward(self, features: Tensor, inputs: Inputs, state: AgentState) -> tuple[Tensor, AgentState]:
        """Projects the inputs of all rows at once; only the recurrence runs row by row."""
        projected = self.input_projection(fed(features, inputs, self._space))
        first = (inputs.step_type == StepType.FIRST).unsqueeze(-1)
        hidden, cell = state
        outputs = []
        for projected_t, first_t in zip(projected.unbind(), first.unbind(), strict=True):
            hidden, cell = hidden.masked_fill(first_t, 0.0), cell.masked_fill(first_t, 0.0)
            hidden, cell = self._cell(projected_t, hidden, cell)
            outputs.append(hidden)
        return torch.stack(outputs), (hidden, cell)

    def _cell(self, projected: Tensor, hidden: Tensor, cell: Tensor) -> tuple[Tensor, Tensor]:
        """One row: `[B, 4H]`, `[B, H]`, `[B, H]` to the next hidden and cell state."""
        gates = torch.addmm(projected, hidden, self.recurrence.weight.t())
        input_gate, forget_gate, candidate, output_gate = gates.chunk(4, dim=-1)
        cell = torch.sigmoid(forget_gate) * cell + torch.sigmoid(input_gate) * torch.tanh(candidate)
        return torch.sigmoid(output_gate) * torch.tanh(cell), cell
