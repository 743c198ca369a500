"""The part of a network that is the same whatever its heads say: torso, then core.

Shapes: N inference batch, T rows, B unrolls, F features, A actions, H state width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from seedbed.common.specs import ArraySpec
from seedbed.server.networks.cores import CoreName, make_core
from seedbed.server.networks.interface import AgentState, Inputs
from seedbed.server.networks.torsos import Activation, TorsoName, make_torso


class Body(nn.Module):
    """Rows and agent state in, float32 features and agent state out.

    Args:
        observation_specs: of one frame.
        num_actions: A, for cores that see the last action.
        torso, frame_stack, dtype, background, mlp_sizes, mlp_activation: see `make_torso`.
        core, core_size: see `make_core`.

    Attributes:
        output_size: F.

    Raises:
        SpecError: the observations are not what the torso can read.
        ValueError: an option makes no sense.
    """

    def __init__(
        self,
        observation_specs: tuple[ArraySpec, ...],
        num_actions: int,
        *,
        torso: TorsoName = "mlp",
        frame_stack: int = 1,
        core: CoreName = "none",
        core_size: int = 256,
        dtype: torch.dtype = torch.float32,
        background: float = 0.0,
        mlp_sizes: tuple[int, ...] = (64, 64),
        mlp_activation: Activation = "tanh",
    ) -> None:
        super().__init__()
        self.torso = make_torso(
            torso,
            observation_specs,
            frame_stack,
            dtype=dtype,
            background=background,
            mlp_sizes=mlp_sizes,
            mlp_activation=mlp_activation,
        )
        self.core = make_core(core, self.torso.output_size, num_actions, core_size)
        self.output_size = self.core.output_size

    def initial_state(self, batch_size: int, device: torch.device | str | None = None) -> AgentState:
        """The state at the start of an episode, each `[batch_size, H]`."""
        return self.core.initial_state(batch_size, device)

    def step(self, inputs: Inputs, state: AgentState) -> tuple[Tensor, AgentState]:
        """One row of each of N environments to `[N, F]` and the state after it: an unroll of length 1."""
        features, state = self.unroll(inputs.map(lambda x: x.unsqueeze(0)), state)
        return features.squeeze(0), state

    def unroll(self, inputs: Inputs, state: AgentState) -> tuple[Tensor, AgentState]:
        """T rows of each of B environments to `[T, B, F]` and the state after the last."""
        rows = tuple(x.flatten(0, 1) for x in inputs.observations)
        features = self.torso(rows).float().unflatten(0, inputs.step_type.shape)
        outputs: tuple[Tensor, AgentState] = self.core(features, inputs, state)
        return outputs

    def store_for_acting(self) -> None:
        """Stores the torso's weights in the dtype it computes in: the same outputs, without a cast in every forward.

        For copies that act. A learner keeps float32, in which small updates are not lost.
        """
        self.torso.to(self.torso.dtype)
