"""A train batch: which of its transitions count."""

from __future__ import annotations

import torch

from seedbed.server.experience.batch import TrainBatch, valid_transitions
from seedbed.server.experience.unroll import Provenance

FIRST, MID, LAST = 0, 1, 2


def make_batch(trained_rows: range) -> TrainBatch:
    """L = 6: an unroll in full with an episode that ends in row 2, and one that was cut after four rows."""
    step_type = torch.tensor([[MID, MID, LAST, FIRST, MID, MID], [MID, MID, MID, MID, MID, MID]], dtype=torch.uint8).T
    lengths = torch.tensor([6, 4])
    sources = tuple(Provenance(b, 1, b, 10, int(length)) for b, length in enumerate(lengths))
    valid = valid_transitions(step_type, lengths)
    return TrainBatch((), {"step_type": step_type}, (), valid, sources, trained_rows)


def test_transitions_to_train_on_are_those_received_among_the_trained_rows() -> None:
    whole, part = make_batch(range(5)), make_batch(range(1, 4))
    assert (whole.num_transitions, int(whole.num_valid)) == (5 + 3, 4 + 3)
    assert (part.num_transitions, int(part.num_valid)) == (3 + 2, 2 + 2)
    late = make_batch(range(4, 5))
    assert (late.num_transitions, int(late.num_valid)) == (1, 1)


def test_a_selection_keeps_them() -> None:
    cut = make_batch(range(1, 4)).select(torch.tensor([1]))
    assert (cut.num_transitions, int(cut.num_valid)) == (2, 2)
    assert cut.provenance[0].length == 4


def test_valid_are_the_transitions_received_that_do_not_leave_a_last_row() -> None:
    unrolls = {  # step types of L = 4 rows, rows received, expected
        (FIRST, MID, MID, MID): (4, [True, True, True]),
        (MID, LAST, FIRST, MID): (4, [True, False, True]),
        (LAST, FIRST, LAST, FIRST): (4, [False, True, False]),
        (FIRST, MID, MID, LAST): (3, [True, True, False]),
        (LAST, FIRST, MID, MID): (2, [False, False, False]),
    }
    step_type = torch.tensor(list(unrolls), dtype=torch.uint8).T
    length = torch.tensor([length for length, _ in unrolls.values()])
    expected = torch.tensor([valid for _, valid in unrolls.values()]).T
    assert torch.equal(valid_transitions(step_type, length), expected)
