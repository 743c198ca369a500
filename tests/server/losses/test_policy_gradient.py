"""Loss terms against finite differences and closed forms; what is masked must not matter."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from seedbed.common.specs import discrete
from seedbed.server.losses.masking import Reduction, only_valid
from seedbed.server.losses.policy_gradient import baseline_loss, entropy_loss, policy_gradient_loss
from seedbed.server.networks.distributions import ActionDistribution, ActionSpace

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


def policy_of(x: dict[str, Tensor], valid: Tensor) -> ActionDistribution:
    """As an algorithm reads it: nothing but 0 where it is not valid."""
    return ActionSpace((discrete("action", A),)).distribution(only_valid(x["logits"], valid))


def policy(x: dict[str, Tensor], valid: Tensor, reduction: Reduction) -> Tensor:
    log_probs = policy_of(x, valid).log_prob((only_valid(x["actions"], valid),))
    return policy_gradient_loss(log_probs=log_probs, advantages=x["advantages"], valid=valid, reduction=reduction)


def baseline(x: dict[str, Tensor], valid: Tensor, reduction: Reduction) -> Tensor:
    return baseline_loss(values=x["values"], targets=x["targets"], valid=valid, reduction=reduction)


def bonus(x: dict[str, Tensor], valid: Tensor, reduction: Reduction) -> Tensor:
    return entropy_loss(entropies=policy_of(x, valid).entropy(), valid=valid, reduction=reduction)


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


def test_what_does_not_fit_is_explained() -> None:
    x = tensors()
    with pytest.raises(ValueError, match=r"expected advantages of shape \[5, 3\] beside valid \[5, 3\], got \[5\]"):
        policy(x | {"advantages": x["advantages"][:, 0]}, VALID, "sum")
    with pytest.raises(ValueError, match=r"expected targets of shape \[5, 3\] beside valid \[5, 3\], got \[3\]"):
        baseline(x | {"targets": x["targets"][0]}, VALID, "sum")
