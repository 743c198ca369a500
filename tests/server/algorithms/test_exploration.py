"""Exploration by environment: the published rates, and how often each environment really does something else."""

from __future__ import annotations

import pytest
import torch

from seedbed.server.algorithms.exploration import annealed_epsilon, epsilon_greedy, epsilon_ladder, falling_epsilon


def test_the_ladder_of_eight_environments() -> None:
    expected = [0.4, 0.16, 0.064, 0.0256, 0.01024, 0.004096, 0.0016384, 0.00065536]
    assert epsilon_ladder(8).tolist() == pytest.approx(expected)


@pytest.mark.parametrize("num_environments", [2, 16, 256])
def test_ends_and_order(num_environments: int) -> None:
    ladder = epsilon_ladder(num_environments)
    assert (ladder[0].item(), ladder[-1].item()) == pytest.approx((0.4, 0.4**8))
    assert (ladder.diff() < 0).all()


def test_mean_rate_of_256_environments_and_the_rate_of_a_single_one() -> None:
    assert epsilon_ladder(256).mean().item() == pytest.approx(0.0628, abs=1e-4)
    assert epsilon_ladder(1).tolist() == pytest.approx([0.4])


@pytest.mark.parametrize(("num_environments", "base"), [(0, 0.4), (4, 1.5), (4, -0.1)])
def test_what_makes_no_sense_is_refused(num_environments: int, base: float) -> None:
    with pytest.raises(ValueError, match="expected an environment and a base"):
        epsilon_ladder(num_environments, base)


def test_each_environment_explores_at_its_own_rate() -> None:
    """Within four standard deviations of the binomial; a random action is the best one once in four times."""
    generator, draws, num_actions = torch.Generator().manual_seed(0), 4000, 4
    epsilon = epsilon_ladder(5)
    q_values = torch.randn(5, num_actions, generator=generator)
    other = torch.zeros(5)
    for _ in range(draws):
        other += epsilon_greedy(q_values, epsilon, generator) != q_values.argmax(-1)
    expected = epsilon * (1 - 1 / num_actions)
    deviation = (expected * (1 - expected) / draws).sqrt()
    assert ((other / draws - expected).abs() < 4 * deviation + 1e-9).all()


def test_without_a_rate_the_best_action_is_taken() -> None:
    generator = torch.Generator().manual_seed(0)
    q_values = torch.randn(100, 6, generator=generator)
    assert torch.equal(epsilon_greedy(q_values, torch.zeros(100), generator), q_values.argmax(-1))


def test_all_actions_are_tried() -> None:
    generator = torch.Generator().manual_seed(0)
    actions = epsilon_greedy(torch.randn(600, 6, generator=generator), torch.ones(600), generator)
    assert (torch.bincount(actions, minlength=6) > 60).all()


@pytest.mark.parametrize("num_environments", [10, 32, 1000])
def test_final_rates_are_shared_out_as_in_the_paper(num_environments: int) -> None:
    final = annealed_epsilon(torch.arange(num_environments), 10, 10)
    shares = [(final - rate).abs().lt(1e-6).float().mean().item() for rate in (0.1, 0.01, 0.5)]
    assert shares == pytest.approx([0.4, 0.3, 0.3], abs=1.01 / num_environments)


def test_rates_fall_in_a_line_and_stay() -> None:
    indices = torch.tensor([0, 1, 3])
    assert annealed_epsilon(indices, 0, 100).tolist() == [1, 1, 1]
    assert annealed_epsilon(indices, 50, 100).tolist() == pytest.approx([0.55, 0.505, 0.75])
    assert annealed_epsilon(indices, 5000, 100).tolist() == pytest.approx([0.1, 0.01, 0.5])


def test_one_rate_for_all_falls_in_a_line_and_stays() -> None:
    indices = torch.arange(2)
    rates = [falling_epsilon(indices, steps, 100, 0.2).tolist() for steps in (0, 50, 100, 1000)]
    assert rates == [[1, 1], pytest.approx([0.6] * 2), pytest.approx([0.2] * 2), pytest.approx([0.2] * 2)]
    assert falling_epsilon(indices, 0, 0, 0.2).tolist() == pytest.approx([0.2] * 2), "no time to fall in"


def test_nan_at_forbidden_actions_changes_nothing() -> None:
    generator = torch.Generator().manual_seed(0)
    q_values = torch.randn(500, 4, generator=generator)
    mask = torch.tensor([1, 0, 1, 1]).expand(500, 4)
    poisoned = q_values.masked_fill(mask == 0, torch.nan)
    chosen = [
        epsilon_greedy(values, torch.full((500,), 0.4), torch.Generator().manual_seed(1), mask)
        for values in (q_values, poisoned)
    ]
    assert torch.equal(*chosen)
