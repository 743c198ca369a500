"""Torso for any observations: what each kind of array becomes, and that `check_torso` finds what is wrong."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from seedbed.common.specs import ArraySpec, discrete
from seedbed.server.networks.actor_critic import ActorCritic
from seedbed.server.networks.array_kinds import frame_stacks
from seedbed.server.networks.auto import Auto
from seedbed.server.networks.check import check_torso, random_rows
from seedbed.server.networks.distributions import ActionSpace
from seedbed.server.networks.images import ImpalaDeep, ImpalaShallow, SmallImage
from seedbed.server.networks.interface import Inputs
from seedbed.server.networks.observations import as_stored, squash
from seedbed.server.networks.torso import Torso
from seedbed.server.networks.vectors import MLP, numbers_of
from seedbed.server.options.network import NetworkConfig


def box(*shape: int, dtype: str = "uint8", low: float = 0, high: float = 255, name: str = "x") -> ArraySpec:
    return ArraySpec(name=name, dtype=dtype, shape=shape, low=(low,), high=(high,))


def choices(*counts: int, low: int = 0, name: str = "choices") -> ArraySpec:
    high = tuple(low + n - 1 for n in counts)
    return ArraySpec(name=name, dtype="int64", shape=(len(counts),), low=(low,), high=high, kind="discrete")


SCREEN, RGB_FIRST, GRID = box(84, 84, name="screen"), box(3, 84, 84, name="rgb"), box(9, 9, 3, name="grid")
STATE = box(5, dtype="float32", low=-math.inf, high=math.inf, name="state")
FLOAT_IMAGE = box(40, 36, 3, dtype="float32", low=0, high=1, name="float")
BITS = ArraySpec(name="bits", dtype="uint8", shape=(3,), low=(0,), high=(1,), kind="binary")
COUNTER = box(2, dtype="int64", low=-math.inf, high=math.inf, name="counter")

EVERY_KIND = {
    "screen": (SCREEN,),
    "channels first": (RGB_FIRST,),
    "frames first": (box(4, 40, 44, 3),),
    "grid": (GRID,),
    "small and narrow": (box(10, 10, 4, high=1),),
    "float image": (FLOAT_IMAGE,),
    "integer image": (box(40, 40, 3, dtype="int64"),),
    "state": (STATE,),
    "number": (box(dtype="float32", low=-1, high=1),),
    "discrete": (discrete("d", 16),),
    "discrete from 3": (discrete("d", 7, start=3),),
    "embedding": (discrete("d", 500),),
    "several": (choices(4, 100, 3, 2**20, low=2),),
    "bits": (BITS,),
    "integers": (box(4, dtype="int64", low=-5, high=5),),
    "counter": (COUNTER,),
    "all": (SCREEN, RGB_FIRST, GRID, STATE, discrete("d", 16), choices(3, 70), BITS, COUNTER, FLOAT_IMAGE),
}


@pytest.mark.parametrize("shown", EVERY_KIND.values(), ids=list(EVERY_KIND))
def test_every_kind_is_read_by_auto(shown: tuple[ArraySpec, ...]) -> None:
    torch.manual_seed(0)
    torso = check_torso(Auto, shown)
    assert isinstance(torso, Auto)
    assert (torso.merge is None) == (len(shown) == 1)


@pytest.mark.parametrize("name", ["state", "discrete", "embedding", "several", "bits", "integers", "counter", "all"])
def test_the_mlp_reads_everything(name: str) -> None:
    torch.manual_seed(0)
    check_torso(MLP, EVERY_KIND[name])


def test_each_array_has_its_encoder() -> None:
    torso = Auto((SCREEN, GRID, STATE), NetworkConfig(), (4, 1, 1))
    assert [type(encoder) for encoder in torso.encoders] == [ImpalaShallow, SmallImage, MLP]
    assert torso.blocks == (4, 1, 1)


def test_one_screen_is_read_as_by_the_torso_of_that_name_bit_by_bit() -> None:
    outputs, config = [], NetworkConfig(precision="bfloat16")
    for torso in (Auto, ImpalaShallow):
        torch.manual_seed(0)
        outputs.append(torso((SCREEN,), config, (4,))(random_rows((SCREEN,), (4,))))
    assert torch.equal(*outputs)


def test_what_a_number_is_shows() -> None:
    """Values that tell rows apart are told apart, whatever dtype and space they come in."""
    assert numbers_of(discrete("d", 4))(torch.tensor([[[2]], [[0]]])).tolist() == [[[0, 0, 1, 0]], [[1, 0, 0, 0]]]
    assert not numbers_of(discrete("d", 4))(torch.tensor([[[-3]]])).any(), "a frame from before the episode"
    both = numbers_of(choices(2, 3))
    assert both(torch.tensor([[[1, 2]]])).tolist() == [[[0, 1, 0, 0, 1]]]
    assert numbers_of(box(2, dtype="int64", low=-5, high=5))(torch.tensor([[[-5, 0]]])).tolist() == [[[0, 0.5]]]
    assert numbers_of(BITS)(torch.tensor([[[1, 0, 1]]], dtype=torch.uint8)).tolist() == [[[1, 0, 1]]]
    assert numbers_of(STATE)(torch.tensor([[[1000.0, 1.5, 0, 0, 0]]])).tolist() == [[[1000.0, 1.5, 0, 0, 0]]]
    pixel = numbers_of(box(40, 40))(torch.full((1, 1, 1600), 51, dtype=torch.uint8))
    assert pixel[0, 0, 0].item() == pytest.approx(0.2)


def test_embedded_values_have_rows_of_their_own() -> None:
    torch.manual_seed(0)
    numbers = numbers_of(choices(100, 80))
    x = torch.tensor([[[a, b]] for a, b in ((0, 0), (99, 0), (0, 79), (99, 79))])
    rows = numbers(x).detach()
    assert len(rows.flatten(1).unique(dim=0)) == 4
    assert torch.equal(rows[1, 0, :64], rows[3, 0, :64])
    assert torch.equal(rows[2, 0, 64:], rows[3, 0, 64:])
    assert not torch.equal(rows[0, 0, :64], rows[0, 0, 64:]), "the same value of another element"


@pytest.mark.parametrize("spec", [box(7, 7, 3), box(9, 9, 3), box(147)], ids=str)
def test_categories_in_a_space_of_bytes_do_not_vanish(spec: ArraySpec) -> None:
    """MiniGrid shows 0 to 10 in a space to 255: divided by that, features have a spread of 0.0085."""
    generator = torch.Generator().manual_seed(0)
    frames = torch.randint(0, 11, (64, 1, *spec.shape), generator=generator, dtype=torch.uint8)
    torch.manual_seed(0)
    assert Auto((spec,), NetworkConfig(), (1,))((frames,)).std(0).mean().item() > 0.1


def test_squashed_bytes_keep_half_of_what_a_division_keeps_and_more_of_small_ones() -> None:
    steps = squash(torch.arange(256.0)).diff()
    assert steps[:10].min() > 0.04
    assert steps.min() > 0.49 / 255
    assert squash(torch.tensor([-3.0])).item() == -squash(torch.tensor([3.0])).item()


def rows_of(shown: Sequence[ArraySpec], observations: tuple[Tensor, ...]) -> Inputs:
    count = len(observations[0])
    return Inputs(
        observations,
        torch.ones(count, dtype=torch.uint8),
        torch.zeros(count),
        (torch.zeros(count, dtype=torch.int64),),
    )


@pytest.mark.parametrize("shape", [(3, 84, 84), (4, 40, 44), (4, 40, 44, 3), (8, 32, 128)])
def test_channels_first_gives_the_features_of_channels_last(shape: tuple[int, ...]) -> None:
    """The same network on the same pixels, once turned round by hand."""
    first, space = box(*shape), ActionSpace((discrete("action", 4),))
    last = (
        box(*shape[-3:-1], math.prod(shape) // math.prod(shape[-3:-1]))
        if len(shape) == 4
        else box(*shape[1:], shape[0])
    )
    networks = []
    for spec in (first, last):
        torch.manual_seed(0)
        networks.append(ActorCritic((spec,), space, NetworkConfig()))
    frames = torch.randint(0, 256, (5, 1, *shape), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)
    turned = torch.stack([torch.from_numpy(_by_hand(frame[0].numpy())) for frame in frames]).unsqueeze(1)
    outputs = [
        network.step(rows_of((spec,), (x,)), ())[0]
        for network, spec, x in zip(networks, (first, last), (frames, turned), strict=True)
    ]
    torch.testing.assert_close(outputs[0], outputs[1])
    (block,) = networks[0].blocks
    stored = as_stored(frames.flatten(0, 1), first, block).unsqueeze(1)
    torch.testing.assert_close(networks[0].step(rows_of((first,), (stored,)), ())[0], outputs[0], rtol=0, atol=0)


def _by_hand(frame: NDArray[np.uint8]) -> NDArray[np.uint8]:
    planes = [plane if plane.ndim == 3 else plane[:, :, None] for plane in frame]
    return np.concatenate(planes, axis=-1)


def test_numbers_are_exact_to_float32_where_pixels_are_read_in_half() -> None:
    """bfloat16 makes 10.0 and 10.03 equal; beside a screen they are not, in learnt and in acting copies."""
    torch.manual_seed(0)
    shown = (SCREEN, STATE, FLOAT_IMAGE)
    stacks = frame_stacks(shown, None)
    learnt = Auto(shown, NetworkConfig(precision="bfloat16"), stacks)
    acting = copy.deepcopy(learnt)
    acting.store_for_acting()
    screen, state, pixels = random_rows(shown, stacks)
    state[:] = 10.0
    close = state.clone()
    close[:] = 10 + 1 / 64
    features = [[network((screen, x, pixels)) for x in (state, close)] for network in (learnt, acting)]
    assert (features[0][0] - features[0][1]).abs().max() > 1e-4
    for mine, theirs in zip(*features, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=0, atol=1e-6)
    assert {x.dtype for x in acting.encoders[0].parameters()} == {torch.bfloat16}
    assert {x.dtype for x in acting.encoders[1:].parameters()} == {torch.float32}


@pytest.mark.parametrize("torso", [MLP, Auto])
def test_numbers_a_hair_apart_have_features_apart(torso: type[Torso]) -> None:
    """In bfloat16 10, 10.0156 and 10.0312 would be one number, and so would 1000 to 1002."""
    number = box(1, dtype="float32", low=-math.inf, high=math.inf)
    torch.manual_seed(0)
    network = torso((number,), NetworkConfig(precision="bfloat16"), (1,))
    values = torch.tensor([10 + k / 64 for k in range(4)] + [100.0, 100.25]).reshape(-1, 1, 1)
    assert len(network((values * 0.01,)).unique(dim=0)) == len(network((values,)).unique(dim=0)) == 6


class Mine(Torso):
    """A torso that is right."""

    def __init__(self, shown: Sequence[ArraySpec], config: NetworkConfig, frame_stacks: Sequence[int]) -> None:
        super().__init__(shown, config, frame_stacks)
        self.output_size = 8
        self.layer = nn.Linear(5 * frame_stacks[0], 8)

    def forward(self, observations: tuple[Tensor, ...]) -> Tensor:
        return self.layer(observations[0].flatten(1))


class LooksAround(Mine):
    def forward(self, observations: tuple[Tensor, ...]) -> Tensor:
        features = super().forward(observations)
        return features - features.mean(0)


class Forgets(Mine):
    def __init__(self, shown: Sequence[ArraySpec], config: NetworkConfig, frame_stacks: Sequence[int]) -> None:
        super().__init__(shown, config, frame_stacks)
        self.unused = nn.Linear(3, 3)


class DropsOut(Mine):
    def forward(self, observations: tuple[Tensor, ...]) -> Tensor:
        return nn.functional.dropout(super().forward(observations))


class ActsOtherwise(Mine):
    def store_for_acting(self) -> None:
        self.bfloat16().float()


class Narrow(Mine):
    def forward(self, observations: tuple[Tensor, ...]) -> Tensor:
        return super().forward(observations)[:, :7]


@pytest.mark.parametrize(
    ("torso", "message"),
    [
        (LooksAround, "a row alone and among others"),
        (Forgets, r"gradient for every parameter, got none for unused\.weight, unused\.bias"),
        (DropsOut, "the same rows a second time"),
        (ActsOtherwise, "a copy that acts"),
        (Narrow, r"expected \(6, 8\), got \(6, 7\)"),
    ],
)
def test_the_check_finds_what_is_wrong(torso: type[Torso], message: str) -> None:
    check_torso(Mine, (STATE,))
    with pytest.raises(AssertionError, match=message):
        check_torso(torso, (STATE,))


@pytest.mark.parametrize("torso", [ImpalaShallow, ImpalaDeep])
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_image_torsos_pass_the_check(torso: type[Torso], precision: str) -> None:
    torch.manual_seed(0)
    check_torso(torso, (box(40, 36, 3),), (), NetworkConfig(precision=precision))  # type: ignore[arg-type]
