"""An algorithm for arrays of every kind, whose answers say what it was shown.

Four observations and a mask in, four actions out: numbers, an image in blocks, counts and a choice; a box, one choice,
several choices and bits. Samples are functions of the row's identity and mask; what is sent is another function of the
samples, so that neither passes for the other. What it saw beside is recorded as sums, and the agent state, whose parts
have four dtypes, says which row it comes from.

Shapes: N rows of an inference batch.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from seedbed.common.specs import ArraySpec, EnvironmentSpec, discrete
from seedbed.server.algorithms.acting import Acting, Decision
from seedbed.server.algorithms.interface import EVERYTHING, Algorithm
from seedbed.server.algorithms.update_steps import Step
from seedbed.server.experience.batch import TrainBatch
from seedbed.server.experience.regimes import RegimeName
from seedbed.server.experience.unroll import FieldSpec
from seedbed.server.networks.interface import AgentState, Inputs, PolicyNetwork
from tests.reference.acting import IDENTITY, Sent

SPEC = EnvironmentSpec(
    environment="every kind",
    observations=(
        ArraySpec(name="image", dtype="uint8", shape=(4, 6, 3)),
        ArraySpec(name="mask", dtype="uint8", shape=(16,), low=(0,), high=(1,), kind="binary", role="action_mask"),
        ArraySpec(name=IDENTITY, dtype="float32", shape=(3,)),
        ArraySpec(name="counts", dtype="int32", shape=(2, 2), low=(0,), high=(900,)),
        discrete("choice", 7),
    ),
    actions=(
        ArraySpec(name="torque", dtype="float32", shape=(2,), low=(-3,), high=(3,)),
        discrete("move", 5),
        ArraySpec(name="levels", dtype="int64", shape=(2,), low=(0,), high=(2, 1), kind="discrete"),
        ArraySpec(name="switches", dtype="uint8", shape=(3,), low=(0,), high=(1,), kind="binary"),
    ),
)
FRAME_STACKS = (3, 1, 2, 3)
BLOCKS = (2, 1, 1, 1)
STATE = (
    FieldSpec((), torch.int64),
    FieldSpec((3,), torch.uint8),
    FieldSpec((2, 1), torch.bfloat16),
    FieldSpec((3,), torch.float32),
)


class EveryKindNetwork(PolicyNetwork):
    """Says of every row what it was shown; learns nothing."""

    blocks = BLOCKS

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))

    def initial_state(self, batch_size: int, device: torch.device | str | None = None) -> AgentState:
        """Four parts."""
        return tuple(torch.zeros((batch_size, *part.shape), dtype=part.dtype, device=device) for part in STATE)

    def step(self, inputs: Inputs, state: AgentState) -> tuple[Tensor, AgentState]:
        """The sums of `seen`, and the state that says which row this is."""
        identity = inputs.observations[1][:, -1]
        slot, key, seq = identity.long().unbind(-1)
        after = (
            key * 1000 + seq,
            torch.stack((slot, key % 256, seq % 256), -1).to(torch.uint8),
            torch.stack((slot, seq % 128), -1).to(torch.bfloat16).unsqueeze(-1),
            identity,
        )
        return seen(inputs), after

    def unroll(self, inputs: Inputs, state: AgentState) -> tuple[Any, AgentState]:
        """Nobody learns here."""
        raise NotImplementedError

    def store_for_acting(self) -> None:
        """Nothing to convert."""


class EveryKind(Algorithm):
    """Answers row by row; its loss is 0."""

    recorded: Mapping[str, FieldSpec] = {"seen": FieldSpec((10,), torch.float32)}

    def __init__(self, unroll_length: int, regime: RegimeName) -> None:
        self.num_rows = unroll_length + 1
        self.period = unroll_length
        self.batch_size = 2
        self.regime = regime

    @classmethod
    def suits(cls, spec: EnvironmentSpec) -> int | None:
        """Nobody chooses it."""
        return None

    def make_learnt(self) -> PolicyNetwork:
        """See the base class."""
        return EveryKindNetwork()

    def act(self, network: PolicyNetwork, inputs: Inputs, state: AgentState, acting: Acting) -> Decision:
        """See `samples` and `sent`."""
        assert inputs.mask is not None
        identity = inputs.observations[1][:, -1].numpy()
        rows = [samples(*parts) for parts in zip(identity, inputs.mask.numpy(), strict=True)]
        actions = tuple(torch.from_numpy(np.stack(column)) for column in zip(*rows, strict=True))
        answers = tuple(torch.from_numpy(np.stack(column)) for column in zip(*(sent(row) for row in rows), strict=True))
        recorded, state = network.step(inputs, state)
        return Decision(actions, answers, {"seen": recorded}, state)

    def steps(self, learnt: nn.Module, target: nn.Module | None, batch: TrainBatch) -> Iterator[Step]:
        """One, of loss 0."""
        total = sum((parameter.sum() for parameter in learnt.parameters()), torch.zeros(())) * 0
        yield Step(total, EVERYTHING, batch.valid.sum(), {"loss": total.detach()})


def seen(inputs: Inputs) -> Tensor:
    """Sums of everything that a network is shown, `[..., 10]`: whole stacks, reward, last actions and mask."""
    leading = inputs.step_type.shape
    assert inputs.mask is not None
    parts = (*inputs.observations, inputs.reward, *inputs.last_action, inputs.mask)
    sums = [_weighted(part.reshape(*leading, -1).float()) for part in parts]
    return torch.stack(sums, -1)


def _weighted(rows: Tensor) -> Tensor:
    """A sum in which every place counts differently."""
    return (rows * torch.arange(1, rows.shape[-1] + 1)).sum(-1)


def samples(identity: NDArray[np.float32], mask: NDArray[np.uint8]) -> tuple[NDArray[Any], ...]:
    """The samples for one row, of its identity and mask alone."""
    slot, key, seq = identity.astype(np.int64).tolist()
    number = 31 * key + 7 * seq + slot
    allowed = np.flatnonzero(mask[:5])
    return (
        np.array([number + 0.5, -number], np.float32),
        np.array(allowed[number % len(allowed)] if len(allowed) else 0, np.int64),
        np.array([number % 3, number % 2], np.int64),
        np.array([number >> bit & 1 for bit in range(3)], np.int64),
    )


def sent(row: tuple[NDArray[Any], ...]) -> tuple[NDArray[Any], ...]:
    """What goes over the wire for the samples of one row."""
    torque, move, levels, switches = row
    return (torque / np.float32(4096)).astype(np.float32), (move + 3) % 5, np.array([2, 1]) - levels, 1 - switches


def check_row(batch: TrainBatch, t: int, b: int, log: list[Sent]) -> None:
    """Asserts that row t of unroll b is the one that its log holds, array by array."""
    seq = batch.provenance[b].first_seq + t
    row, fields = log[seq], batch.fields
    first = bool(fields["age"][t, b] == 0)
    image, mask, identity, counts, choice = row.observations
    for array, expected in zip((1, 2, 3), (identity, counts, choice), strict=True):
        assert np.array_equal(batch.observations[array][t, b, -1].numpy(), expected), SPEC.shown[array].name
    assert sorted(batch.observations[0][t, b, -1].flatten().tolist()) == sorted(image.flatten().tolist())
    assert np.array_equal(fields["action_mask"][t, b].numpy(), mask)
    assert identity[2] == seq
    for i, spec in enumerate(SPEC.actions):
        last = np.zeros(spec.shape) if first else log[seq - 1].actions[i]
        assert np.array_equal(fields[f"last_action.{spec.name}"][t, b].numpy(), last), spec.name
    if not row.actions:
        return  # the row that ends an unroll of a round is answered with the next one
    expected_samples = samples(identity.astype(np.float32), mask.astype(np.uint8))
    for i, (spec, sample, answer) in enumerate(
        zip(SPEC.actions, expected_samples, sent(expected_samples), strict=True)
    ):
        assert np.array_equal(row.actions[i], answer), f"{spec.name} answers another observation"
        assert np.array_equal(fields[f"action.{spec.name}"][t, b].numpy(), sample), spec.name


def check_state(batch: TrainBatch, b: int, log: list[Sent]) -> None:
    """Asserts that the agent state before row 0 is the one that the row before it left, in its own dtypes."""
    assert [part.dtype for part in batch.state] == [part.dtype for part in STATE]
    first_seq = batch.provenance[b].first_seq
    if first_seq == 0:
        return  # whoever held the slot before may have left anything: FIRST makes it mean nothing
    slot, key, seq = log[first_seq - 1].observations[2].astype(np.int64).tolist()
    expected = (key * 1000 + seq, [slot, key % 256, seq % 256], [[slot], [seq % 128]], [slot, key, seq])
    for part, value in zip(batch.state, expected, strict=True):
        assert part[b].tolist() == value
