"""n-step double Q-learning: golden numbers, the slow oracle over random ends, and what masks must keep out."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from seedbed.server.losses.value_learning import double_q_values, n_step_targets, unroll_losses, unroll_priorities
from tests.reference.value_learning import n_step_target, priority

REWARDS = torch.tensor([1.0, 2.0, 3.0, 4.0])[:, None]
VALUES = torch.tensor([0.0, 10.0, 20.0, 30.0, 40.0])[:, None]  # of rows: `q_next` is from row 1 on
ALL = torch.ones(4, 1, dtype=torch.bool)


def targets(discounts: list[float], n: int, valid: Tensor = ALL) -> list[float]:
    found = n_step_targets(rewards=REWARDS, discounts=torch.tensor(discounts)[:, None], values=VALUES, valid=valid, n=n)
    return found[:, 0].tolist()


def test_golden_two_steps() -> None:
    assert targets([0.9] * 4, 2) == pytest.approx([1 + 1.8 + 16.2, 2 + 2.7 + 24.3, 3 + 3.6 + 32.4, 40.0])
    assert targets([0.9, 0.0, 0.9, 0.9], 2) == pytest.approx([2.8, 2.0, 39.0, 40.0])


def test_one_step_is_ordinary_q_learning() -> None:
    assert targets([0.9] * 4, 1) == pytest.approx([10.0, 20.0, 30.0, 40.0])


def test_a_time_limit_bootstraps_from_the_last_observation_and_nothing_crosses_the_reset() -> None:
    """Row 2 is LAST with discount 1: transition 2 is the dummy to the next episode."""
    valid = torch.tensor([True, True, False, True])[:, None]
    assert targets([0.9] * 4, 3, valid) == pytest.approx([1 + 1.8 + 0.81 * 20, 2 + 18.0, 20.0, 40.0])


def test_an_unroll_that_was_cut_bootstraps_from_the_last_row_received() -> None:
    valid = torch.tensor([True, True, False, False])[:, None]
    assert targets([0.9] * 4, 5, valid)[:2] == pytest.approx([1 + 1.8 + 0.81 * 20, 20.0])


def random_case(seed: int) -> dict[str, Tensor]:
    """Rewards, discounts and values with terminations, time limits and cuts all over."""
    generator = torch.Generator().manual_seed(seed)
    num_steps, batch = int(torch.randint(1, 25, (), generator=generator)), 6
    shape = (num_steps, batch)
    valid = torch.rand(shape, generator=generator) > 0.15
    length = torch.randint(0, num_steps + 1, (batch,), generator=generator)
    valid &= torch.arange(num_steps)[:, None] < length.clamp(min=num_steps // 2)
    ended = torch.rand(shape, generator=generator) < 0.15
    return {
        "rewards": torch.randn(shape, generator=generator, dtype=torch.float64),
        "discounts": torch.where(ended, 0.0, 0.97).double(),
        "values": torch.randn(num_steps + 1, batch, generator=generator, dtype=torch.float64),
        "valid": valid,
    }


@pytest.mark.parametrize("n", [1, 2, 3, 5, 30])
@pytest.mark.parametrize("seed", range(8))
def test_targets_are_those_of_the_oracle(seed: int, n: int) -> None:
    case = random_case(seed)
    found = n_step_targets(**case, n=n)
    columns = {name: tensor.T.tolist() for name, tensor in case.items()}
    for b in range(found.shape[1]):
        one = {name: column[b] for name, column in columns.items()}
        expected = [n_step_target(t, **one, n=n) for t in range(len(found))]
        assert found[:, b].tolist() == pytest.approx(expected, abs=1e-12)


def test_what_is_invalid_reaches_nothing() -> None:
    case = random_case(3)
    n = 4
    clean = n_step_targets(**case, n=n)
    dirty = {
        **case,
        "rewards": case["rewards"].masked_fill(~case["valid"], math.nan),
        "discounts": case["discounts"].masked_fill(~case["valid"], math.nan),
    }
    assert torch.equal(n_step_targets(**dirty, n=n), clean)


def test_no_gradient_flows_through_targets() -> None:
    case = random_case(1)
    case["values"].requires_grad_()
    assert not n_step_targets(**case, n=3).requires_grad


@pytest.mark.parametrize("n", [0, -1])
def test_n_must_be_positive(n: int) -> None:
    with pytest.raises(ValueError, match="n of at least 1"):
        targets([0.9] * 4, n)


def test_double_q_takes_the_targets_value_of_the_learnt_networks_choice() -> None:
    online = torch.tensor([[1.0, 5.0, 2.0], [7.0, 0.0, 0.0]])
    target = torch.tensor([[9.0, 3.0, 4.0], [-1.0, 8.0, 6.0]])
    assert double_q_values(online, target).tolist() == [3.0, -1.0]


def test_double_q_asks_nothing_of_forbidden_actions() -> None:
    """A mask counts where the learnt network chooses, not where the target network answers."""
    online, target = torch.tensor([1.0, 5.0, 2.0]), torch.tensor([9.0, 3.0, 4.0])
    assert double_q_values(online, target, torch.tensor([1, 0, 1], dtype=torch.uint8)) == 4.0


def test_priority_golden_and_oracle() -> None:
    errors = torch.tensor([0.1, -0.5, 2.0, 0.4])[:, None]
    assert unroll_priorities(errors, ALL, 0.9).item() == pytest.approx(1.875, abs=2e-6)
    case = random_case(5)
    found = unroll_priorities(case["rewards"], case["valid"], 0.7)
    for b in range(found.shape[0]):
        kept = case["rewards"][:, b][case["valid"][:, b]].tolist()
        assert found[b].item() == pytest.approx(priority(kept, 0.7) if kept else 0.0, abs=2e-6)


def test_without_errors_an_unroll_may_still_be_drawn_but_not_without_valid_transitions() -> None:
    valid = torch.tensor([[True, False], [True, False]])
    small, none = unroll_priorities(torch.zeros(2, 2), valid, 0.9).tolist()
    assert 0 < small < 1e-5
    assert none == 0.0


def test_the_loss_is_half_the_squared_errors_of_valid_transitions() -> None:
    errors = torch.tensor([[1.0, 2.0], [3.0, math.inf]], requires_grad=True)
    valid = torch.tensor([[True, True], [True, False]])
    losses = unroll_losses(errors, valid)
    assert losses.tolist() == [5.0, 2.0]
    losses.sum().backward()
    assert errors.grad is not None
    assert errors.grad.tolist() == [[1.0, 2.0], [3.0, 0.0]]
