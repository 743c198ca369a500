"""Optimisers against numbers worked by hand, the schedule at its ends, and clipping."""

from __future__ import annotations

import copy
import math

import pytest
import torch

from seedbed.server.learning.optimisers import (
    RMSPropTF,
    clip_gradients,
    linear_decay,
    make_optimiser,
    set_learning_rate,
)


def parameter(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64, requires_grad=True)


@pytest.mark.parametrize("momentum", [0.0, 0.5])
def test_rmsprop_tf_takes_the_steps_of_its_formula(momentum: float) -> None:
    weights = [parameter(1.0), parameter(2.0, 3.0)]
    optimiser = RMSPropTF(weights, 0.1, decay=0.9, epsilon=0.01, momentum=momentum)
    expected, mean_square, velocity = [1.0, 2.0, 3.0], [1.0] * 3, [0.0] * 3
    for step, gradients in enumerate([(2.0, -1.0, 0.5), (0.0, 3.0, -0.1), (-4.0, 0.2, 7.0)]):
        set_learning_rate(optimiser, 0.1 / (step + 1))
        weights[0].grad, weights[1].grad = parameter(gradients[0]).detach(), parameter(*gradients[1:]).detach()
        optimiser.step()
        for i, gradient in enumerate(gradients):
            mean_square[i] = 0.9 * mean_square[i] + 0.1 * gradient**2
            velocity[i] = momentum * velocity[i] + 0.1 / (step + 1) * gradient / math.sqrt(mean_square[i] + 0.01)
            expected[i] -= velocity[i]
        assert torch.cat(weights).tolist() == pytest.approx(expected, rel=1e-12)


def test_rmsprop_tf_first_step_by_hand() -> None:
    # 0.9 * 1 + 0.1 * 2^2 = 1.3; with epsilon 0.14 the root is 1.2; 1 - 0.6 * 2 / 1.2 = 0. PyTorch's would be at -0.55.
    weight = parameter(1.0)
    optimiser = RMSPropTF([weight], 0.6, decay=0.9, epsilon=0.14)
    weight.grad = torch.tensor([2.0], dtype=torch.float64)
    optimiser.step()
    assert weight.item() == pytest.approx(0.0, abs=1e-12)


def test_rmsprop_tf_leaves_parameters_without_gradient() -> None:
    weights = [parameter(1.0), parameter(2.0)]
    optimiser = RMSPropTF(weights, 0.1)
    weights[1].grad = torch.ones(1, dtype=torch.float64)
    optimiser.step()
    assert weights[0].item() == 1.0
    assert weights[1].item() < 2.0


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        # After one step from a gradient of 2: Adam has m/(sqrt(v)+eps) = 2/(2+.5); the RMSProps see a mean square of
        # .1 * 4, with .9 more in TensorFlow's.
        ("adam", 1 - 0.1 * 2 / 2.5),
        ("radam", 1 - 0.1 * 2),  # of one gradient nothing is known of the spread: no denominator
        ("rmsprop", 1 - 0.1 * 2 / (math.sqrt(0.4) + 0.5)),
        ("rmsprop_tf", 1 - 0.1 * 2 / math.sqrt(1.3 + 0.5)),
    ],
)
def test_options_reach_the_optimiser(name: str, expected: float) -> None:
    weight = parameter(1.0)
    optimiser = make_optimiser([weight], name=name, learning_rate=0.1, epsilon=0.5, decay=0.9)  # type: ignore[arg-type]
    weight.grad = torch.tensor([2.0], dtype=torch.float64)
    optimiser.step()
    assert weight.item() == pytest.approx(expected, rel=1e-9)


def test_radam_takes_the_steps_of_its_paper() -> None:
    """Algorithm 2 of arXiv 1908.03265: from the sixth step on, gradients are divided by their size, rectified."""
    weight, expected, beta1, beta2 = parameter(1.0), 1.0, 0.9, 0.99
    optimiser = make_optimiser([weight], name="radam", learning_rate=0.1, epsilon=1e-12, beta1=beta1, beta2=beta2)
    first = second = 0.0
    longest = 2 / (1 - beta2) - 1
    for t, gradient in enumerate([2.0, -1.0, 0.5, 3.0, -0.2, 1.0, 4.0, -2.0], start=1):
        weight.grad = torch.tensor([gradient], dtype=torch.float64)
        optimiser.step()
        first = beta1 * first + (1 - beta1) * gradient
        second = beta2 * second + (1 - beta2) * gradient**2
        length = longest - 2 * t * beta2**t / (1 - beta2**t)
        step = 0.1 * first / (1 - beta1**t)
        if length > 5:
            known = (length - 4) * (length - 2) * longest / ((longest - 4) * (longest - 2) * length)
            step *= math.sqrt(known * (1 - beta2**t) / second)
        assert (length > 5) == (t > 5)
        expected -= step
        assert weight.item() == pytest.approx(expected, rel=1e-9)


def test_betas_and_momentum_reach_the_optimiser() -> None:
    adam = make_optimiser([parameter(1.0)], name="adam", learning_rate=1, epsilon=1, beta1=0.1, beta2=0.2)
    assert adam.defaults["betas"] == (0.1, 0.2)
    for name in ("rmsprop", "rmsprop_tf"):
        made = make_optimiser([parameter(1.0)], name=name, learning_rate=1, epsilon=1, momentum=0.3)
        assert made.defaults["momentum"] == 0.3


@pytest.mark.parametrize("name", ["adam", "radam", "rmsprop", "rmsprop_tf"])
def test_a_restored_optimiser_takes_the_same_next_step(name: str) -> None:
    def make(weight: torch.Tensor) -> torch.optim.Optimizer:
        return make_optimiser([weight], name=name, learning_rate=0.1, epsilon=0.01, momentum=0.9)  # type: ignore[arg-type]

    weight = parameter(1.0, -2.0)
    optimiser = make(weight)
    weight.grad = torch.tensor([0.3, 5.0], dtype=torch.float64)
    optimiser.step()
    twin = weight.detach().clone().requires_grad_()
    twin.grad = weight.grad.clone()
    restored = make(twin)
    restored.load_state_dict(copy.deepcopy(optimiser.state_dict()))
    optimiser.step()
    restored.step()
    assert torch.equal(weight, twin)


def test_linear_decay() -> None:
    assert [linear_decay(4.0, 0.25, p) for p in (-1.0, 0.0, 0.5, 1.0, 2.0)] == [4.0, 4.0, 2.5, 1.0, 1.0]
    assert linear_decay(6e-4, 0.0, 1.0) == 0.0
    assert linear_decay(6e-4, 1.0, 0.7) == 6e-4


def test_clip_gradients_scales_all_to_one_global_norm() -> None:
    weights = [parameter(0.0), parameter(0.0, 0.0)]
    weights[0].grad, weights[1].grad = parameter(3.0).detach(), parameter(0.0, 4.0).detach()
    assert clip_gradients(iter(weights), 10.0).item() == pytest.approx(5.0)
    assert weights[1].grad.tolist() == [0.0, 4.0]
    assert clip_gradients(iter(weights), 1.0).item() == pytest.approx(5.0)
    assert torch.cat([w.grad for w in weights if w.grad is not None]).tolist() == pytest.approx([0.6, 0, 0.8], rel=1e-5)
    assert clip_gradients(weights, math.inf).item() == pytest.approx(1.0, rel=1e-5)
    assert torch.cat([w.grad for w in weights if w.grad is not None]).tolist() == pytest.approx([0.6, 0, 0.8], rel=1e-5)


def test_what_makes_no_sense_is_refused() -> None:
    with pytest.raises(ValueError, match="expected epsilon of at least 0, got -1"):
        RMSPropTF([parameter(1.0)], 0.1, epsilon=-1)
    with pytest.raises(ValueError, match="expected decay between 0 and 1, got 2"):
        RMSPropTF([parameter(1.0)], 0.1, decay=2)
    with pytest.raises(ValueError, match="expected optimiser 'adam', 'radam', 'rmsprop' or 'rmsprop_tf', got 'sgd'"):
        make_optimiser([parameter(1.0)], name="sgd", learning_rate=0.1, epsilon=0.1)  # type: ignore[arg-type]
