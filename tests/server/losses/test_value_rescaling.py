"""Value rescaling: published values, its inverse, and the digits that the textbook inverse loses."""

from __future__ import annotations

import pytest
import torch

from seedbed.server.losses.value_rescaling import rescale, unrescale
from tests.reference.value_learning import textbook_rescale, textbook_unrescale

VALUES = torch.cat((torch.linspace(-50, 50, 401), torch.logspace(-6, 5, 200), -torch.logspace(-6, 5, 200)))


@pytest.mark.parametrize(
    ("x", "h"), [(0.5, 0.225245), (1.0, 0.415214), (21.0, 3.711416), (1000.0, 31.638584), (1e5, 415.229347), (0.0, 0.0)]
)
def test_known_values(x: float, h: float) -> None:
    for sign in (1.0, -1.0):
        assert rescale(torch.tensor(sign * x, dtype=torch.float64)).item() == pytest.approx(sign * h, abs=1e-6)


def test_both_are_the_textbook_functions() -> None:
    exact = VALUES.double()
    torch.testing.assert_close(rescale(exact), torch.tensor([textbook_rescale(x) for x in exact.tolist()]).double())
    squeezed = rescale(exact)
    expected = torch.tensor([textbook_unrescale(x) for x in squeezed.tolist()], dtype=torch.float64)
    torch.testing.assert_close(unrescale(squeezed), expected, rtol=1e-9, atol=1e-9)


def test_they_are_each_others_inverse_in_float32() -> None:
    back = unrescale(rescale(VALUES))
    assert ((back - VALUES).abs() <= 1e-6 + 5e-7 * VALUES.abs()).all(), "the textbook form is wrong by 1e-3 at 20"


def test_they_are_odd_and_increasing() -> None:
    ordered = VALUES.double().sort().values.unique()
    for function in (rescale, unrescale):
        assert torch.equal(function(-ordered), -function(ordered))
        assert (function(ordered).diff() > 0).all()


def test_the_slope_is_positive_everywhere() -> None:
    for function in (rescale, unrescale):
        x = VALUES.double().clone().requires_grad_()
        function(x).sum().backward()
        assert x.grad is not None
        assert (x.grad[VALUES != 0] > 0).all()
