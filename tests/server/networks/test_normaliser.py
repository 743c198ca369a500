"""Running moments of observations, and the layer that applies them."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from seedbed.common.specs import ArraySpec, discrete
from seedbed.common.timestep import StepType
from seedbed.server.networks.array_kinds import as_read
from seedbed.server.networks.body import Body
from seedbed.server.networks.distributions import ActionSpace
from seedbed.server.networks.interface import Inputs
from seedbed.server.networks.moments import COUNT, SUMS, ObservationMoments
from seedbed.server.networks.normaliser import Normaliser, Normalisers, is_normalised
from seedbed.server.networks.observations import as_stored
from seedbed.server.options.network import NetworkConfig

NUMBER = ArraySpec(name="number", dtype="float32", shape=(1,))
VECTOR = ArraySpec(name="vector", dtype="float32", shape=(3,))
GRID = ArraySpec(name="grid", dtype="uint8", shape=(7, 7, 3), low=(0,), high=(255,))
SCREEN = ArraySpec(name="screen", dtype="uint8", shape=(84, 84), low=(0,), high=(255,))
COUNTS = ArraySpec(name="counts", dtype="int64", shape=(2,), low=(-10, 0), high=(10, 1000))
BITS = ArraySpec(name="bits", dtype="uint8", shape=(4,), low=(0,), high=(1,), kind="binary")


def merged(moments: ObservationMoments, *arrays: Tensor) -> ObservationMoments:
    """Takes in a column of rows `[N, *shape]`, each of the arrays; every row is one of a valid transition."""
    rows = [torch.cat((array, array[:1]))[:, None, None] for array in arrays]
    moments.merge(moments.sums(rows, torch.ones(len(arrays[0]), 1, dtype=torch.bool)))
    return moments


def column(*values: float) -> Tensor:
    return torch.tensor(values)[:, None]


def variance(moments: ObservationMoments) -> Tensor:
    return moments.squares / moments.count


def test_batches_are_merged_as_the_formulas_say() -> None:
    moments = ObservationMoments((NUMBER,))
    expected = [((1, 2, 3, 4), 4, 2.5, 1.25), ((10,), 5, 4.0, 10.0), ((-2, 0), 7, 2.57142857, 12.53061224)]
    for values, count, mean, var in expected:
        merged(moments, column(*values))
        assert float(moments.count) == count
        assert float(moments.mean) == pytest.approx(mean, abs=1e-8)
        assert float(variance(moments)) == pytest.approx(var, abs=1e-8)


@pytest.mark.parametrize("offset", [0.0, 100.0])
def test_any_split_of_the_data_gives_the_same_moments(offset: float) -> None:
    torch.manual_seed(0)
    data = torch.randn(1000, 3) * torch.tensor([0.1, 1.0, 30.0]) + offset
    whole = merged(ObservationMoments((VECTOR,)), data)
    parts = ObservationMoments((VECTOR,))
    for part in data.split([1, 1, 7, 300, 91, 600]):
        merged(parts, part)
    several = ObservationMoments((VECTOR,))
    merged(several, data[:200])
    sums = [several.sums((half[:, None, None],), torch.ones(len(half) - 1, 1) > 0) for half in data[200:].split(400)]
    several.merge({name: sums[0][name] + sums[1][name] for name in (COUNT, SUMS)})
    two_short = merged(ObservationMoments((VECTOR,)), torch.cat((data[:599], data[600:999])))
    for ours, theirs in ((parts, whole), (several, two_short)):
        assert float(ours.count) == float(theirs.count)
        torch.testing.assert_close(ours.mean, theirs.mean, rtol=1e-9, atol=1e-9)
        torch.testing.assert_close(variance(ours), variance(theirs), rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(whole.mean, data.double().mean(0), rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(variance(whole), data.double().var(0, correction=0), rtol=1e-6, atol=1e-9)


def test_a_million_rows_more_do_not_get_lost() -> None:
    """In float32 a count of 2^24 would stay there."""
    moments = ObservationMoments((NUMBER,))
    moments.count.fill_(2.0**24)
    merged(moments, column(1.0))
    assert float(moments.count) == 2.0**24 + 1


def test_only_rows_before_valid_transitions_count_each_with_its_newest_frame() -> None:
    observations = torch.arange(4 * 2 * 3, dtype=torch.float32).reshape(4, 2, 3, 1)  # [L, B, K, 1]
    valid = torch.tensor([[True, False], [False, False], [True, True]])
    observations[0, 1] = float("nan")
    moments = ObservationMoments((NUMBER,))
    moments.merge(moments.sums((observations,), valid))
    kept = torch.tensor([observations[t, b, 2, 0] for t, b in valid.nonzero().tolist()])
    assert float(moments.count) == 3
    assert float(moments.mean) == pytest.approx(float(kept.mean()))


def test_a_row_that_is_not_finite_is_left_out() -> None:
    moments = merged(ObservationMoments((NUMBER,)), column(1.0, float("inf"), 3.0, float("nan")))
    assert (float(moments.count), float(moments.mean)) == (2, 2)


def test_moments_freeze_at_their_limit_or_forget_from_there_on() -> None:
    frozen = ObservationMoments((NUMBER,), limit=4, freezes=True)
    forgetful = ObservationMoments((NUMBER,), limit=4)
    for moments in (frozen, forgetful):
        merged(moments, column(0.0, 0.0, 1.0, 1.0))
        merged(moments, column(9.0, 9.0))
    assert (float(frozen.count), float(frozen.mean), float(frozen.shift)) == (4, 0.5, 0)
    assert float(forgetful.count) == 4, "two rows of before weigh as much as two new ones"
    assert float(forgetful.mean) == pytest.approx(0.5 * 0.5 + 0.5 * 9)
    assert float(forgetful.shift) > 0
    for _ in range(100):
        merged(forgetful, column(9.0, 9.0))
    assert float(forgetful.mean) == pytest.approx(9)
    assert float(variance(forgetful)) == pytest.approx(0, abs=1e-6)
    merged(forgetful, column(*[5.0] * 10))
    assert float(forgetful.mean) == pytest.approx(5), "of a batch beyond the limit nothing of before is left"


def test_without_rows_nothing_changes() -> None:
    moments = merged(ObservationMoments((VECTOR,)), torch.randn(5, 3))
    before = copy.deepcopy(moments.state_dict())
    moments.merge(moments.sums((torch.randn(3, 2, 1, 3),), torch.zeros(2, 2, dtype=torch.bool)))
    assert all(torch.equal(before[name], value) for name, value in moments.state_dict().items() if name != "shift")


def test_quantities_are_normalised_and_choices_bits_and_pixels_are_not() -> None:
    kinds = {VECTOR: True, GRID: True, COUNTS: True, SCREEN: False, BITS: False, discrete("choice", 5): False}
    assert {spec.name: is_normalised(spec) for spec in kinds} == {spec.name: yes for spec, yes in kinds.items()}
    binary_grid = ArraySpec(name="bits", dtype="uint8", shape=(10, 10, 4), low=(0,), high=(1,), kind="binary")
    assert not is_normalised(binary_grid)


def test_floats_begin_as_they_are_and_integers_as_shares_of_their_bounds() -> None:
    vector, counts = torch.tensor([[[1.0, -3.0, 20.0]]]), torch.tensor([[[-10, 500]]])
    torch.testing.assert_close(Normaliser(VECTOR)(vector), torch.tensor([[[1.0, -3.0, 10.0]]]))
    torch.testing.assert_close(Normaliser(COUNTS)(counts), torch.tensor([[[0.0, 0.5]]]))


def test_what_comes_out_has_mean_0_and_spread_1_and_ends_at_10() -> None:
    torch.manual_seed(0)
    data = torch.randn(500, 3) * torch.tensor([1e-3, 1.0, 1e3]) + torch.tensor([5.0, 0.0, -1e3])
    learnt = nn.ModuleDict({"a": Normalisers((VECTOR,)), "b": Normalisers((VECTOR,))})
    merged(ObservationMoments((VECTOR,)), data).write(learnt)
    for normalisers in learnt.values():
        assert isinstance(normalisers, Normalisers)
        out = normalisers[0](data[:, None])[:, 0]
        torch.testing.assert_close(out.mean(0), torch.zeros(3), atol=1e-2, rtol=0)
        torch.testing.assert_close(out.std(0, correction=0), torch.ones(3), atol=1e-2, rtol=0)
        assert torch.equal(normalisers[0](torch.full((1, 1, 3), 1e9)), torch.full((1, 1, 3), 10.0))


@pytest.mark.parametrize(
    "spec",
    [
        GRID,
        ArraySpec(name="grid", dtype="uint8", shape=(3, 8, 8), low=(0,), high=(255,)),
        ArraySpec(name="grid", dtype="uint8", shape=(28, 28, 3), low=(0,), high=(255,)),
        ArraySpec(name="grid", dtype="float32", shape=(16, 16), low=(0,), high=(1,)),
    ],
    ids=["last", "first", "larger", "grey"],
)
@pytest.mark.parametrize("torso", ["auto", "mlp", "impala_shallow"])
def test_small_images_are_normalised_by_channel_however_they_are_stored(spec: ArraySpec, torso: str) -> None:
    if torso == "impala_shallow" and min(as_read(spec).shape[:2]) < 20:
        pytest.skip("the image is too small for it")
    torch.manual_seed(0)
    data = torch.randint(0, 2 if spec.dtype == "float32" else 11, (6, *spec.shape)).to(getattr(torch, spec.dtype))
    config = NetworkConfig(torso=torso, frame_stack=1, normalise_observations="on")
    body = Body((spec,), ActionSpace((discrete("action", 2),)), config)
    moments = ObservationMoments((spec,))
    assert len(moments.mean) == (as_read(spec).shape[2] if len(spec.shape) == 3 else 1)
    stored = as_stored(data, spec, body.blocks[0])
    merged(moments, stored)
    images = data.double().movedim(1, 3) if spec.shape[0] == 3 else data.double()
    channels = images.reshape(-1, len(moments.mean))
    torch.testing.assert_close(moments.mean, channels.mean(0))
    torch.testing.assert_close(variance(moments), channels.var(0, correction=0))
    moments.write(body)
    zeros = torch.zeros(6)
    rows = [Inputs((x[:, None],), torch.full((6,), StepType.MID), zeros, (zeros.long(),)) for x in (data, stored)]
    features = [body.step(inputs, ())[0] for inputs in rows]
    torch.testing.assert_close(features[0], features[1])
    body.normalisers = None
    assert not torch.allclose(features[0], body.step(rows[0], ())[0]), "that was of normalised rows"


def test_accumulators_stay_in_float64_and_networks_in_float32() -> None:
    moments = ObservationMoments((VECTOR, SCREEN, GRID))
    assert {name: (x.dtype, x.numel()) for name, x in moments.named_buffers()} == {
        "count": (torch.float64, 1),
        "mean": (torch.float64, 6),
        "squares": (torch.float64, 6),
        "shift": (torch.float32, 1),
    }
    normalisers = Normalisers((VECTOR, SCREEN, GRID))
    assert [len(normaliser.mean) for normaliser in normalisers.active] == [3, 3]
    assert {x.dtype for x in normalisers.buffers()} == {torch.float32}
