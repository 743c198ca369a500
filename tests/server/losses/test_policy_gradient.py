"""Loss terms against finite differences and closed forms; what is masked must not matter."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from seedbed.server.losses.policy_gradient import (
    Reduction,
    baseline_loss,
    entropy,
    entropy_loss,
    kl_divergence,
    log_prob,
    masked_reduce,
    policy_gradient_loss,
)

T, B, A = 5, 3, 4
VALID = torch.rand(T, B, generator=torch.Generator().manual_seed(0)) < 0.7


def tensors(seed: int = 0) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {
        "logits": torch.randn(T, B, A, dtype=torch.float64, generator=generator),
        "actions": torch.randint(0, A, (T, B), generator=generator),
        "advantages": torch.randn(T, B, dtype=torch.float64, generator=generator),
        "values": torch.randn(T, B, dtype=torch.float64, generator=generator),
        "targets": torch.randn(T, B, dtype=torch.float64, generator=generator),
    }


def policy(x: dict[str, Tensor], valid: Tensor, reduction: Reduction) -> Tensor:
    kept = {name: x[name] for name in ("logits", "actions", "advantages")}
    return policy_gradient_loss(**kept, valid=valid, reduction=reduction)


def baseline(x: dict[str, Tensor], valid: Tensor, reduction: Reduction) -> Tensor:
    return baseline_loss(values=x["values"], targets=x["targets"], valid=valid, reduction=reduction)


def bonus(x: dict[str, Tensor], valid: Tensor, reduction: Reduction) -> Tensor:
    return entropy_loss(logits=x["logits"], valid=valid, reduction=reduction)


Loss = Callable[[dict[str, Tensor], Tensor, Reduction], Tensor]
every_loss = pytest.mark.parametrize(
    ("loss", "wrt"),
    [(policy, "logits"), (baseline, "values"), (bonus, "logits")],
    ids=["policy", "baseline", "entropy"],
)


def value_and_gradient(loss: Loss, wrt: str, x: dict[str, Tensor], valid: Tensor, reduction: Reduction) -> list[Tensor]:
    x = x | {wrt: x[wrt].clone().requires_grad_()}
    result = loss(x, valid, reduction)
    return [result.detach(), *torch.autograd.grad(result, x[wrt])]


def test_log_prob_entropy_and_divergence_are_those_of_torch_distributions() -> None:
    x, y = tensors(0), tensors(1)
    pi, mu = (torch.distributions.Categorical(logits=z["logits"]) for z in (x, y))
    torch.testing.assert_close(log_prob(x["logits"], x["actions"]), pi.log_prob(x["actions"]))
    torch.testing.assert_close(entropy(x["logits"]), pi.entropy())
    expected = torch.distributions.kl_divergence(mu, pi)
    torch.testing.assert_close(kl_divergence(y["logits"], x["logits"]), expected)
    torch.testing.assert_close(kl_divergence(x["logits"], x["logits"]), torch.zeros(T, B).double())


@every_loss
@pytest.mark.parametrize("reduction", ["sum", "mean"])
def test_gradients_are_finite_differences(loss: Loss, wrt: str, reduction: Reduction) -> None:
    x = tensors()
    assert torch.autograd.gradcheck(lambda z: loss(x | {wrt: z}, VALID, reduction), x[wrt].clone().requires_grad_())


def test_losses_are_sums_over_valid_steps_written_out() -> None:
    x = tensors()
    expected = {"policy": 0.0, "baseline": 0.0, "entropy": 0.0}
    for t, b in VALID.nonzero().tolist():
        probabilities = (x["logits"][t, b].exp() / x["logits"][t, b].exp().sum()).tolist()
        expected["policy"] -= math.log(probabilities[x["actions"][t, b]]) * x["advantages"][t, b].item()
        expected["baseline"] += 0.5 * (x["values"][t, b] - x["targets"][t, b]).item() ** 2
        expected["entropy"] += sum(p * math.log(p) for p in probabilities)
    for name, loss in (("policy", policy), ("baseline", baseline), ("entropy", bonus)):
        assert loss(x, VALID, "sum").item() == pytest.approx(expected[name], rel=1e-12)


def test_entropy_gradient_has_its_closed_form() -> None:
    logits = tensors()["logits"].requires_grad_()
    (gradient,) = torch.autograd.grad(entropy(logits).sum(), logits)
    p = logits.detach().softmax(-1)
    torch.testing.assert_close(gradient, -p * (p.log() + entropy(logits.detach()).unsqueeze(-1)))


@every_loss
def test_mean_is_the_sum_over_the_number_of_valid_steps(loss: Loss, wrt: str) -> None:
    count = int(VALID.sum())
    assert 0 < count < T * B
    sums = value_and_gradient(loss, wrt, tensors(), VALID, "sum")
    means = value_and_gradient(loss, wrt, tensors(), VALID, "mean")
    torch.testing.assert_close(means, [x / count for x in sums])


@every_loss
def test_logits_may_be_shifted(loss: Loss, wrt: str) -> None:
    x = tensors()
    shifted = x | {"logits": x["logits"] + 17.0 * torch.arange(T * B).view(T, B, 1)}
    before, after = (value_and_gradient(loss, wrt, z, VALID, "mean") for z in (x, shifted))
    torch.testing.assert_close(before, after)


@every_loss
@pytest.mark.parametrize("nonsense", [math.nan, math.inf])
def test_invalid_steps_may_hold_anything(loss: Loss, wrt: str, nonsense: float) -> None:
    x = tensors()
    spoilt = {name: z.clone() for name, z in x.items()}
    for name in ("logits", "advantages", "values", "targets"):
        spoilt[name][~VALID] = nonsense
    spoilt["actions"][~VALID] = -7
    for reduction in ("sum", "mean"):
        clean, dirty = (value_and_gradient(loss, wrt, z, VALID, reduction) for z in (x, spoilt))
        assert all(torch.equal(a, b) for a, b in zip(clean, dirty, strict=True))
        assert not dirty[1][~VALID].any()


@every_loss
def test_nothing_valid_is_no_loss(loss: Loss, wrt: str) -> None:
    none = torch.zeros(T, B, dtype=torch.bool)
    for reduction in ("sum", "mean"):
        assert not any(x.any() for x in value_and_gradient(loss, wrt, tensors(), none, reduction))


def test_no_gradient_flows_through_advantages_or_targets() -> None:
    x = {name: z.requires_grad_(z.is_floating_point()) for name, z in tensors().items()}
    (policy(x, VALID, "mean") + baseline(x, VALID, "mean")).backward()
    assert x["advantages"].grad is None
    assert x["targets"].grad is None
    assert x["values"].grad is not None


def test_masked_reduce() -> None:
    x = torch.tensor([[1.0, math.nan], [3.0, 8.0]])
    valid = torch.tensor([[True, False], [True, True]])
    assert masked_reduce(x, valid, "sum") == 12.0
    assert masked_reduce(x, valid, "mean") == 4.0


def test_what_does_not_fit_is_explained() -> None:
    x = tensors()
    with pytest.raises(ValueError, match=r"expected actions of shape \[5, 3\].*got \[5\]"):
        log_prob(x["logits"], x["actions"][:, 0])
    with pytest.raises(ValueError, match=r"expected advantages and valid of one shape, got \[5\] and \[5, 3\]"):
        policy(x | {"advantages": x["advantages"][:, 0]}, VALID, "sum")
    with pytest.raises(ValueError, match=r"expected values and targets of one shape, got \[5, 3\] and \[3\]"):
        baseline(x | {"targets": x["targets"][0]}, VALID, "sum")
    with pytest.raises(ValueError, match="expected reduction 'sum' or 'mean', got 'max'"):
        masked_reduce(x["values"], VALID, "max")  # type: ignore[arg-type]
