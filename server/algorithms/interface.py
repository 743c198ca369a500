"""What an algorithm owns, and nothing more.

An algorithm brings its network, what it records per step beside the timestep, how it picks actions, its loss on a
train batch, where its train batches come from, and whether it needs a target network. Transport, slots, batching,
unrolls, publishing, checkpoints and metrics are the same for all of them and never ask which one runs.

Shapes: N rows of an inference batch, L = T + 1 rows and B unrolls of a train batch.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from seedbed.server.experience.batch import TrainBatch
from seedbed.server.experience.unroll import ACTION_MASK, LAST_ACTION, FieldSpec
from seedbed.server.networks.interface import AgentState, Inputs, PolicyNetwork


class Decision(NamedTuple):
    """The answer to an inference batch.

    Attributes:
        actions: one `[N, *spec.shape]` for each action array: the samples, of which the learner asks the probability.
        sent: the same actions as they go over the wire and into the next row's `last_action`.
        recorded: `[N, ...]` for every name in `Algorithm.recorded`.
        state: `[N, ...]` each, the agent state after these rows.
    """

    actions: tuple[Tensor, ...]
    sent: tuple[Tensor, ...]
    recorded: Mapping[str, Tensor]
    state: AgentState


class Loss(NamedTuple):
    """The loss of a train batch.

    Attributes:
        total: scalar to differentiate.
        metrics: scalars without gradient, by name.
        priorities: `[B]` without gradient, how much each unroll is worth being replayed; None from a queue.
    """

    total: Tensor
    metrics: Mapping[str, Tensor]
    priorities: Tensor | None = None


@dataclass(frozen=True, slots=True)
class Acting:
    """How a batch of actions is picked.

    Attributes:
        environment_indices: int64 `[N]`: exploration goes by environment, never by slot.
        generator: the only source of randomness.
        agent_steps: of the run so far, for exploration that changes with time.
        greedy: bool `[N]`, rows that take the best action instead of exploring; None where there are none.
    """

    environment_indices: Tensor
    generator: torch.Generator
    agent_steps: int
    greedy: Tensor | None


class Algorithm(ABC):
    """Base of every algorithm; a subclass is one file in this folder.

    Attributes:
        recorded: fields that `act` records per step.
        num_rows: L of its unrolls.
        period: rows between the starts of consecutive unrolls.
        batch_size: B.
        source: "fifo": each unroll is trained on once, in order; "replay": unrolls are kept and drawn by priority.
        synchronous: every row of a train batch was acted on by the parameters it trains.
        target_period_updates: the learner keeps a target network and makes it equal to the one being learnt every so
            many updates; None for none.
        evaluates_greedily: exploration is no part of what is learnt, so `seedbed eval` leaves it out.
    """

    recorded: Mapping[str, FieldSpec]
    num_rows: int
    period: int
    batch_size: int
    source: Literal["fifo", "replay"] = "fifo"
    synchronous: bool = False
    target_period_updates: int | None = None
    evaluates_greedily: bool = False

    @abstractmethod
    def make_network(self) -> PolicyNetwork:
        """A fresh network with `initial_state`, `step` and `unroll`, float32 weights, on the CPU."""

    @abstractmethod
    def act(self, network: PolicyNetwork, inputs: Inputs, state: AgentState, acting: Acting) -> Decision:
        """Picks actions for an inference batch."""

    @abstractmethod
    def loss(self, network: PolicyNetwork, target: PolicyNetwork | None, batch: TrainBatch) -> Loss:
        """The loss of a train batch.

        Args:
            network: the parameters being learnt.
            target: the target network; None without `target_period_updates`.
            batch: its `sample` says how unrolls were drawn, if from a replay.
        """

    def minibatches(self, network: PolicyNetwork, batch: TrainBatch) -> Iterator[TrainBatch]:
        """What to make one optimiser step of each, in order; by default one step of the whole train batch.

        Args:
            network: the parameters being learnt, which change as the iterator goes on.
            batch: as it came from the source.
        """
        yield batch

    def initial_priorities(self, batch: TrainBatch) -> Tensor:
        """What new unrolls are worth before they were ever trained on, `[B]`, from what was recorded as they were made.

        Args:
            batch: without observations, agent state and sample.
        """
        raise NotImplementedError(f"{type(self).__name__} does not learn from a replay")


def batch_inputs(batch: TrainBatch) -> Inputs:
    """The rows of a train batch as a network reads them, `[L, B, ...]`."""
    fields = batch.fields
    last_action = tuple(array for name, array in fields.items() if name.startswith(LAST_ACTION))
    return Inputs(batch.observations, fields["step_type"], fields["reward"], last_action, fields.get(ACTION_MASK))
