"""V-trace against the paper's formula, published numbers, and what must hold whatever the numbers."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.distributions import Categorical

from seedbed.common.timestep import StepType
from seedbed.server.losses.vtrace import VTraceTargets, vtrace
from tests.reference import vtrace as reference

INF = math.inf
Problem = dict[str, Any]


def random_problem(seed: int, length: int = 12, batch_size: int = 3, gamma: float = 0.95) -> Problem:
    """Unrolls of short episodes that terminate, are truncated, or are cut; float64; every number is different."""
    rng = np.random.default_rng(seed)
    step_type = np.full((length + 1, batch_size), StepType.MID)
    discount = np.ones((length + 1, batch_size))
    for b in range(batch_size):
        t = int(rng.integers(0, 6))
        while t <= length:
            step_type[t, b] = StepType.LAST
            discount[t, b] = rng.integers(0, 2)
            if t < length:
                step_type[t + 1, b] = StepType.FIRST
            t += int(rng.integers(2, 8))
    valid = step_type[:-1] != StepType.LAST
    cut = rng.integers(2, 2 * length + 1, size=batch_size)  # about half are cut: rows from `cut` on do not exist
    valid &= np.arange(1, length + 1)[:, None] < cut
    arrays = {
        "log_rhos": rng.normal(0.0, 0.8, (length, batch_size)),
        "rewards": rng.normal(0.0, 1.0, (length, batch_size)),
        "discounts": gamma * discount[1:],
        "values": rng.normal(0.0, 2.0, (length + 1, batch_size)),
        "valid": valid,
    }
    return {name: torch.from_numpy(array) for name, array in arrays.items()}


def column(**rows: list[Any]) -> Problem:
    """A batch of one, time first."""
    return {
        name: torch.tensor(row, dtype=torch.bool if name == "valid" else torch.float64)[:, None]
        for name, row in rows.items()
    }


def golden() -> Problem:
    return column(
        log_rhos=np.log([0.5, 2, 1, 0.25]).tolist(),
        rewards=[1, -1, 2, 0.5],
        discounts=[0.9, 0.9, 0, 0.9],
        values=[0.3, 0.7, -0.2, 1.1, 0.4],
        valid=[True] * 4,
    )


def assert_close(actual: Tensor, expected: Any, tolerance: float = 1e-9) -> None:
    np.testing.assert_allclose(np.asarray(actual), np.asarray(expected), rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize(
    ("options", "vs", "advantages"),
    [
        ({}, [1.01, 0.8, 2, 1.04], [0.71, 0.1, 2.2, -0.06]),
        ({"lambda_": 0.5}, [0.76475, -0.19, 2, 1.04], [0.2645, 0.1, 2.2, -0.06]),
        ({"lambda_": 0.5, "advantage": "rlax"}, [0.76475, -0.19, 2, 1.04], [0.46475, -0.89, 2.2, -0.06]),
        ({"lambda_": 0.0}, [0.965, -1.18, 2, 1.04], [-0.181, 0.1, 2.2, -0.06]),
        ({"clip_rho": 1.5, "clip_pg_rho": 1.2}, [0.587, -0.14, 2, 1.04], [0.287, 0.12, 2.2, -0.06]),
        ({"clip_rho": INF, "clip_c": INF, "clip_pg_rho": INF}, [1.055, 0.9, 2, 1.04], [0.755, 0.2, 2.2, -0.06]),
    ],
)
def test_numbers_worked_by_hand(options: dict[str, Any], vs: list[float], advantages: list[float]) -> None:
    targets = vtrace(**golden(), **options)
    assert_close(targets.vs[:, 0], vs)
    assert_close(targets.advantages[:, 0], advantages)


def test_truncation_bootstraps_from_the_last_observation() -> None:
    # The golden problem, but transition 2 ends at a time limit in a LAST row of value 0.8; its discount is gamma.
    # Transition 3 is the dummy LAST -> FIRST pair, full of nonsense.
    targets = vtrace(
        **column(
            log_rhos=[*np.log([0.5, 2, 1]), 3.0, np.log(0.25)],
            rewards=[1, -1, 2, 1000.0, 0.5],
            discounts=[0.9] * 5,
            values=[0.3, 0.7, -0.2, 0.8, 1.1, 0.4],
            valid=[True, True, True, False, True],
        )
    )
    assert_close(targets.vs[:, 0], [1.3016, 1.448, 2.72, 0.8, 1.04])
    assert_close(targets.advantages[:, 0], [1.0016, 0.748, 2.92, 0.0, -0.06])


def test_rlax_published_numbers() -> None:
    # google-deepmind/rlax, rlax/_src/vtrace_test.py; batch first there.
    behaviour = [[[8.9, 0.7], [5, 1], [0.6, 0.1], [-0.9, -0.1]], [[0.3, -5], [1, -8], [0.3, 1.7], [4.7, 3.3]]]
    target = [[[0.4, 0.5], [9.2, 8.8], [0.7, 4.4], [7.9, 1.4]], [[1, 0.9], [1, -1], [-4.3, 8.7], [0.8, 0.3]]]
    actions = torch.tensor([[0, 1, 0, 0], [1, 0, 0, 1]]).T
    logits = [torch.tensor(x).transpose(0, 1) for x in (target, behaviour)]
    values = torch.tensor([[2.1, 1.1, -3.1, 0, 8.4], [3.1, 0.1, -1.1, 7.4, -1.2]]).T
    targets = vtrace(
        log_rhos=Categorical(logits=logits[0]).log_prob(actions) - Categorical(logits=logits[1]).log_prob(actions),
        rewards=torch.tensor([[-1.3, -1.3, 2.3, 42], [1.3, 5.3, -3.3, -5]]).T,
        discounts=torch.tensor([[0, 0.89, 0.85, 0.99], [0.88, 1, 0.83, 0.95]]).T,
        values=values,
        valid=torch.ones(4, 2, dtype=torch.bool),
    )
    expected = [[-1.6155143, -3.4973226, 1.8670533, 50.316002], [1.4662437, 3.6116405, -8.3327e-5, -13.54]]
    assert_close(targets.vs - values[:-1], np.array(expected).T, tolerance=1e-5)


@settings(deadline=None, max_examples=60)
@given(
    seed=st.integers(0, 2**32 - 1),
    length=st.integers(1, 20),
    clip_c=st.sampled_from([0.0, 0.5, 1.0, 2.0]),
    extra_rho=st.sampled_from([0.0, 0.5, INF]),
    clip_pg_rho=st.sampled_from([0.5, 1.0, INF]),
    lambda_=st.sampled_from([0.0, 0.3, 0.95, 1.0]),
    advantage=st.sampled_from(["seed", "rlax"]),
)
def test_equals_the_formula_of_the_paper(
    seed: int, length: int, clip_c: float, extra_rho: float, **options: Any
) -> None:
    problem = random_problem(seed, length)
    options |= {"clip_c": clip_c, "clip_rho": clip_c + extra_rho}
    vs, advantages = reference.vtrace(**{name: x.numpy() for name, x in problem.items()}, **options)
    targets = vtrace(**problem, **options)
    assert_close(targets.vs, vs)
    assert_close(targets.advantages, advantages)


def test_float32_is_close_to_float64() -> None:
    problem = random_problem(0, length=20, batch_size=32)
    single = vtrace(**{name: x if name == "valid" else x.float() for name, x in problem.items()})
    assert_close(single.vs, vtrace(**problem).vs, tolerance=1e-5)
    assert single.vs.dtype == torch.float32


@pytest.mark.parametrize("lambda_", [0.0, 0.7, 1.0])
def test_on_policy_it_is_generalised_advantage_estimation(lambda_: float) -> None:
    problem = random_problem(1) | {"log_rhos": torch.zeros(12, 3, dtype=torch.float64)}
    arrays = {name: x.numpy() for name, x in problem.items() if name != "log_rhos"}
    targets = vtrace(**problem, lambda_=lambda_, advantage="rlax")
    expected = reference.gae(**arrays, lambda_=lambda_)
    assert_close(targets.vs - problem["values"][:-1], expected)
    assert_close(targets.advantages, expected)


def test_on_policy_targets_are_returns_bootstrapped_at_the_end_of_the_unroll() -> None:
    problem = random_problem(2, length=3, batch_size=1) | column(log_rhos=[0, 0, 0], valid=[True] * 3)
    r, d, values = (problem[name][:, 0].tolist() for name in ("rewards", "discounts", "values"))
    last = r[2] + d[2] * values[3]
    assert_close(vtrace(**problem).vs[:, 0], [r[0] + d[0] * (r[1] + d[1] * last), r[1] + d[1] * last, last])


def test_lambda_zero_is_one_step_temporal_difference() -> None:
    problem = random_problem(3)
    values, rho = problem["values"], problem["log_rhos"].exp().clamp(max=1.0)
    deltas = rho * (problem["rewards"] + problem["discounts"] * values[1:] - values[:-1])
    expected = values[:-1] + torch.where(problem["valid"], deltas, 0.0)
    assert_close(vtrace(**problem, lambda_=0.0).vs, expected)


def test_targets_and_mixed_advantages_agree() -> None:
    problem = random_problem(4)
    targets = vtrace(**problem, lambda_=0.6, advantage="rlax")
    assert_close(targets.vs, problem["values"][:-1] + targets.advantages)


def perturb_after(problem: Problem, t: int) -> Problem:
    """Changes all that transition t+1 and later ones read, except V_{t+1}, which transition t bootstraps from."""
    changed = {name: x.clone() for name, x in problem.items()}
    for name in ("log_rhos", "rewards", "discounts"):
        changed[name][t + 1 :] += 0.7
    changed["values"][t + 2 :] += 5.0
    return changed


def test_a_rho_of_zero_separates() -> None:
    problem = random_problem(5) | {"valid": torch.ones(12, 3, dtype=torch.bool)}
    problem["log_rhos"][4] = -INF
    before, after = vtrace(**problem), vtrace(**perturb_after(problem, 4))
    assert_close(before.vs[4], problem["values"][4])
    assert torch.equal(before.vs[:5], after.vs[:5])
    assert not torch.isclose(before.vs[5:], after.vs[5:]).any()


@pytest.mark.parametrize("end", ["terminated", "truncated", "cut"])
def test_nothing_leaks_across_the_end_of_an_episode(end: str) -> None:
    problem = random_problem(6) | {"valid": torch.ones(12, 3, dtype=torch.bool)}
    if end == "terminated":
        problem["discounts"][4] = 0.0
    problem["valid"][5] = False
    if end == "cut":
        problem["valid"][5:] = False
    before, after = vtrace(**problem), vtrace(**perturb_after(problem, 4))
    assert torch.equal(before.vs[:5], after.vs[:5])
    assert torch.equal(before.advantages[:5], after.advantages[:5])


def test_two_episodes_in_one_unroll_are_two_calls() -> None:
    problem = random_problem(7) | {"valid": torch.ones(12, 3, dtype=torch.bool)}
    problem["valid"][5] = False  # row 5 is LAST, row 6 is FIRST
    first = {name: x[: 6 if name == "values" else 5] for name, x in problem.items()}
    second = {name: x[6:] for name, x in problem.items()}
    whole, parts = vtrace(**problem), (vtrace(**first), vtrace(**second))
    for field in VTraceTargets._fields:
        pieces = [getattr(part, field) for part in parts]
        assert torch.equal(getattr(whole, field)[:5], pieces[0])
        assert torch.equal(getattr(whole, field)[6:], pieces[1])


def test_unrolls_of_a_batch_do_not_mix() -> None:
    problem = random_problem(8, batch_size=4)
    order = torch.tensor([2, 0, 3, 1])
    whole = vtrace(**problem)
    permuted = vtrace(**{name: x[:, order] for name, x in problem.items()})
    assert torch.equal(permuted.vs, whole.vs[:, order])
    assert torch.equal(permuted.advantages, whole.advantages[:, order])
    for b in range(4):
        alone = vtrace(**{name: x[:, b : b + 1] for name, x in problem.items()})
        assert torch.equal(alone.vs, whole.vs[:, b : b + 1])


@pytest.mark.parametrize("nonsense", [math.nan, INF, -INF])
def test_invalid_transitions_may_hold_anything(nonsense: float) -> None:
    problem = random_problem(9)
    invalid = ~problem["valid"]
    assert invalid.any()
    spoilt = {name: x.clone() for name, x in problem.items()}
    for name in ("log_rhos", "rewards", "discounts"):
        spoilt[name][invalid] = nonsense
    clean, dirty = vtrace(**problem), vtrace(**spoilt)
    assert torch.equal(clean.vs, dirty.vs)
    assert torch.equal(clean.advantages, dirty.advantages)
    assert torch.equal(clean.vs[invalid], problem["values"][:-1][invalid])
    assert not clean.advantages[invalid].any()


def test_rows_after_a_cut_may_hold_anything() -> None:
    problem = random_problem(10) | {"valid": torch.ones(12, 3, dtype=torch.bool)}
    problem["valid"][7:] = False  # rows 8 and later were never received; row 7 bootstraps
    clean = vtrace(**problem)
    for name in ("log_rhos", "rewards", "discounts"):
        problem[name][7:] = math.nan
    problem["values"][8:] = math.nan
    dirty = vtrace(**problem)
    assert torch.equal(clean.vs[:8], dirty.vs[:8])
    assert torch.equal(clean.advantages, dirty.advantages)


def test_no_gradient_flows_through_targets() -> None:
    problem = random_problem(11)
    for name in ("log_rhos", "values", "rewards"):
        problem[name].requires_grad_()
    assert not any(x.requires_grad for x in vtrace(**problem))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rewards": torch.zeros(12)}, r"expected rewards of shape \[T, B\]"),
        ({"log_rhos": torch.zeros(12, 1)}, r"expected log_rhos of shape \[12, 3\].*got \[12, 1\]"),
        ({"discounts": torch.zeros(3)}, r"expected discounts of shape \[12, 3\].*got \[3\]"),
        ({"values": torch.zeros(12, 3)}, r"expected values of shape \[13, 3\].*got \[12, 3\]"),
        ({"valid": torch.ones(12, 3)}, r"expected valid of dtype torch.bool"),
        ({"clip_c": 2.0}, "expected clip_rho of at least clip_c"),
        ({"clip_pg_rho": -1.0}, "expected clip_pg_rho of at least 0"),
        ({"lambda_": 1.5}, "expected lambda_ between 0 and 1, got 1.5"),
        ({"advantage": "gae"}, "expected advantage 'seed' or 'rlax', got 'gae'"),
    ],
)
def test_what_does_not_fit_is_explained(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        vtrace(**(random_problem(12) | changes))
