"""Layer normalisation of torsos and heads: where it stands, what it is over, and that nothing changes without it."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch
from torch import nn

from seedbed.common.specs import ArraySpec, discrete
from seedbed.server.networks.check import check_torso, random_rows
from seedbed.server.networks.distributions import ActionSpace
from seedbed.server.networks.dueling import Dueling
from seedbed.server.networks.layers import ChannelNorm, Conv2d, LayerNorm, Linear
from seedbed.server.networks.registry import find_torso
from seedbed.server.options.network import NetworkConfig

IMAGE = ArraySpec(name="screen", dtype="uint8", shape=(84, 84), low=(0,), high=(255,))
SMALL_IMAGE = ArraySpec(name="map", dtype="uint8", shape=(10, 10, 4), low=(0,), high=(1,))
VECTOR = ArraySpec(name="state", dtype="float32", shape=(5,))
NORMED = NetworkConfig(normalise_layers=True, precision="float32")
CASES = {
    "mlp": ("mlp", (VECTOR,), 2),
    "impala_shallow": ("impala_shallow", (IMAGE,), 3),
    "nature": ("nature", (IMAGE,), 4),
    "impala_deep": ("impala_deep", (IMAGE,), 3 * 4 + 2),
    "auto, small image": ("auto", (SMALL_IMAGE,), 3),
    "auto, both": ("auto", (IMAGE, VECTOR), 3 + 2 + 1),
}
every_torso = pytest.mark.parametrize(("name", "shown", "count"), CASES.values(), ids=CASES)


def norms(module: nn.Module) -> list[LayerNorm]:
    return [x for x in module.modules() if isinstance(x, LayerNorm)]


@every_torso
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_torsos_with_it_are_torsos(name: str, shown: tuple[ArraySpec, ...], count: int, precision: str) -> None:
    """Every row by itself, every weight with a gradient, the same from a copy that acts."""
    config = replace(NORMED, precision=precision)  # type: ignore[arg-type]
    torso = check_torso(find_torso(name), shown, (1,) * len(shown), config)
    assert len(norms(torso)) == count, "one before each activation"


@every_torso
def test_without_it_nothing_is_there(name: str, shown: tuple[ArraySpec, ...], count: int) -> None:
    """The same weights under the same names, in the same order of draws."""
    stacks = (1,) * len(shown)
    torch.manual_seed(0)
    plain = find_torso(name)(shown, replace(NORMED, normalise_layers=False), stacks)
    torch.manual_seed(0)
    normed = find_torso(name)(shown, NORMED, stacks)
    assert not norms(plain)
    theirs = normed.state_dict()
    for key, weight in plain.state_dict().items():
        assert torch.equal(weight, theirs[key])


@every_torso
def test_the_scale_of_a_layer_is_of_no_account(name: str, shown: tuple[ArraySpec, ...], count: int) -> None:
    torch.manual_seed(0)
    stacks = (1,) * len(shown)
    torso, rows = find_torso(name)(shown, NORMED, stacks), random_rows(shown, stacks)
    larger = copy.deepcopy(torso)
    with torch.no_grad():
        layers = [x for x in larger.modules() if isinstance(x, Linear | Conv2d)]
        if name == "impala_deep":  # within a section sums of a skip and a branch are normalised together
            layers = [larger.hidden]  # type: ignore[list-item]
        for layer in layers:
            layer.weight.mul_(10)
            assert layer.bias is not None
            layer.bias.mul_(10)
        torch.testing.assert_close(larger(rows), torso(rows), atol=2e-3, rtol=2e-3)


def test_convolutions_are_normalised_pixel_by_pixel() -> None:
    x = torch.randn(2, 8, 5, 4) * torch.arange(1, 5) + 3
    normed = ChannelNorm(8)(x)
    assert normed.shape == x.shape
    torch.testing.assert_close(normed.mean(1), torch.zeros(2, 5, 4), atol=1e-5, rtol=0)
    torch.testing.assert_close(normed.var(1, unbiased=False), torch.ones(2, 5, 4), atol=1e-3, rtol=0)


def test_heads_have_it_too() -> None:
    space = ActionSpace((discrete("action", 3),))
    with_it, without = (
        Dueling((VECTOR,), space, replace(NORMED, torso="mlp", normalise_layers=on), head_size=8)
        for on in (True, False)
    )
    assert len(norms(with_it)) == 2 + 2, "of the torso, of value and advantage"
    assert not norms(without)
