"""Policies over every action array of an environment: what stands between a network's head and a loss.

    space = ActionSpace(spec.actions)
    policy = space.distribution(parameters, mask)       parameters: what the head gives, as they are recorded
    samples = policy.sample(generator)                  what probabilities are asked of, recorded as `action.NAME`
    policy.log_prob(samples)
    space.sent(samples)                                 what goes over the wire, recorded as `last_action.NAME`
    space.encode(sent)                                  what cores and critics read

Arrays are independent given the row, so log probabilities, entropies and divergences add up. Server and learner build
the same distribution from recorded parameters and mask: nothing infinite is stored and log rho is exact.

Shapes: P parameters, M mask entries, E numbers of an encoded action; `[...]` any leading dimensions.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce

import torch
from torch import Tensor

from seedbed.common.specs import ArraySpec
from seedbed.server.networks.action_parts import ActionPart, Categoricals
from seedbed.server.networks.gaussians import Deviation, Gaussian, SquashedGaussian

_MAX_SHOWN = 64


class ActionSpace:
    """The action arrays of an environment, in its order.

    Attributes:
        param_size: P.
        num_outputs: numbers that a head computes from the row.
        num_free: weights of a head that no row moves.
        mask_size: M, `EnvironmentSpec.num_mask_entries`.
        encoded_size: E.
        num_discrete: elements that take one of a few values.
        num_continuous: elements that take any.
        dtypes: of the samples of each array.
    """

    def __init__(self, specs: Sequence[ArraySpec], *, squash: bool = False, deviation: Deviation = "free") -> None:
        """Reads the specs.

        Args:
            specs: of the actions.
            squash: tanh instead of clipping brings boxes into [-1, 1].
            deviation: where the deviations of boxes come from, see `gaussians`.
        """
        self._parts = tuple(_make_part(spec, squash, deviation) for spec in specs)
        self.num_outputs = sum(part.num_outputs for part in self._parts)
        self.num_free = sum(part.num_free for part in self._parts)
        self.param_size = sum(part.param_size for part in self._parts)
        self.mask_size = sum(part.mask_size for part in self._parts)
        self.encoded_size = sum(part.encoded_size for part in self._parts)
        self.num_discrete = sum(part.num_discrete for part in self._parts)
        self.num_continuous = sum(part.num_continuous for part in self._parts)
        self.dtypes = tuple(part.dtype for part in self._parts)

    def distribution(self, parameters: Tensor, mask: Tensor | None = None) -> ActionDistribution:
        """The policy of each row.

        Args:
            parameters: `[..., P]`.
            mask: `[..., M]`, 0 for discrete values that are not allowed.

        Raises:
            ValueError: shapes that do not fit.
        """
        if parameters.shape[-1] != self.param_size:
            raise ValueError(f"expected parameters [..., {self.param_size}], got {list(parameters.shape)}")
        if mask is not None and mask.shape != (*parameters.shape[:-1], self.mask_size):
            raise ValueError(
                f"expected a mask of shape {[*parameters.shape[:-1], self.mask_size]}, got {list(mask.shape)}"
            )
        return ActionDistribution(self._parts, parameters, mask)

    def assemble(self, outputs: Tensor, free: Tensor | None) -> Tensor:
        """The parameters, from what depends on the row, `[..., num_outputs]`, and what does not, `[num_free]`."""
        moving = _split(outputs, [part.num_outputs for part in self._parts])
        if free is None:
            still: Sequence[Tensor | None] = [None] * len(self._parts)
        else:
            still = _split(free, [part.num_free for part in self._parts])
        parts = [part.assemble(own, rest) for part, own, rest in zip(self._parts, moving, still, strict=True)]
        return parts[0] if len(parts) == 1 else torch.cat(parts, dim=-1)

    def sent(self, samples: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """What goes over the wire."""
        return tuple(part.sent(sample) for part, sample in zip(self._parts, samples, strict=True))

    def encode(self, sent: tuple[Tensor, ...]) -> Tensor:
        """What was sent, one `[..., *spec.shape]` for each array, as networks read it: float32 `[..., E]`."""
        encoded = [part.encode(action) for part, action in zip(self._parts, sent, strict=True)]
        return encoded[0] if len(encoded) == 1 else torch.cat(encoded, dim=-1)


@dataclass(frozen=True, slots=True)
class ActionDistribution:
    """The policy of rows; made by `ActionSpace.distribution`."""

    parts: tuple[ActionPart, ...]
    parameters: Tensor
    mask: Tensor | None

    def sample(self, generator: torch.Generator) -> tuple[Tensor, ...]:
        """Draws one `[..., *spec.shape]` for each array; of boxes, a gradient reaches the parameters."""
        return tuple(part.sample(own, mask, generator) for part, own, mask in self._shares())

    def mode(self) -> tuple[Tensor, ...]:
        """The best sample."""
        return tuple(part.mode(own, mask) for part, own, mask in self._shares())

    def log_prob(self, samples: tuple[Tensor, ...]) -> Tensor:
        """Log probability of samples, in nats, `[...]`.

        Raises:
            ValueError: shapes that do not fit.
        """
        shares = zip(self._shares(), samples, strict=True)
        return _sum([part.log_prob(own, mask, sample) for (part, own, mask), sample in shares])

    def entropy(self) -> Tensor:
        """In nats, `[...]`; the differential one of boxes has no lower bound."""
        return _sum([part.entropy(own, mask) for part, own, mask in self._shares()])

    def entropy_bonus(self) -> Tensor:
        """What an entropy cost multiplies, `[...]`: the mean over discrete elements.

        So one cost serves any number of them. Boxes have no part in it: their entropy has other units.
        """
        found = [part.entropy(own, mask) for part, own, mask in self._shares() if part.num_discrete]
        return self._mean(found, sum(part.num_discrete for part in self.parts))

    def continuous_entropy_bonus(self) -> Tensor:
        """What an entropy cost of boxes multiplies, `[...]`: the mean over their elements; it has no lower bound."""
        found = [part.entropy(own, mask) for part, own, mask in self._shares() if part.num_continuous]
        return self._mean(found, sum(part.num_continuous for part in self.parts))

    def kl(self, other: ActionDistribution) -> Tensor:
        """KL(this || other), exact, in nats, `[...]`; both under this one's mask."""
        theirs = [own for _, own, _ in other._shares()]
        shares = zip(self._shares(), theirs, strict=True)
        return _sum([part.kl(own, others, mask) for (part, own, mask), others in shares])

    def watched(self, samples: tuple[Tensor, ...]) -> Mapping[str, Tensor]:
        """Numbers of boxes by name, `[...]`, see `ActionPart.watched`: means over arrays; none without boxes."""
        shares = zip(self._shares(), samples, strict=True)
        of_parts = [part.watched(own, sample) for (part, own, _), sample in shares if part.num_continuous]
        names = of_parts[0] if of_parts else ()
        return {name: _sum([part[name] for part in of_parts]) / len(of_parts) for name in names}

    def shown(self) -> Tensor:
        """Numbers for people, `[..., at most 64]`: probabilities of discrete values, mean and deviation of boxes."""
        found = [part.shown(own, mask) for part, own, mask in self._shares()]
        return torch.cat(found, dim=-1)[..., :_MAX_SHOWN]

    def numbers(self) -> Mapping[str, Tensor]:
        """What each part is made of, by its own name and that of its array: see `ActionPart.numbers`."""
        return {
            f"{title}.{part.name}": numbers
            for part, own, mask in self._shares()
            for title, numbers in part.numbers(own, mask).items()
        }

    def _shares(self) -> Iterator[tuple[ActionPart, Tensor, Tensor | None]]:
        """Each part with its parameters and mask."""
        parameters = _split(self.parameters, [part.param_size for part in self.parts])
        if self.mask is None:
            masks: Sequence[Tensor | None] = [None] * len(self.parts)
        else:
            split = _split(self.mask, [part.mask_size for part in self.parts])
            masks = [mask if part.mask_size else None for part, mask in zip(self.parts, split, strict=True)]
        return zip(self.parts, parameters, masks, strict=True)

    def _mean(self, found: list[Tensor], count: int) -> Tensor:
        """The sum of entropies over so many elements; 0 where there are none."""
        if not found:
            return self.parameters.new_zeros(self.parameters.shape[:-1])
        return found[0] if count == 1 else _sum(found) / count


def _split(x: Tensor, sizes: list[int]) -> Sequence[Tensor]:
    return (x,) if len(sizes) == 1 else x.split(sizes, dim=-1)


def _sum(terms: list[Tensor]) -> Tensor:
    return reduce(torch.add, terms)


def _make_part(spec: ArraySpec, squash: bool, deviation: Deviation) -> ActionPart:
    if spec.kind != "box":
        return Categoricals(spec)
    return (SquashedGaussian if squash else Gaussian)(spec, deviation)
