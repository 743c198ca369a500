"""The part of a network that is the same whatever its heads say: torso, then core.

Shapes: N inference batch, T rows, B unrolls, F features, H state width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from seedbed.common.specs import ArraySpec
from seedbed.server.networks.cores import make_core
from seedbed.server.networks.distributions import ActionSpace
from seedbed.server.networks.interface import AgentState, Inputs
from seedbed.server.networks.observations import FromZero
from seedbed.server.networks.torsos import make_torso
from seedbed.server.options.network import NetworkConfig


class Body(nn.Module):
    """Rows and agent state in, float32 features and agent state out.

    Args:
        shown: specs of one frame of what it reads, `EnvironmentSpec.shown`.
        space: of the actions, for cores that read the last one.
        config: torso, core and their sizes.

    Attributes:
        output_size: F.
        blocks: see `PolicyNetwork`.

    Raises:
        SpecError: the observations are not what the torso can read.
    """

    def __init__(self, shown: tuple[ArraySpec, ...], space: ActionSpace, config: NetworkConfig) -> None:
        super().__init__()
        self.from_zero = nn.ModuleList(map(FromZero, shown))
        self.torso = make_torso(
            config.torso,
            shown,
            config.frame_stack,
            dtype=torch.bfloat16 if config.precision == "bfloat16" else torch.float32,
            background=config.background,
        )
        self.core = make_core(config.core, self.torso.output_size, space, config.core_size)
        self.output_size = self.core.output_size
        self.blocks = (self.torso.block,) * len(shown)

    def initial_state(self, batch_size: int, device: torch.device | str | None = None) -> AgentState:
        """The state at the start of an episode, each `[batch_size, ...]`."""
        return self.core.initial_state(batch_size, device)

    def step(self, inputs: Inputs, state: AgentState) -> tuple[Tensor, AgentState]:
        """One row of each of N environments to `[N, F]` and the state after it: an unroll of length 1."""
        features, state = self.unroll(inputs.map(lambda x: x.unsqueeze(0)), state)
        return features.squeeze(0), state

    def unroll(self, inputs: Inputs, state: AgentState) -> tuple[Tensor, AgentState]:
        """T rows of each of B environments to `[T, B, F]` and the state after the last."""
        pairs = zip(self.from_zero, inputs.observations, strict=True)
        rows = tuple(from_zero(x.flatten(0, 1)) for from_zero, x in pairs)
        features = self.torso(rows).float().unflatten(0, inputs.step_type.shape)
        outputs: tuple[Tensor, AgentState] = self.core(features, inputs, state)
        return outputs

    def store_for_acting(self) -> None:
        """Stores the torso's weights in the dtype it computes in: the same outputs, without a cast in every forward.

        For copies that act. A learner keeps float32, in which small updates are not lost.
        """
        self.torso.to(self.torso.dtype)
