"""Check of a torso: that it does what the rest of a network relies on. For the tests of those who write one."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from torch import Tensor

from seedbed.common.specs import ArraySpec
from seedbed.server.networks.array_kinds import as_read
from seedbed.server.networks.array_kinds import frame_stacks as stacks_of
from seedbed.server.networks.observations import to_blocks
from seedbed.server.networks.torso import Torso
from seedbed.server.options.network import NetworkConfig

_ROWS = 6


def check_torso(
    torso: type[Torso],
    shown: Sequence[ArraySpec],
    frame_stacks: Sequence[int] = (),
    config: NetworkConfig | None = None,
) -> Torso:
    """Builds a torso and tries it on observations drawn at random.

    What a row becomes may depend on no other row of the batch, nor on the rows before it; every parameter must get a
    gradient; copies that act must say what is learnt; frames in the blocks that it asks for must be the same to it.

    Args:
        torso: the class.
        shown: specs of observations, as an environment shows them.
        frame_stacks: K of each array; by the network's options unless given.
        config: the options of the network; their defaults unless given.

    Returns:
        The torso, fresh.

    Raises:
        AssertionError: names what is wrong.
        SpecError: it cannot read these observations.
    """
    config = NetworkConfig() if config is None else config
    specs = tuple(map(as_read, shown))
    stacks = tuple(frame_stacks) or stacks_of(shown, config.frame_stack)
    built = torso(specs, config, stacks)
    _expect(isinstance(built, Torso), f"a {Torso.__module__}.Torso", type(built).__name__)
    _expect(built.output_size >= 1, "an output_size of at least 1", built.output_size)
    _expect(len(built.blocks) == len(specs), f"a block for each of {len(specs)} arrays", built.blocks)
    learnt = [parameter.dtype for parameter in built.parameters()]
    _expect(set(learnt) <= {torch.float32}, "float32 weights", sorted(map(str, set(learnt))))
    rows = random_rows(specs, stacks)
    features = built(rows)
    _expect(tuple(features.shape) == (_ROWS, built.output_size), (_ROWS, built.output_size), tuple(features.shape))
    _expect(features.is_floating_point() and bool(features.isfinite().all()), "finite features", features)
    tolerance = 1e-5 if features.dtype == torch.float32 else 2e-2
    with torch.no_grad():
        _expect_same(built(rows), features, 0.0, "the same features of the same rows a second time")
        alone = torch.cat([built(tuple(x[i : i + 1] for x in rows)) for i in range(_ROWS)])
        _expect_same(alone, features, tolerance, "the same features of a row alone and among others")
        turned = built(tuple(x.flip(0) for x in rows)).flip(0)
        _expect_same(turned, features, tolerance, "the same features of rows in another order")
        blocked = tuple(_blocked(x, block) for x, block in zip(rows, built.blocks, strict=True))
        _expect_same(built(blocked), features, 0.0, "the same features of frames in blocks")
        acting = copy.deepcopy(built)
        acting.store_for_acting()
        _expect_same(acting(rows), features, 1e-6, "the same features from a copy that acts")
    if features.requires_grad:  # one without parameters has nothing to learn
        features.float().square().sum().backward()
    without = [name for name, x in built.named_parameters() if x.grad is None or not x.grad.any()]
    _expect(not without, "a gradient for every parameter", f"none for {', '.join(without)}")
    built.zero_grad()
    return built


def random_rows(specs: Sequence[ArraySpec], stacks: Sequence[int], *, rows: int = _ROWS) -> tuple[Tensor, ...]:
    """Observations of a spec, `[rows, K, *shape]` each, the same at every call: within bounds, about 0 without any."""
    generator = torch.Generator().manual_seed(0)
    return tuple(_random(spec, (rows, stack), generator) for spec, stack in zip(specs, stacks, strict=True))


def _random(spec: ArraySpec, leading: tuple[int, ...], generator: torch.Generator) -> Tensor:
    share = torch.rand((*leading, *spec.shape), generator=generator, dtype=torch.float64)
    low = torch.from_numpy(spec.lower).clamp(min=0.0 if spec.dtype == "uint8" else -100.0)
    high = torch.from_numpy(spec.upper).clamp(max=255.0 if spec.dtype == "uint8" else 100.0)
    if spec.dtype == "float32":
        return (low + share * (high - low)).float()
    values = (low + share * (high - low + 1)).floor().minimum(high)
    return values.to(getattr(torch, spec.dtype))


def _blocked(frames: Tensor, block: int) -> Tensor:
    return to_blocks(frames.flatten(0, 1), block).unflatten(0, frames.shape[:2])


def _expect_same(got: Tensor, expected: Tensor, tolerance: float, what: str) -> None:
    worst = (got.float() - expected.float()).abs().max().item()
    _expect(worst <= tolerance * (1 + expected.float().abs().max().item()), what, f"a difference of {worst:.3g}")


def _expect(right: bool, expected: object, got: object) -> None:
    if not right:
        raise AssertionError(f"torso: expected {expected}, got {got}")
