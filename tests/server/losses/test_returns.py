"""Returns by hand, against the paper's loop, against V-trace and GAE, and what must hold whatever the numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from seedbed.server.losses.returns import lambda_returns
from seedbed.server.losses.vtrace import vtrace
from tests.reference.returns import n_step_returns
from tests.reference.vtrace import gae
from tests.server.losses.test_vtrace import Problem, assert_close, column, random_problem

NAMES = ("rewards", "discounts", "values", "valid")


def problem(seed: int, **options: Any) -> Problem:
    """As V-trace's, without a behaviour policy."""
    return {name: array for name, array in random_problem(seed, **options).items() if name in NAMES}


def by_hand(**changes: list[Any]) -> Tensor:
    """Five steps of reward 1, 2, 3, 4, 5 with gamma 0.5 and values 10, 20, .. 60."""
    rows: dict[str, list[Any]] = {
        "rewards": [1, 2, 3, 4, 5],
        "discounts": [0.5] * 5,
        "values": [10, 20, 30, 40, 50, 60],
        "valid": [True] * 5,
    }
    return lambda_returns(**column(**{**rows, **changes}))[:, 0]


def test_each_step_gets_the_longest_return_its_unroll_allows() -> None:
    assert_close(by_hand(), [5.4375, 8.875, 13.75, 21.5, 35])


def test_a_terminal_state_bootstraps_from_nothing() -> None:
    assert_close(by_hand(discounts=[0.5, 0.5, 0, 0.5, 0.5])[:3], [2.75, 3.5, 3])


def test_a_time_limit_bootstraps_from_the_value_of_its_last_observation() -> None:
    # Transition 2 leads to the LAST row 3 of value 40; transition 3 is the dummy from LAST to FIRST.
    returns = by_hand(valid=[True, True, True, False, True])
    assert_close(returns[[0, 1, 2, 4]], [1 + 0.5 * 13.5, 2 + 0.5 * 23, 3 + 0.5 * 40, 35])


def test_one_step_at_lambda_zero() -> None:
    arrays = problem(3)
    expected = arrays["rewards"] + arrays["discounts"] * arrays["values"][1:]
    valid = arrays["valid"]
    assert_close(lambda_returns(**arrays, lambda_=0.0)[valid], expected[valid])


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 2**31), st.integers(1, 20))
def test_equals_the_loop_of_the_paper(seed: int, length: int) -> None:
    arrays = problem(seed, length=length)
    returns = lambda_returns(**arrays)
    for b in range(returns.shape[1]):
        expected = n_step_returns(*(arrays[name][:, b].tolist() for name in NAMES))
        for t, wanted in enumerate(expected):
            assert float(returns[t, b]) == pytest.approx(float(arrays["values"][t, b]) if wanted is None else wanted)


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 2**31), st.sampled_from([0.0, 0.3, 0.95, 1.0]))
def test_vtrace_with_rho_one_is_this(seed: int, lambda_: float) -> None:
    """At lambda 1, A2C: the targets are equal, and V-trace's advantage is the return less the value."""
    arrays, valid = problem(seed), problem(seed)["valid"]
    targets = vtrace(log_rhos=torch.zeros_like(arrays["rewards"]), **arrays, lambda_=lambda_, advantage="rlax")
    returns = lambda_returns(**arrays, lambda_=lambda_)
    assert_close(targets.vs, returns)
    assert_close(targets.advantages[valid], (returns - arrays["values"][:-1])[valid])


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 2**31), st.floats(0.0, 1.0))
def test_less_the_values_it_is_generalised_advantage_estimation(seed: int, lambda_: float) -> None:
    arrays = problem(seed)
    expected = gae(**{name: array.numpy() for name, array in arrays.items()}, lambda_=lambda_)
    assert_close(lambda_returns(**arrays, lambda_=lambda_) - arrays["values"][:-1], expected)


def test_invalid_transitions_may_hold_anything() -> None:
    arrays = problem(5)
    clean, valid = lambda_returns(**arrays), arrays["valid"]
    assert not valid.all()
    for name in ("rewards", "discounts"):
        arrays[name] = torch.where(valid, arrays[name], np.nan)
    assert_close(lambda_returns(**arrays)[valid], clean[valid])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"values": torch.zeros(12, 3)}, r"expected values of shape \[13, 3\]"),
        ({"discounts": torch.zeros(3)}, r"expected discounts of shape \[12, 3\]"),
        ({"valid": torch.ones(12, 3)}, r"expected valid of dtype torch.bool"),
        ({"lambda_": 1.5}, r"expected lambda_ between 0 and 1, got 1.5"),
    ],
)
def test_what_does_not_fit_is_explained(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        lambda_returns(**{**problem(0), **changes})
