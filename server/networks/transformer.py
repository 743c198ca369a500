"""Cores that remember by attention: TrXL-I and GTrXL (Parisotto et al. 2019, arXiv 1910.06764).

Each layer keeps the last M rows that came into it, as they were then, and looks at them. No gradient flows into what is
kept: within an unroll credit goes straight to the row that earned it, beyond it only what is seen does.

Layer normalisation stands before the sub-layers, so that a path without it leads from the torso to the heads, and each
ends in a ReLU. GTrXL puts a gate in the place of each sum (section 3.2).

Shapes: T rows, B environments, F features of the torso, D width, L layers, M rows kept, H heads of d numbers.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from seedbed.common.timestep import StepType
from seedbed.server.networks.attention import RelativeAttention, Window, window_of, written
from seedbed.server.networks.cores import Core, fed
from seedbed.server.networks.distributions import ActionSpace
from seedbed.server.networks.interface import AgentState, Inputs
from seedbed.server.networks.layers import HIDDEN_GAIN, initialise
from seedbed.server.options.network import NetworkConfig

GATE_BIAS = 2.0
"""Of z at first: 0.88 of a gate's output is what came in, so that a memory is added to a policy that reacts."""

_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


class TrXL(Core):
    """TrXL-I: sub-layers are added to what came in.

    The state is a ring of M rows for each layer, in the dtype of `core_memory_precision`, and how many rows of the
    episode there have been. Rows that are looked at are rounded to that dtype whether they come from the ring or from
    the unroll at hand, the row itself included: so inference and learner read the same.
    """

    costly = True
    gated = False

    def __init__(self, input_size: int, space: ActionSpace, config: NetworkConfig) -> None:
        """See `Core`."""
        super().__init__(input_size, space, config)
        self.output_size = size = config.core_size
        self._space = space
        self._length = config.core_memory
        self._dtype = _DTYPES[config.core_memory_precision]
        heads, head_size = config.core_heads, config.core_head_width
        self.embedding = nn.Linear(input_size + 1 + space.encoded_size, size)
        initialise(self.embedding, 1.0)
        self.layers = nn.ModuleList(
            Layer(size, heads, head_size, config.core_feed_forward_width, gated=self.gated)
            for _ in range(config.core_layers)
        )
        self.biases = nn.Parameter(torch.zeros(2, heads, head_size))

    def initial_state(self, batch_size: int, device: torch.device | str | None = None) -> AgentState:
        """An empty ring `[batch_size, L, M, D]`, and 0 rows, int64 `[batch_size]`."""
        shape = (batch_size, len(self.layers), self._length, self.output_size)
        ring = torch.zeros(shape, dtype=self._dtype, device=device)
        return ring, torch.zeros(batch_size, dtype=torch.int64, device=device)

    def forward(self, features: Tensor, inputs: Inputs, state: AgentState) -> tuple[Tensor, AgentState]:
        """All rows at once."""
        ring, position = state[0].detach(), state[1]
        window = window_of(inputs.step_type == StepType.FIRST, position, self._length)
        # What is not of this episode may be anything, NaN too, and 0 times NaN is NaN.
        kept = torch.where(window.stored[:, None, :, None], ring, 0.0).float()
        rows = self.embedding(fed(features, inputs, self._space)).transpose(0, 1)
        rings = []
        for number, layer in enumerate(self.layers):
            rings.append(written(ring[:, number], rows, window))
            rows = layer(rows, self._rounded(rows), kept[:, number], window, self.biases)
        return rows.transpose(0, 1), (torch.stack(rings, 1), window.position)

    def _rounded(self, rows: Tensor) -> Tensor:
        """As the ring will give them back; the gradient is that of the rows."""
        if self._dtype == rows.dtype:
            return rows
        return rows + (rows.to(self._dtype).to(rows.dtype) - rows).detach()


class GTrXL(TrXL):
    """GTrXL: gates in the place of sums."""

    gated = True


class Layer(nn.Module):
    """Attention, then two layers of each row alone.

    Args:
        size: D.
        heads, head_size: H and d.
        feed_forward: width between the two layers.
        gated: gates in the place of sums.
    """

    def __init__(self, size: int, heads: int, head_size: int, feed_forward: int, *, gated: bool) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(size)
        self.attention = RelativeAttention(size, heads, head_size)
        self.feed_forward_norm = nn.LayerNorm(size)
        self.feed_forward = nn.Sequential(
            nn.Linear(size, feed_forward), nn.ReLU(), nn.Linear(feed_forward, size), nn.ReLU()
        )
        for layer in (self.feed_forward[0], self.feed_forward[2]):
            assert isinstance(layer, nn.Linear)
            initialise(layer, HIDDEN_GAIN)
        self.attention_gate: Gate | Sum = Gate(size) if gated else Sum()
        self.feed_forward_gate: Gate | Sum = Gate(size) if gated else Sum()

    def forward(self, rows: Tensor, looked_at: Tensor, kept: Tensor, window: Window, biases: Tensor) -> Tensor:
        """Rows `[B, T, D]`, as they are looked at, and rows kept `[B, M, D]`, to `[B, T, D]`."""
        queries = self.attention_norm(rows)
        ours = queries if looked_at is rows else self.attention_norm(looked_at)
        context = torch.cat((self.attention_norm(kept), ours), 1)
        rows = self.attention_gate(rows, torch.relu(self.attention(queries, context, window, biases)))
        found: Tensor = self.feed_forward_gate(rows, self.feed_forward(self.feed_forward_norm(rows)))
        return found


class Sum(nn.Module):
    """The residual connection of TrXL-I."""

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """What came in, and what a sub-layer made of it."""
        return x + y


class Gate(nn.Module):
    """A gate like a GRU's (section 3.2): what came in is the state, what a sub-layer made of it the input.

    r = s(W_r y + U_r x),  z = s(W_z y + U_z x - b),  h = tanh(W_g y + U_g (r x)),  (1 - z) x + z h
    """

    def __init__(self, size: int) -> None:
        super().__init__()
        self.of_made = nn.Linear(size, 3 * size, bias=False)  # W_r, W_z, W_g
        self.of_input = nn.Linear(size, 2 * size, bias=False)  # U_r, U_z
        self.of_reset = nn.Linear(size, size, bias=False)  # U_g
        self.bias = nn.Parameter(torch.full((size,), GATE_BIAS))
        for layer in (self.of_made, self.of_input, self.of_reset):
            for matrix in layer.weight.detach().split(size):
                nn.init.orthogonal_(matrix)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """What came in, and what a sub-layer made of it, `[..., D]` each."""
        made_reset, made_update, made_candidate = self.of_made(y).chunk(3, -1)
        input_reset, input_update = self.of_input(x).chunk(2, -1)
        reset = torch.sigmoid(made_reset + input_reset)
        update = torch.sigmoid(made_update + input_update - self.bias)
        candidate = torch.tanh(made_candidate + self.of_reset(reset * x))
        return torch.lerp(x, candidate, update)
