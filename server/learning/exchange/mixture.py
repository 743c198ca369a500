"""Mixing of two learners' parameters, half and half, as functions.

A value head that is scaled by the moments of its targets says spread * (w f + b) + mean. Two of them with other moments
are mixed as what they say, (spread w, spread b + mean), and each keeps its own moments. Observations are normalised by
moments that the first layers have grown with, so these are mixed, too: means and variances, as of one set of rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from seedbed.server.algorithms.update_steps import ScaledHead
from seedbed.server.networks.moments import ObservationMoments


class _Place(NamedTuple):
    """Of a parameter in the flat message, and the head that it belongs to."""

    parameter: nn.Parameter
    head: ScaledHead | None
    is_bias: bool


class Mixture:
    """What a learner sends of itself and takes in of another.

    Attributes:
        size: of a message, in float32 numbers.
    """

    def __init__(
        self, parameters: Sequence[nn.Parameter], heads: Sequence[ScaledHead], moments: ObservationMoments | None
    ) -> None:
        """Lays messages out.

        Args:
            parameters: all that are learnt.
            heads: those whose output is scaled and shifted.
            moments: of observations, if they are normalised.
        """
        whose = {id(head.weight): (head, False) for head in heads} | {id(head.bias): (head, True) for head in heads}
        self._places = [_Place(parameter, *whose.get(id(parameter), (None, False))) for parameter in parameters]
        self._moments = moments
        self._numel = sum(parameter.numel() for parameter in parameters)
        self.size = self._numel + (0 if moments is None else 1 + 2 * len(moments.mean))

    @torch.no_grad()
    def message(self) -> Tensor:
        """A copy of this learner as it is now, on the host."""
        parts = [_said(place).reshape(-1) for place in self._places]
        if self._moments is not None:
            moments = self._moments
            variance = moments.squares / moments.count.clamp(min=1.0)
            parts += [moments.count.float().reshape(1), moments.mean.float(), variance.float()]
        return torch.cat(parts).cpu()

    def parameters(self, message: Tensor) -> Tensor:
        """Those in a message, without moments; a view."""
        return message[: self._numel]

    @torch.no_grad()
    def mix(self, message: Tensor, learnt: nn.Module) -> Tensor:
        """Becomes the mean of what it is and what another one was. Returns how far that was, a norm on the device."""
        device = self._places[0].parameter.device
        message = message.to(device)
        flat, statistics = self.parameters(message), message[self._numel :]
        squares = torch.zeros((), device=device)
        for place, part in zip(self._places, flat.split([x.parameter.numel() for x in self._places]), strict=True):
            ours = _said(place)
            move = (part.view_as(ours) - ours) / 2
            squares = squares + move.square().sum()
            place.parameter.copy_(_unsaid(place, ours + move))
        if self._moments is not None:
            self._mix_moments(self._moments, statistics)
            self._moments.write(learnt)
        return squares.sqrt()

    def _mix_moments(self, moments: ObservationMoments, statistics: Tensor) -> None:
        count, rest = statistics[0], statistics[1:].double()
        mean, variance = rest[: len(moments.mean)], rest[len(moments.mean) :]
        ours = moments.squares / moments.count.clamp(min=1.0)
        both = (count > 0) & (moments.count > 0)
        mixed = (ours + variance) / 2 + ((moments.mean - mean) / 2).square()
        moments.squares.copy_(torch.where(both, mixed * moments.count, moments.squares))
        moments.mean.copy_(torch.where(both, (moments.mean + mean) / 2, moments.mean))


def _said(place: _Place) -> Tensor:
    """A parameter as a part of the function."""
    head, parameter = place.head, place.parameter.detach()
    if head is None:
        return parameter
    return head.spread * parameter + head.mean if place.is_bias else head.spread[:, None] * parameter


def _unsaid(place: _Place, said: Tensor) -> Tensor:
    """The inverse."""
    head = place.head
    if head is None:
        return said
    return (said - head.mean) / head.spread if place.is_bias else said / head.spread[:, None]
