"""PopArt: moments of value targets, and the head that is rewritten for them."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from seedbed.server.networks.value_head import LEAST_SPREAD, Scale, ValueHead, ValueMoments


def float64(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def summed(*targets: tuple[float, ...]) -> Tensor:
    """Sums of the targets of each output."""
    return torch.stack([float64(len(own), sum(own), sum(target * target for target in own)) for own in targets], dim=1)


def test_two_outputs_as_the_formulas_say() -> None:
    """Golden numbers of the statistics, the rewritten head, and what the losses see."""
    head, moments = ValueHead(2, 2), ValueMoments(2, rate=0.1)
    moments.mean.copy_(float64(0, 10))
    moments.second.copy_(float64(1, 104))
    moments.kept.zero_()  # the average has run for long
    head.rescale(moments.scale())
    with torch.no_grad():
        head.weight.copy_(torch.tensor([[0.5, -0.2], [1.0, 0.3]]))
        head.bias.copy_(torch.tensor([0.1, -0.4]))
    features = torch.tensor([2.0, 1.0])
    torch.testing.assert_close(head(features), torch.tensor([0.9, 13.8]))
    moments.merge(summed((3, 5), (12,)))
    scale = moments.scale()
    head.rescale(scale)
    torch.testing.assert_close(moments.mean, float64(0.4, 10.2))
    torch.testing.assert_close(moments.second, float64(2.6, 108))
    torch.testing.assert_close(scale.spread, float64(1.56205, 1.989975), rtol=1e-5, atol=0)
    wanted = torch.tensor([[0.320092, -0.128037], [1.005038, 0.301511]])
    torch.testing.assert_close(head.weight.detach(), wanted, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(head.bias.detach(), torch.tensor([-0.192055, -0.502519]), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(head(features), torch.tensor([0.9, 13.8]))
    assert float((5 - scale.mean[0]) / scale.spread[0]) == pytest.approx(2.944848, abs=1e-6)
    assert float((5 - head(features)[0].detach()) / scale.spread[0]) == pytest.approx(2.624756, abs=1e-5)


def test_no_value_changes_by_any_number_of_rewritings() -> None:
    torch.manual_seed(0)
    head, moments, features = ValueHead(64), ValueMoments(rate=0.01), torch.randn(100, 64)
    moments.merge(summed((30.0, 50.0)))
    head.rescale(moments.scale())
    with torch.no_grad():
        head.bias.zero_()  # so that values are as large as their targets
    before = head(features).detach()
    for update in range(2000):
        centre, spread = 40 + 100 * torch.rand(()), 5 + 20 * torch.rand(())
        moments.merge(moments.sums(centre + spread * torch.randn(20, 4), torch.ones(20, 4) > 0) * (update % 7 > 0))
        head.rescale(moments.scale())
    assert float(head.mean) != pytest.approx(40, abs=1)
    far = ((head(features).detach() - before) / before).abs().max()
    assert far < 1e-5, f"{far:.2g}"


def test_the_first_targets_set_the_scale() -> None:
    """As the mean over all updates begins: 1, 1/2, 1/3, ..."""
    moments = ValueMoments(rate=3e-4)
    for update, value in enumerate((100.0, 300.0, 500.0), start=1):
        moments.merge(summed((value - 10, value + 10)))
        assert float(moments.mean) == pytest.approx(100.0 * update, rel=1e-3)
    assert float(moments.scale().spread) == pytest.approx((100 + 200**2 * 2 / 3) ** 0.5, rel=1e-2)
    for _ in range(20_000):
        moments.merge(summed((7.0, 9.0)))
    assert float(moments.mean) == pytest.approx(8.0, abs=2), "and then it forgets"
    assert float(moments._merged(summed((1008.0,)))[0] - moments.mean) == pytest.approx(1000 * 3e-4, rel=0.02)


def test_targets_that_hardly_differ_are_not_blown_up() -> None:
    moments = ValueMoments(rate=3e-4)
    moments.merge(summed((1e-3, 1.1e-3)))
    assert float(moments.scale().spread) == LEAST_SPREAD
    moments.merge(summed((2.0,)))
    assert torch.isfinite(moments.scale().spread)


def test_only_valid_targets_count_and_none_changes_nothing() -> None:
    moments = ValueMoments(rate=0.5)
    targets = torch.tensor([[1.0, float("nan")], [3.0, float("inf")]])
    sums = moments.sums(targets, torch.tensor([[True, False], [True, True]]))
    assert sums[:, 0].tolist() == [2, 4, 10]
    moments.merge(sums)
    before = {name: value.clone() for name, value in moments.state_dict().items()}
    moments.merge(moments.sums(targets, torch.zeros(2, 2, dtype=torch.bool)))
    assert all(torch.equal(before[name], value) for name, value in moments.state_dict().items())


def test_asking_how_the_scale_would_be_changes_nothing() -> None:
    moments = ValueMoments(rate=0.1)
    moments.merge(summed((1.0, 2.0)))
    sums = summed((5.0, 9.0))
    before = moments.scale()
    asked = moments.scale(sums)
    assert torch.equal(moments.scale().mean, before.mean)
    moments.merge(sums)
    assert torch.equal(moments.scale().spread, asked.spread)


def test_a_fresh_head_is_a_linear_layer() -> None:
    torch.manual_seed(0)
    head, linear, features = ValueHead(8), torch.nn.Linear(8, 1), torch.randn(5, 8)
    linear.load_state_dict({"weight": head.weight, "bias": head.bias})
    assert torch.equal(head(features), linear(features))
    head.rescale(Scale(float64(0), float64(1)))
    assert torch.equal(head(features), linear(features))
