"""Gaussians over boxes: where deviations come from, what is watched, and what must not be sent."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from seedbed.common.specs import ArraySpec, discrete
from seedbed.server.networks.actor_critic import PolicyHead
from seedbed.server.networks.distributions import ActionSpace
from seedbed.server.networks.gaussians import Deviation

BOX = ArraySpec(name="box", dtype="float32", shape=(3,), low=(-1,), high=(1,))
MIXED = (discrete("first", 2), BOX, discrete("last", 4))


@pytest.mark.parametrize(("deviation", "outputs", "free"), [("free", 3, 3), ("each", 6, 0), ("shared", 4, 0)])
@pytest.mark.parametrize("squash", [False, True])
def test_deviations_come_from_where_they_should(deviation: Deviation, outputs: int, free: int, squash: bool) -> None:
    space = ActionSpace(MIXED, squash=squash, deviation=deviation)
    assert (space.num_outputs, space.num_free, space.param_size) == (6 + outputs, free, 6 + 6)
    torch.manual_seed(0)
    head = PolicyHead(5, space)
    features = torch.randn(2, 7, 5)
    parameters = head(features)
    raw = F.linear(features, head.weight, head.bias)
    assert torch.equal(parameters[..., :5], raw[..., :5]), "logits and means are what the head gives"
    assert torch.equal(parameters[..., 8:], raw[..., -4:])
    deviations = parameters[..., 5:8].exp()
    moved = raw[..., 5 : 2 + outputs]
    expected = {
        "free": torch.ones_like(deviations),
        "each": F.softplus(moved) + 1e-3,
        "shared": F.softplus(moved).sqrt() + torch.zeros_like(deviations) if moved.shape[-1] == 1 else None,
    }[deviation]
    torch.testing.assert_close(deviations, expected, rtol=1e-5, atol=1e-5)
    assert (deviations.std((0, 1)) > 0).all() == (deviation != "free")
    head.weight.detach().mul_(1e4)
    assert head(features).isfinite().all(), "a deviation has a least value"


@pytest.mark.parametrize("squash", [False, True])
@pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan])
def test_a_sample_that_is_not_finite_does_not_become_an_edge(squash: bool, value: float) -> None:
    """Clipping would make 1 of infinity, and an environment would go on as if nothing were wrong."""
    space = ActionSpace((BOX,), squash=squash)
    (sent,) = space.sent((torch.tensor([[0.5, value, -3.0]]),))
    assert sent.isfinite().tolist() == [[True, False, True]]


def test_what_is_watched() -> None:
    parameters = torch.tensor([[0.0, 0.0, 0.5, -2.0, 0.5, 0.0, math.log(2.0), math.log(3.0), 0.0, 0.0, 0.0, 0.0]])
    samples = (torch.tensor([0]), torch.tensor([[0.5, -1.5, 1.0]]), torch.tensor([3]))
    watched = ActionSpace(MIXED).distribution(parameters).watched(samples)
    found = {name: number.item() for name, number in watched.items()}
    assert found == pytest.approx({"action_mean_size": 1.0, "action_deviation": 2.0, "action_clipped_share": 1 / 3})
    squashed = ActionSpace(MIXED, squash=True).distribution(parameters).watched(samples)
    assert set(squashed) == {"action_mean_size", "action_deviation"}
    assert not ActionSpace(MIXED[:1]).distribution(parameters[:, :2]).watched(samples[:1])


def test_bonuses_of_discrete_and_of_continuous_elements_are_means_over_their_own() -> None:
    space = ActionSpace(MIXED)
    policy = space.distribution(torch.randn(4, space.param_size, generator=torch.Generator().manual_seed(0)))
    discrete_alone, boxes_alone = policy.entropy_bonus() * 2, policy.continuous_entropy_bonus() * 3
    torch.testing.assert_close(discrete_alone + boxes_alone, policy.entropy())
    deviations = policy.parameters[:, 5:8]
    torch.testing.assert_close(
        policy.continuous_entropy_bonus(), deviations.mean(-1) + 0.5 * math.log(2 * math.pi * math.e)
    )
    assert not ActionSpace(MIXED[:1]).distribution(torch.randn(4, 2)).continuous_entropy_bonus().any()
    assert not ActionSpace((BOX,)).distribution(torch.randn(4, 6)).entropy_bonus().any()
