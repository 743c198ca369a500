"""Torsos: what they read, what they refuse, their published sizes, and the arithmetic of half precision."""

from __future__ import annotations

import copy
import itertools
import math
from typing import Any, Literal

import pytest
import torch
from torch import Tensor, nn

from seedbed.common.errors import SpecError, UsageError
from seedbed.common.specs import ArraySpec
from seedbed.server.experience.frames import unroll_windows
from seedbed.server.networks.images import ImpalaShallow
from seedbed.server.networks.layers import Conv2d, Linear
from seedbed.server.networks.observations import (
    AsRead,
    block_shape,
    frames_of,
    keeps_frames_apart,
    stack_channels,
    to_blocks,
)
from seedbed.server.networks.registry import find_torso
from seedbed.server.networks.torso import Torso
from seedbed.server.options.network import NetworkConfig

IMAGE_TORSOS = ("impala_shallow", "nature", "impala_deep")


def make_torso(
    name: str,
    shown: tuple[ArraySpec, ...],
    frame_stack: int = 1,
    *,
    dtype: Literal["float32", "bfloat16"] = "float32",
    background: float = 0.0,
) -> Torso:
    config = NetworkConfig(torso=name, precision=dtype, background=background)
    return find_torso(name)(shown, config, (frame_stack,) * len(shown))


def image(*shape: int, dtype: str = "uint8", low: float = -math.inf, high: float = math.inf) -> ArraySpec:
    return ArraySpec(name="screen", dtype=dtype, shape=shape, low=(low,), high=(high,))


def vector(size: int, name: str = "state") -> ArraySpec:
    return ArraySpec(name=name, dtype="float32", shape=(size,))


def random_frames(*shape: int, seed: int = 0) -> Tensor:
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))


def num_parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.mark.parametrize(
    ("name", "output_size", "parameters"),
    [
        # DQN on Pong has 1,687,206 parameters, of which the 6 actions take 512 * 6 + 6.
        ("nature", 512, 1_687_206 - 3_078),
        # 16 of 8x8x4, 32 of 4x4x16, 9 * 9 * 32 to 256.
        ("impala_shallow", 256, 4_112 + 8_224 + 663_808),
        # Sections 592 + 9,280, 4,640 + 36,992 and 9,248 + 36,992, then 11 * 11 * 32 to 256.
        ("impala_deep", 256, 97_744 + 991_488),
    ],
)
def test_sizes_on_atari_are_the_published_ones(name: str, output_size: int, parameters: int) -> None:
    torso = make_torso(name, (image(84, 84),), 4)
    assert torso.output_size == output_size
    assert num_parameters(torso) == parameters
    assert torso((random_frames(2, 4, 84, 84),)).shape == (2, output_size)


def test_the_deep_network_with_its_lstm_has_the_published_size() -> None:
    # IMPALA, figure 3: 15 convolutional layers and 1.6 million parameters, on 72x96 RGB with an LSTM of 256. It counts
    # a reader of instructions, which we lack: 1000 words of 20, an LSTM of 64, and the core's weights for its output.
    torso = make_torso("impala_deep", (image(72, 96, 3),))
    assert sum(isinstance(module, Conv2d) for module in torso.modules()) == 15
    lstm = 4 * 256 * (256 + 1 + 9 + 256 + 1)
    reader = 1000 * 20 + 4 * 64 * (20 + 64 + 1) + 64 * 4 * 256
    assert num_parameters(torso) + lstm + reader + 257 * 10 == pytest.approx(1.6e6, rel=0.03)


@pytest.mark.parametrize("name", IMAGE_TORSOS)
@pytest.mark.parametrize(("shape", "stack"), [((84, 84), 1), ((84, 84), 4), ((72, 96, 3), 1), ((64, 64, 3), 2)])
def test_image_torsos_take_any_channels(name: str, shape: tuple[int, ...], stack: int) -> None:
    torso = make_torso(name, (image(*shape),), stack)
    features = torso((random_frames(3, stack, *shape),))
    assert features.shape == (3, torso.output_size)
    assert features.isfinite().all()
    assert len(features.unique(dim=0)) == 3


@pytest.mark.parametrize("shape", [(10, 5), (10, 10, 4)])
def test_the_deep_torso_takes_small_images(shape: tuple[int, ...]) -> None:
    assert make_torso("impala_deep", (image(*shape),))((random_frames(2, 1, *shape),)).shape == (2, 256)


def test_channels_are_frames_oldest_first() -> None:
    # Every number says where it comes from: row, frame, y, x, channel.
    n, k, y, x, c = torch.meshgrid(*(torch.arange(size) for size in (2, 3, 4, 5, 2)), indexing="ij")
    frames = 10000 * n + 1000 * k + 100 * y + 10 * x + c
    stacked = stack_channels(frames)
    assert stacked.shape == (2, 6, 4, 5)
    assert stacked[1, :, 3, 2].tolist() == [10320 + 1000 * k + c for k in range(3) for c in range(2)]
    assert stack_channels(frames[..., 0])[1, :, 3, 2].tolist() == [10320, 11320, 12320]
    assert stacked.is_contiguous(memory_format=torch.channels_last)


def test_interleaved_frames_are_not_copied() -> None:
    frames = torch.zeros(2, 4, 5, 3).movedim(-1, 1)  # [N, K, h, w] over memory [N, h, w, K]
    assert stack_channels(frames).data_ptr() == frames.data_ptr()


@pytest.mark.parametrize(("stack", "channels", "stride", "padding"), [(4, 16, 1, 0), (3, 8, 2, 1), (1, 8, 1, 0)])
def test_frames_apart_give_the_same_sums_as_frames_interleaved(
    stack: int, channels: int, stride: int, padding: int
) -> None:
    torch.manual_seed(0)
    layer = Conv2d(stack * channels, 5, 3, stride=stride, padding=padding, input_scale=0.5)
    frames = torch.randn(2, stack, 6, 7, channels, dtype=torch.float64)
    apart, interleaved = layer.over_frames(frames), layer(stack_channels(frames))
    torch.testing.assert_close(apart, interleaved)
    weight = torch.randn_like(apart)
    gradients = [torch.autograd.grad((weight * x).sum(), layer.weight)[0] for x in (apart, interleaved)]
    torch.testing.assert_close(*gradients)


def test_frames_stay_apart_only_where_that_is_faster() -> None:
    frames = torch.empty(2, 4, 21, 21, 16, dtype=torch.uint8)
    assert keeps_frames_apart(frames)
    assert not keeps_frames_apart(frames[..., 0]), "nothing to fill a vector with"
    assert not keeps_frames_apart(frames[..., :3])
    assert not keeps_frames_apart(frames.to("meta"))


def pixel_by_pixel(weight: Tensor, stack: int, block: int) -> Tensor:
    """A kernel over blocks of pixels, `[F, K * block * block, k, k]`, as one over pixels, `[F, K, block * k, ...]`."""
    edge = weight.shape[-1]
    plain = torch.zeros(len(weight), stack, block * edge, block * edge)
    for frame, dy, dx, y, x in itertools.product(range(stack), *[range(block)] * 2, *[range(edge)] * 2):
        channel = (frame * block + dy) * block + dx
        plain[:, frame, y * block + dy, x * block + dx] = weight[:, channel, y, x]
    return plain


@pytest.mark.parametrize(("block", "shape"), [(2, (4, 6)), (4, (8, 4)), (2, (4, 6, 3)), (4, (8, 4, 2)), (1, (3, 5))])
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_blocks_hold_their_pixels_row_by_row(block: int, shape: tuple[int, ...], dtype: torch.dtype) -> None:
    frames = torch.arange(2 * math.prod(shape)).reshape(2, *shape).to(dtype)
    blocked = to_blocks(frames, block)
    assert tuple(blocked.shape[1:]) == block_shape(shape, block)
    if block == 1:
        assert torch.equal(blocked, frames)
        return
    for n, y, x in itertools.product(range(2), range(shape[0] // block), range(shape[1] // block)):
        square = frames[n, y * block : (y + 1) * block, x * block : (x + 1) * block]
        assert blocked[n, y, x].tolist() == square.flatten().tolist()


@pytest.mark.parametrize("name", IMAGE_TORSOS)
@pytest.mark.parametrize("shape", [(84, 84), (44, 36, 3), (50, 50)])
def test_frames_in_blocks_are_the_same_to_a_torso(name: str, shape: tuple[int, ...]) -> None:
    torso = make_torso(name, (image(*shape),), 2)
    assert torso.blocks[0] == (4 if name != "impala_deep" and shape != (50, 50) else 1)
    frames = random_frames(3, 2, *shape)
    blocked = torch.stack([to_blocks(frame, torso.blocks[0]) for frame in frames.unbind(1)], 1)
    assert torch.equal(torso((blocked,)), torso((frames,)))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize(("name", "shape"), [("impala_shallow", (84, 84)), ("nature", (44, 36, 3))])
def test_frames_read_once_are_the_same_as_their_stacks(
    name: str, shape: tuple[int, ...], dtype: Literal["float32", "bfloat16"]
) -> None:
    """Features of whole unrolls, and the gradient of every weight."""
    torch.manual_seed(0)
    torso = make_torso(name, (image(*shape),), 4, dtype=dtype, background=87.0)
    frames = to_blocks(random_frames(3 * 8, *shape), 4).unflatten(0, (3, 8))
    stacks = unroll_windows(frames, 4)
    assert stacks.shape[:3] == (5, 3, 4)
    assert torch.equal(frames_of(stacks), frames)  # type: ignore[arg-type]
    assert torch.equal(frames_of(stacks[2:]), frames[:, 2:])  # type: ignore[arg-type]
    assert frames_of(stacks.contiguous()) is None
    found = torso.unrolls(frames)
    expected = torso((stacks.flatten(0, 1),)).unflatten(0, (5, 3))
    assert found is not None
    rtol, atol = (1e-4, 1e-5) if dtype == "float32" else (2e-2, 2e-2)
    torch.testing.assert_close(found, expected, rtol=rtol, atol=atol)
    weights = list(torso.parameters())
    pull = torch.randn(found.shape).to(found.dtype)
    for mine, theirs in zip(*(torch.autograd.grad(x, weights, pull) for x in (found, expected)), strict=True):
        assert (mine - theirs).norm() <= (1e-4 if dtype == "float32" else 1e-2) * theirs.norm()


def test_a_torso_of_its_own_reads_rows_unless_it_says_otherwise() -> None:
    class Louder(ImpalaShallow):
        def forward(self, observations: tuple[Tensor, ...]) -> Tensor:
            return 2 * super().forward(observations)

    frames = to_blocks(random_frames(8, 84, 84), 4)[None]
    config = NetworkConfig(torso="mine")
    assert ImpalaShallow((image(84, 84),), config, (4,)).unrolls(frames) is not None
    assert Louder((image(84, 84),), config, (4,)).unrolls(frames) is None


@pytest.mark.parametrize("name", IMAGE_TORSOS)
def test_image_torsos_equal_plain_layers(name: str) -> None:
    """The same weights in stock layers, channels first, on pixels divided by 255."""
    torch.manual_seed(0)
    torso = make_torso(name, (image(44, 36),), 2)
    frames = random_frames(3, 2, 44, 36)

    def conv(layer: Any, x: Tensor) -> Tensor:
        weight = layer.weight.contiguous()
        return nn.functional.conv2d(x, weight, layer.bias, layer.stride, layer.padding)

    x = frames / 255.0
    if name == "impala_deep":
        for section in torso.sections:  # type: ignore[union-attr]
            x = nn.functional.max_pool2d(conv(section.entry, x), 3, 2, 1)
            for i in (0, 2):
                x = x + conv(section.blocks[i + 1], conv(section.blocks[i], x.relu()).relu())
        x = x.relu()
    else:
        first, *others = torso.convolutions  # type: ignore[misc]
        x = nn.functional.conv2d(x, pixel_by_pixel(first.weight, stack=2, block=4), first.bias, 4).relu()
        for layer in others:
            x = conv(layer, x).relu()
    expected = torso.hidden(x.movedim(1, -1).flatten(1)).relu()  # type: ignore[operator]
    torch.testing.assert_close(torso((frames,)), expected, rtol=1e-4, atol=1e-5)


def test_the_mlp_reads_all_observations_and_all_frames() -> None:
    specs = (vector(3, "a"), image(32, 32), vector(1, "b"))
    torso = make_torso("mlp", specs, 2)
    observations = [torch.randn(4, 2, 3), random_frames(4, 2, 32, 32), torch.randn(4, 2, 1)]
    flat = torch.cat([observations[0].flatten(1), observations[1].flatten(1) / 255, observations[2].flatten(1)], dim=1)
    x = flat
    for layer in torso.layers:  # type: ignore[union-attr]
        x = layer(x).tanh()
    assert x.shape == (4, 64)
    torch.testing.assert_close(torso(tuple(observations)), x)


@pytest.mark.parametrize("name", ["mlp", *IMAGE_TORSOS])
@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_a_copy_stored_in_half_precision_computes_the_same_bits(name: str, dtype: str) -> None:
    torch.manual_seed(0)
    master = make_torso(name, (image(44, 44, dtype=dtype),), 3, dtype="bfloat16")
    acting = copy.deepcopy(master)
    acting.store_for_acting()
    frames = random_frames(5, 3, 44, 44)
    observations = (frames if dtype == "uint8" else frames.float() / 256,)
    assert all(parameter.dtype == torch.float32 for parameter in master.parameters())
    features = master(observations)
    half = dtype == "uint8" and name != "mlp"
    assert features.dtype == (torch.bfloat16 if half else torch.float32), "numbers are no pixels"
    assert {parameter.dtype for parameter in acting.parameters()} == {features.dtype}
    assert torch.equal(features, acting(observations))


@pytest.mark.parametrize("name", IMAGE_TORSOS)
def test_half_precision_is_close_and_trains_float32_weights(name: str) -> None:
    torch.manual_seed(0)
    single = make_torso(name, (image(44, 44),), 3)
    half = make_torso(name, (image(44, 44),), 3, dtype="bfloat16")
    half.load_state_dict(single.state_dict())
    frames = random_frames(5, 3, 44, 44)
    expected, features = single((frames,)), half((frames,)).float()
    assert (features - expected).norm() < 0.02 * expected.norm()
    features.sum().backward()
    for parameter in half.parameters():
        assert parameter.grad is not None
        assert parameter.grad.dtype == torch.float32
        assert parameter.grad.isfinite().all()


def test_weights_already_in_the_right_dtype_are_not_copied() -> None:
    layer = Linear(3, 3)
    assert layer.weight.to(torch.float32) is layer.weight
    assert layer(torch.randn(2, 3, dtype=torch.bfloat16)).dtype == torch.bfloat16


@pytest.mark.parametrize("name", ["mlp", *IMAGE_TORSOS])
def test_signals_keep_their_scale_at_the_start(name: str) -> None:
    torch.manual_seed(0)
    torso = make_torso(name, (image(84, 84),), 4)
    rms = torso((random_frames(4, 4, 84, 84),)).square().mean().sqrt().item()
    assert 0.05 < rms < 5.0
    assert not any(parameter.any() for label, parameter in torso.named_parameters() if label.endswith("bias"))


@pytest.mark.parametrize("name", IMAGE_TORSOS)
@pytest.mark.parametrize("specs", [(vector(4),), (image(84, 84), vector(4)), (image(84, 84, 3, 2),)])
def test_image_torsos_refuse_what_is_not_one_image(name: str, specs: tuple[ArraySpec, ...]) -> None:
    with pytest.raises(SpecError, match=r"exactly one observation, an image .* got '\w+' \w+\[") as error:
        make_torso(name, specs)
    assert all(spec.name in str(error.value) for spec in specs)


@pytest.mark.parametrize(("name", "smallest"), [("impala_shallow", 20), ("nature", 36)])
def test_images_may_be_too_small(name: str, smallest: int) -> None:
    make_torso(name, (image(smallest, smallest),))
    with pytest.raises(
        SpecError, match=rf"'screen': this torso expects larger images, got uint8\[{smallest - 1}, 84\]"
    ):
        make_torso(name, (image(smallest - 1, 84),))


def test_unknown_torsos_and_classes_that_are_none_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match=r"--torso to be one of auto, mlp, .* got 'vgg'"):
        find_torso("vgg")
    monkeypatch.setattr("seedbed.server.networks.registry.TORSOS", {"odd": "pathlib:Path"})
    with pytest.raises(UsageError, match=r"--torso odd: expected a subclass of seedbed\..*\.Torso, got .*Path"):
        find_torso("odd")
    with pytest.raises(UsageError, match="expected --frame-stack of at least 1, got 0"):
        NetworkConfig(frame_stack=0)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("name", ["impala_shallow", "nature", "impala_deep"])
def test_the_background_is_nothing(name: str, dtype: Literal["float32", "bfloat16"]) -> None:
    torso = make_torso(name, (image(84, 84),), 4, dtype=dtype, background=87.0)
    empty = torch.full((2, 4, 84, 84), 87, dtype=torch.uint8)
    features = torso((empty,))
    features.sum().backward()
    first = next(module for module in torso.modules() if isinstance(module, Conv2d))
    assert first.weight.grad is not None
    assert not first.weight.grad.any(), "what is constant moves no filter"
    plain = make_torso(name, (image(84, 84),), 4, dtype=dtype)
    plain.load_state_dict(torso.state_dict())
    frames = random_frames(2, 4, 84, 84)
    shifted = frames.to(torch.float32) - 87.0
    torch.testing.assert_close(torso((frames,)), plain((shifted,)), rtol=0, atol=0)


def test_discrete_values_are_counted_from_zero() -> None:
    one = AsRead(ArraySpec(name="x", dtype="int64", low=(-3,), high=(4,), kind="discrete"))
    assert one(torch.tensor([-3, 0, 4])).tolist() == [0, 3, 7]
    several = AsRead(ArraySpec(name="x", dtype="int32", shape=(2,), low=(1, 5), high=(3, 6), kind="discrete"))
    assert several(torch.tensor([[1, 6], [3, 5]], dtype=torch.int32)).tolist() == [[0, 1], [2, 0]]
    assert several(torch.zeros(4, 3, 2, dtype=torch.int32)).dtype == torch.int32
    for stays in (image(2, 2, low=1.0, high=9.0), vector(3), ArraySpec(name="x", dtype="int64", high=(4,), low=(0,))):
        x = torch.ones(stays.shape)
        assert AsRead(stays)(x) is x
    assert not one.state_dict()


def test_layers_over_numbers_are_as_wide_as_asked() -> None:
    config = NetworkConfig(layer_sizes="200", activation="relu")
    torso = find_torso("mlp")((vector(3),), config, (1,))
    assert torso.output_size == 200
    assert [(name, tuple(x.shape)) for name, x in torso.named_parameters()] == [
        ("layers.0.weight", (200, 3)),
        ("layers.0.bias", (200,)),
    ]
    x = random_frames(5, 1, 3).float() - 128
    features, (weight, bias) = torso((x,)), torso.parameters()
    torch.testing.assert_close(features, torch.relu(nn.functional.linear(x.flatten(1), weight, bias)))
    assert find_torso("auto")((vector(3),), NetworkConfig(layer_sizes="7,5"), (1,)).output_size == 5
    for wrong in ("", "64,", "0", "6.5", "-3"):
        with pytest.raises(UsageError, match="expected --layer-sizes of numbers of at least 1"):
            NetworkConfig(layer_sizes=wrong)
