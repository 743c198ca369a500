"""The actor-critic network: a linear policy head and a linear value head, on one body or on one each.

On one body the gradient of the values, whose scale is that of the returns, goes through the features that the policy
reads. With a body of its own the value has its own memory too, beside the policy's in the agent state: what a policy
must remember and what a value must are not the same, and A3C's networks for continuous control share nothing either.

Shapes: F features, P parameters of the action distribution.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from seedbed.common.specs import ArraySpec
from seedbed.server.networks.body import Body
from seedbed.server.networks.distributions import ActionSpace
from seedbed.server.networks.headed import HeadedNetwork
from seedbed.server.networks.interface import AgentState, Inputs, Outputs
from seedbed.server.networks.layers import initialise
from seedbed.server.networks.value_head import ValueHead
from seedbed.server.options.network import NetworkConfig


class ActorCritic(HeadedNetwork):
    """Policy and value of every row.

    Args:
        shown, space, config: see `Body`.
        separate_value: the value has a body of its own.
        scaled_values: values are scaled by moments of their targets, see `value_head`; of several tasks each has an
            output with moments of its own.

    Attributes:
        value_body: that body; None where the value reads the policy's features.

    Raises:
        SpecError: the observations are not what the torso can read.
    """

    def __init__(
        self,
        shown: tuple[ArraySpec, ...],
        space: ActionSpace,
        config: NetworkConfig,
        *,
        separate_value: bool = False,
        scaled_values: bool = False,
    ) -> None:
        super().__init__(shown, space, config)
        self.policy = PolicyHead(self.body.output_size, space)
        self._num_values = config.num_tasks if scaled_values else 1
        self.value = (ValueHead if scaled_values else nn.Linear)(self.body.output_size, self._num_values)
        # Nearly uniform at first: a hundredth of the usual scale is the choice with the largest measured effect on
        # learning in Andrychowicz et al. 2021 (arXiv 2006.05990, section 3.2).
        initialise(self.policy, 0.01)
        initialise(self.value, 1.0)
        self.value_body = Body(shown, space, config) if separate_value else None
        self._num_state_parts = len(self.body.initial_state(1))

    def heads(self, features: Tensor, value_features: Tensor | None = None) -> Outputs:
        """Features of the policy, and those of the value where they are others, to outputs.

        Values are `[..., K]` where there are several of each row.
        """
        read = features if value_features is None else value_features
        values = self.value(read)
        return Outputs(policy=self.policy(features), value=values if self._num_values > 1 else values.squeeze(-1))

    def _of_task(self, outputs: Outputs, inputs: Inputs) -> Outputs:
        """Of several values of each row that of the task which it belongs to."""
        if self._num_values == 1:
            return outputs
        assert inputs.task is not None, "where there are several tasks every row has one"
        return outputs._replace(value=outputs.value.gather(-1, inputs.task.unsqueeze(-1)).squeeze(-1))

    def initial_state(self, batch_size: int, device: torch.device | str | None = None) -> AgentState:
        """The policy's, then the value's."""
        state = super().initial_state(batch_size, device)
        return state if self.value_body is None else state + self.value_body.initial_state(batch_size, device)

    def step(self, inputs: Inputs, state: AgentState) -> tuple[Outputs, AgentState]:
        """See `PolicyNetwork`."""
        if self.value_body is None:
            outputs, state = super().step(inputs, state)
            return self._of_task(outputs, inputs), state
        features, ours = self.body.step(inputs, state[: self._num_state_parts])
        value_features, theirs = self.value_body.step(inputs, state[self._num_state_parts :])
        return self._of_task(self.heads(features, value_features), inputs), ours + theirs

    def unroll(self, inputs: Inputs, state: AgentState) -> tuple[Outputs, AgentState]:
        """See `PolicyNetwork`."""
        if self.value_body is None:
            outputs, state = super().unroll(inputs, state)
            return self._of_task(outputs, inputs), state
        features, ours = self.body.unroll(inputs, state[: self._num_state_parts])
        value_features, theirs = self.value_body.unroll(inputs, state[self._num_state_parts :])
        return self._of_task(self.heads(features, value_features), inputs), ours + theirs

    def store_for_acting(self) -> None:
        """See `PolicyNetwork`."""
        super().store_for_acting()
        if self.value_body is not None:
            self.value_body.store_for_acting()


class PolicyHead(nn.Linear):
    """Features `[..., F]` to the parameters of an action distribution, `[..., P]`.

    Attributes:
        free: those that do not depend on the row, logarithms of deviations, 0 at first; None where there are none.
    """

    def __init__(self, num_features: int, space: ActionSpace) -> None:
        super().__init__(num_features, space.num_outputs)
        self._space = space
        self.free = nn.Parameter(torch.zeros(space.num_free)) if space.num_free else None

    def forward(self, features: Tensor) -> Tensor:
        """See the class."""
        return self._space.assemble(super().forward(features), self.free)
