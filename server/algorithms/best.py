"""Best actions of a policy, without exploration, and the numbers they follow from: what an exported policy answers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from torch import Tensor

from seedbed.server.losses.q_learning import only_allowed
from seedbed.server.networks.distributions import ActionDistribution, ActionSpace
from seedbed.server.networks.interface import AgentState


class Best(NamedTuple):
    """What is best in each of N rows.

    Attributes:
        sent: one `[N, *spec.shape]` for each action array, as it goes over the wire.
        numbers: by name, `[N, ...]`: of each action array its policy, see `ActionPart.numbers`, or the values of
            actions; and what an algorithm says beside.
        state: `[N, ...]` each, the agent state after these rows.
    """

    sent: tuple[Tensor, ...]
    numbers: Mapping[str, Tensor]
    state: AgentState


def best_of_policy(space: ActionSpace, policy: ActionDistribution, state: AgentState, **beside: Tensor) -> Best:
    """The mode of a policy."""
    return Best(space.sent(policy.mode()), {**policy.numbers(), **beside}, state)


def best_of_values(q_values: Tensor, mask: Tensor | None, state: AgentState) -> Best:
    """The action of highest value, `[N, A]`, among those that the mask allows."""
    return Best((only_allowed(q_values, mask).argmax(-1),), {"q_values": q_values}, state)
