"""What an algorithm owns, and nothing more.

An algorithm brings its network, what it records per step beside the timestep, how it picks actions, its loss on a
train batch, and where its train batches come from. Transport, slots, batching, unrolls, publishing, checkpoints and
metrics are the same for all of them and never ask which one runs.

Shapes: N rows of an inference batch, L = T + 1 rows and B unrolls of a train batch.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from seedbed.server.experience.layout import FieldSpec, TrainBatch
from seedbed.server.networks.interface import AgentState, Inputs, PolicyNetwork


class Decision(NamedTuple):
    """The answer to an inference batch.

    Attributes:
        action: int64 `[N]`.
        recorded: `[N, ...]` for every name in `Algorithm.recorded`.
        state: `[N, ...]` each, the agent state after these rows.
    """

    action: Tensor
    recorded: Mapping[str, Tensor]
    state: AgentState


class Loss(NamedTuple):
    """The loss of a train batch.

    Attributes:
        total: scalar to differentiate.
        metrics: scalars without gradient, by name.
    """

    total: Tensor
    metrics: Mapping[str, Tensor]


@dataclass(frozen=True, slots=True)
class Acting:
    """How a batch of actions is picked.

    Attributes:
        environment_indices: int64 `[N]`: exploration goes by environment, never by slot.
        generator: the only source of randomness.
        greedy: take the best action instead of exploring; for evaluation.
    """

    environment_indices: Tensor
    generator: torch.Generator
    greedy: bool


class Algorithm(ABC):
    """Base of every algorithm; a subclass is one file in this folder.

    Attributes:
        recorded: fields that `act` records per step.
        num_rows: L of its unrolls.
        period: rows between the starts of consecutive unrolls.
        batch_size: B.
    """

    recorded: Mapping[str, FieldSpec]
    num_rows: int
    period: int
    batch_size: int

    @abstractmethod
    def make_network(self) -> PolicyNetwork:
        """A fresh network with `initial_state`, `step` and `unroll`, float32 weights, on the CPU."""

    @abstractmethod
    def act(self, network: PolicyNetwork, inputs: Inputs, state: AgentState, acting: Acting) -> Decision:
        """Picks actions for an inference batch."""

    @abstractmethod
    def loss(self, network: PolicyNetwork, batch: TrainBatch) -> Loss:
        """The loss of a train batch under the parameters being learnt."""


def batch_inputs(batch: TrainBatch) -> Inputs:
    """The rows of a train batch as a network reads them, `[L, B, ...]`."""
    fields = batch.fields
    return Inputs(batch.observations, fields["step_type"], fields["reward"], fields["last_action"])
