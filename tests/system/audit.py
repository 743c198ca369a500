"""An audit of every unroll that an echo server hands on: each row of each is checked for itself."""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from seedbed.common.echo import (
    echo_actions,
    echo_decode,
    echo_digest,
    echo_length,
    echo_mask,
    echo_observations,
    echo_reward,
    echo_truncates,
)
from seedbed.common.specs import EnvironmentSpec
from seedbed.common.timestep import StepType
from seedbed.server.experience.batch import TrainBatch
from seedbed.server.experience.fifo import UnrollFifo
from seedbed.server.experience.unroll import ACTION_MASK, Provenance, action_field, last_action_field
from tests.system.echo_rows import Rows, pair, samples_of

NUM_ROWS, PERIOD, BATCH_SIZE = 8, 7, 4
"""Of unrolls, and unrolls of a batch."""


@dataclass
class Audit:
    """Takes the learner's place: takes train batches and checks them row by row.

    Attributes:
        spec: of the environments.
        problems: what was wrong; the first few.
        unrolls, cut, transitions, trained: how many were seen; `cut` ones are shorter than they should be, and
            `trained` are the valid ones among the transitions that no unroll before held.
        environments: lease -> slot -> environment.
        sound: indices of environments that keep the rules of the echo; rows of others are not checked.
    """

    spec: EnvironmentSpec
    problems: list[str] = field(default_factory=list)
    unrolls: int = 0
    cut: int = 0
    transitions: int = 0
    trained: int = 0
    environments: dict[int, dict[int, int]] = field(default_factory=dict)
    sound: Container[int] = range(2**32)
    _ends: dict[tuple[int, int], int] = field(default_factory=dict)

    def run(self, fifo: UnrollFifo) -> None:
        """Until the queue is closed."""
        while isinstance(batch := fifo.get(BATCH_SIZE), TrainBatch):
            self.trained += int(batch.valid.sum())
            for number, source in enumerate(batch.provenance):
                self._check_source(source)
                if source.environment_index in self.sound:
                    self._check_rows(batch, number, source)

    def _expect(self, right: Any, what: str, source: Provenance) -> None:
        if not np.all(right) and len(self.problems) < 20:
            self.problems.append(f"{what}: {source}")

    def _check_source(self, source: Provenance) -> None:
        """One slot, one lease, one environment; no step missing, none twice."""
        key = (source.lease, source.slot)
        continued = key in self._ends
        shared = NUM_ROWS - PERIOD if continued else 0
        self._expect(source.first_seq == self._ends.get(key, 0) - shared, "not where the last unroll ended", source)
        self._ends[key] = source.first_seq + source.length
        self.environments.setdefault(source.lease, {}).setdefault(source.slot, source.environment_index)
        known = self.environments[source.lease][source.slot]
        self._expect(known == source.environment_index, "a slot changed its environment", source)
        self.unrolls += 1
        self.cut += source.length < NUM_ROWS
        self.transitions += source.length - 1

    def _check_rows(self, batch: TrainBatch, number: int, source: Provenance) -> None:
        rows = {name: tensor[: source.length, number].numpy() for name, tensor in batch.fields.items()}
        shown = [array[: source.length, number, 0].numpy() for array in batch.observations]
        index, episode, step = echo_decode(shown[0])
        last, first = step == echo_length(index, episode), step == 0
        self._expect(index == source.environment_index, "a foreign row", source)
        self._check_observations(shown, rows, source)
        self._check_actions(shown[0], rows, source)
        self._expect(rows["age"] == step, "a wrong age", source)
        self._expect((rows["step_type"] == StepType.FIRST) == first, "FIRST misplaced", source)
        self._expect((rows["step_type"] == StepType.LAST) == last, "LAST misplaced", source)
        terminated = last & ~echo_truncates(index, episode)
        self._expect(rows["discount"] == np.where(terminated, 0, 1), "a wrong discount", source)
        self._expect(np.where(first, 0, rows["state"][:, 0] - step) == 0, "an agent state of another row", source)
        self._expect(np.array_equal(batch.state[0][number], rows["state"][0]), "a wrong initial state", source)
        following = np.where(last[:-1], episode[1:] == episode[:-1] + 1, episode[1:] == episode[:-1])
        self._expect(following & (step[1:] == np.where(last[:-1], 0, step[:-1] + 1)), "a step is missing", source)
        valid = batch.valid[:, number].numpy()
        self._expect(valid[: source.length - 1] == ~last[:-1], "a wrong mask", source)
        self._expect(~valid[source.length - 1 :], "rows that never came are trained on", source)

    def _check_observations(self, shown: Sequence[Rows], rows: Mapping[str, Rows], source: Provenance) -> None:
        expected = dict(zip(self.spec.observations, echo_observations(self.spec, shown[0]), strict=True))
        for spec, array in pair(self.spec, shown):
            self._expect(array == expected[spec], f"{spec.name}: an observation of another row", source)
        if self.spec.mask_position is not None:
            self._expect(rows[ACTION_MASK] == echo_mask(self.spec.actions, shown[0]), "a mask of another row", source)

    def _check_actions(self, observation: Rows, rows: Mapping[str, Rows], source: Provenance) -> None:
        """What answered each row, every element of it; what is sent is what the next row remembers."""
        actions, first = self.spec.actions, rows["step_type"] == StepType.FIRST
        answers = echo_actions(actions, observation)
        samples = samples_of(actions, answers)
        came_before = [rows[last_action_field(spec.name)] for spec in actions]
        for spec, answer, sample, before in zip(actions, answers, samples, came_before, strict=True):
            recorded = rows[action_field(spec.name)]
            self._expect(recorded == sample, f"{spec.name}: an action that answers another observation", source)
            here = first.reshape(-1, *[1] * len(spec.shape))
            sent = np.where(here[1:], 0, answer[:-1])
            self._expect(before[1:] == sent, f"{spec.name}: a wrong last action", source)
            self._expect(np.where(here, before, 0) == 0, f"{spec.name}: a last action at FIRST", source)
        reward = echo_reward(observation, echo_digest(actions, came_before))
        self._expect(rows["reward"] == reward, "a foreign reward", source)
