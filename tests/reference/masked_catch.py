"""Catch with a fourth action that ends the episode at -1 and is forbidden in every row, and a learner beside it.

No server is involved: all environments step together, as a server would record them, so that an algorithm's whole way
from masks to play is tried in seconds.
"""

from __future__ import annotations

from collections import deque
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from seedbed.common.specs import ArraySpec, EnvironmentSpec, discrete
from seedbed.common.timestep import StepType
from seedbed.server.algorithms.acting import Acting
from seedbed.server.algorithms.interface import Algorithm
from seedbed.server.experience.batch import Sample, TrainBatch, valid_transitions
from seedbed.server.experience.unroll import ACTION_MASK, Provenance
from seedbed.server.learning.learner import Learner
from seedbed.server.networks.interface import Inputs

ROWS, COLUMNS, FORBIDDEN = 10, 5, 3

SPEC = EnvironmentSpec(
    environment="masked catch",
    observations=(
        ArraySpec(name="/board", dtype="float32", shape=(ROWS * COLUMNS,), low=(0,), high=(1,)),
        ArraySpec(name="/mask", dtype="uint8", shape=(4,), low=(0,), high=(1,), kind="binary", role="action_mask"),
    ),
    actions=(discrete("action", 4),),
)


class MaskedCatch:
    """N environments, one row after the other: FIRST, MID, ..., LAST, FIRST.

    Attributes:
        returns: of the episodes that ended.
        illegal: how often the forbidden action was taken where the episode went on.
    """

    def __init__(self, count: int, seed: int) -> None:
        self._random = np.random.default_rng(seed)
        self._ball, self._column, self._paddle = (np.zeros(count, np.int64) for _ in range(3))
        self.step_type = np.full(count, StepType.LAST, np.uint8)
        self.reward = np.zeros(count, np.float32)
        self.discount = np.ones(count, np.float32)
        self.returns: list[float] = []
        self.illegal = 0
        self.step(np.zeros(count, np.int64))

    @property
    def mask(self) -> NDArray[np.uint8]:
        """Nothing is allowed at the end, as environments send it."""
        mask = np.ones((len(self.reward), 4), np.uint8)
        mask[:, FORBIDDEN] = 0
        mask[self.step_type == StepType.LAST] = 0
        return mask

    @property
    def board(self) -> NDArray[np.float32]:
        """Ball and paddle, `[N, 50]`."""
        board = np.zeros((len(self.reward), ROWS, COLUMNS), np.float32)
        every = np.arange(len(board))
        board[every, self._ball, self._column] = 1
        board[every, ROWS - 1, self._paddle] = 1
        return board.reshape(len(board), -1)

    def step(self, action: NDArray[np.int64]) -> None:
        """Moves on; an environment whose episode has ended begins another, whatever its action."""
        begins = self.step_type == StepType.LAST
        illegal = (action == FORBIDDEN) & ~begins
        self.illegal += int(illegal.sum())
        self._paddle = np.clip(self._paddle + np.where(illegal, 0, action - 1), 0, COLUMNS - 1)
        self._ball = self._ball + 1
        self._ball[begins], self._paddle[begins] = 0, COLUMNS // 2
        self._column[begins] = self._random.integers(0, COLUMNS, begins.sum())
        ended = ~begins & (illegal | (self._ball == ROWS - 1))
        caught = ~illegal & (self._column == self._paddle)
        self.reward = np.where(ended, np.where(caught, 1.0, -1.0), 0.0).astype(np.float32)
        self.discount = np.where(ended, 0.0, 1.0).astype(np.float32)
        self.step_type = np.where(begins, StepType.FIRST, np.where(ended, StepType.LAST, StepType.MID)).astype(np.uint8)
        self.returns += self.reward[ended].tolist()


def play(algorithm: Algorithm, learner: Learner, world: MaskedCatch, *, agent_steps: int, greedy: bool) -> TrainBatch:
    """An unroll of every environment as inference records it."""
    count = len(world.reward)
    generator = torch.Generator().manual_seed(agent_steps)
    acting = Acting(torch.arange(count), generator, agent_steps, torch.full((count,), greedy))
    last_action, rows, shown = torch.zeros(count, dtype=torch.int64), [], []
    for _ in range(algorithm.num_rows):
        arrays = (world.step_type, world.reward, world.discount, world.mask, world.board)
        step_type, reward, discount, mask, board = map(torch.from_numpy, arrays)
        inputs = Inputs((board.unsqueeze(1),), step_type, reward, (last_action,), mask)
        with torch.no_grad():
            decision = algorithm.act(learner.network, inputs, (), acting)
        rows.append(
            {
                "step_type": step_type,
                "reward": reward,
                "discount": discount,
                ACTION_MASK: mask,
                "action.action": decision.actions[0],
                "last_action.action": last_action,
                "policy_version": torch.full((count,), learner.num_updates),
                **decision.recorded,
            }
        )
        shown.append(inputs.observations[0])
        world.step(decision.sent[0].numpy())
        last_action = decision.sent[0]
    fields: dict[str, Tensor] = {name: torch.stack([row[name] for row in rows]) for name in rows[0]}
    return TrainBatch(
        observations=(torch.stack(shown),),
        fields=fields,
        state=(),
        valid=valid_transitions(fields["step_type"], torch.full((count,), algorithm.num_rows)),
        provenance=tuple(Provenance(b, b, b, 0, algorithm.num_rows) for b in range(count)),
        trained_rows=algorithm.trained_rows or range(algorithm.num_rows - 1),
    )


def train(algorithm: Algorithm, learner: Learner, world: MaskedCatch, *, rounds: int, draws: int = 1) -> None:
    """Plays and learns in turns; with a replay, some uniform draws from the last 30 rounds in each.

    The row between two rounds is in neither; for what is tried here that is of no account.
    """
    kept: deque[TrainBatch] = deque(maxlen=30)
    random = np.random.default_rng(0)
    agent_steps = 0
    for _ in range(rounds):
        batch = play(algorithm, learner, world, agent_steps=agent_steps, greedy=False)
        agent_steps += batch.valid.numel()
        kept.append(batch)
        for _ in range(draws):
            drawn = batch
            if algorithm.regime == "replay":
                numbers = np.arange(batch.valid.shape[1])
                drawn = replace(
                    kept[random.integers(len(kept))], sample=Sample(numbers, numbers, torch.ones(len(numbers)))
                )
            learner.update(drawn, 0.0)
