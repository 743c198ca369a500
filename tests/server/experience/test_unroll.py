"""The layout of unrolls: what is refused, what is stored, and when first unrolls end."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from seedbed.server.experience.unroll import TIMESTEP_FIELDS, UnrollRows
from tests.reference.unrolls import STATE, numbers_layout

ACTIONS = ("action.action", "last_action.action", "action.torque", "last_action.torque")


@pytest.mark.parametrize(
    ("num_rows", "period", "captures"),
    [(2, 1, 2), (21, 20, 2), (13, 4, 4), (12, 4, 3), (5, 1, 5), (121, 80, 2)],
)
def test_captures_are_as_many_as_unrolls_that_hold_one_row(num_rows: int, period: int, captures: int) -> None:
    starts_over_any_row = [
        sum(start <= row < start + num_rows for start in range(0, row + 1, period)) for row in range(5 * num_rows)
    ]
    assert numbers_layout(num_rows, period, 1).num_captures == max(starts_over_any_row) == captures


@pytest.mark.parametrize(("num_rows", "period", "frame_stack"), [(5, 5, 1), (5, 0, 1), (1, 1, 1), (5, 4, 0)])
def test_impossible_layouts_are_refused(num_rows: int, period: int, frame_stack: int) -> None:
    with pytest.raises(ValueError, match=r"expected 1 <= period < num_rows and frame stacks of at least 1, got"):
        numbers_layout(num_rows, period, frame_stack)


def test_only_unrolls_that_share_one_row_are_staggered() -> None:
    with pytest.raises(ValueError, match="expected unrolls to be staggered only where each trains on its last rows"):
        numbers_layout(13, 4, 1, stagger=1)


def test_only_unrolls_that_train_on_each_transition_once_are_staggered() -> None:
    numbers_layout(13, 8, 1, stagger=1, trained_rows=range(4, 12))
    for trained_rows in (range(8), range(3, 12), range(5, 12), range(4, 11)):
        with pytest.raises(ValueError, match="expected unrolls to be staggered only"):
            numbers_layout(13, 8, 1, stagger=1, trained_rows=trained_rows)


@pytest.mark.parametrize("trained_rows", [range(3, 13), range(-1, 3), range(0, 8, 2)])
def test_only_transitions_of_an_unroll_are_trained_on(trained_rows: range) -> None:
    with pytest.raises(ValueError, match="expected trained_rows among the 12 transitions"):
        numbers_layout(13, 4, 1, trained_rows=trained_rows)


def test_every_observation_has_a_stack_and_a_block() -> None:
    layout = numbers_layout(5, 4, 1)
    for wrong in ({"frame_stacks": (1, 1)}, {"blocks": (1,)}):
        with pytest.raises(ValueError, match="a frame stack and a block for each of 3 observations"):
            dataclasses.replace(layout, **wrong)
    plain = dataclasses.replace(layout, frame_stacks=(), blocks=())
    assert plain.histories == (0, 0, 0)
    assert plain.blocks == (1, 1, 1)


def test_first_unrolls_end_at_different_times_that_are_spread_evenly() -> None:
    layout = numbers_layout(21, 20, 1, stagger=8)
    lead = layout.lead(np.arange(64))
    groups = lead.reshape(8, 8)
    assert (groups == groups[:, :1]).all(), "neighbours complete together"
    gaps = np.diff([*sorted(groups[:, 0]), 20])
    assert groups[0, 0] == 0
    assert gaps.min() >= 1
    assert gaps.max() <= 5, "eight groups in twenty steps"
    assert (numbers_layout(21, 20, 1).lead(np.arange(64)) == 0).all()


def test_rows_hold_every_field_and_the_history_before_them() -> None:
    layout = numbers_layout(5, 4, 4)
    rows = UnrollRows(layout, 2, torch.device("cpu"))
    assert set(rows.fields) == {*TIMESTEP_FIELDS, *ACTIONS, "action_mask", "logits"}
    assert rows.fields["logits"].shape == (2, 5, 2)
    assert [tuple(x.shape) for x in rows.observations] == [(2, 3 + 5, 3), (2, 4 + 5, 1, 2, 4), (2, 5)]
    assert [x.dtype for x in rows.observations] == [torch.float32, torch.uint8, torch.int64]
    assert [(tuple(part.shape[1:]), part.dtype) for part in rows.state] == [(x.shape, x.dtype) for x in STATE]
    feed_forward = UnrollRows(dataclasses.replace(layout, state_specs=()), 2, torch.device("cpu"))
    assert feed_forward.state == ()
