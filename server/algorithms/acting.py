"""How a batch of actions is picked, and the answer: plain values.

Shapes: N rows of an inference batch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from seedbed.server.networks.interface import AgentState


class Decision(NamedTuple):
    """The answer to an inference batch.

    Attributes:
        actions: one `[N, *spec.shape]` for each action array: the samples, of which the learner asks the probability.
        sent: the same actions as they go over the wire and into the next row's `last_action`.
        recorded: `[N, ...]` for every name in `Algorithm.recorded`.
        state: `[N, ...]` each, the agent state after these rows.
        shown: numbers for people, where `Acting.watched` asks for them: "policy" `[N, at most 64]`, what
            `ActionDistribution.shown` gives, or Q-values, as `Algorithm.shows` says; and "value" `[N]`. Optional.
    """

    actions: tuple[Tensor, ...]
    sent: tuple[Tensor, ...]
    recorded: Mapping[str, Tensor]
    state: AgentState
    shown: Mapping[str, Tensor] | None = None


@dataclass(frozen=True, slots=True)
class Acting:
    """How a batch of actions is picked.

    Attributes:
        environment_indices: int64 `[N]`: exploration goes by environment, never by slot.
        generator: the only source of randomness.
        agent_steps: of the run so far, for exploration that changes with time.
        greedy: bool `[N]`, rows that take the best action instead of exploring; None where there are none.
        watched: somebody looks, and wants `Decision.shown`.
    """

    environment_indices: Tensor
    generator: torch.Generator
    agent_steps: int
    greedy: Tensor | None
    watched: bool = False
