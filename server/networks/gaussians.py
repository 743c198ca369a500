"""Normal distributions over a box: the parts of an action space that are continuous.

    Gaussian            what is sent is clipped to [-1, 1]; the clipping is the environment's affair
    SquashedGaussian    what is sent is the sample's tanh

Whose standard deviations they are, `Deviation`:

    free                weights of the head that no row moves, 1 at first: what most PPOs have
    each                softplus of an output for each element, and 0.001 (SEED RL); 0.69 at first
    shared              one variance for all, the softplus of an output (Mnih et al. 2016, supplement, section 9); 0.83

Shapes: K elements; `[...]` any leading dimensions.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from seedbed.common.specs import ArraySpec
from seedbed.server.networks.action_parts import ActionPart

Deviation = Literal["free", "each", "shared"]

_LOG_2PI = math.log(2 * math.pi)
_LEAST_DEVIATION = 1e-3


class Gaussian(ActionPart):
    """Independent normal distributions; parameters are K means and K logarithms of deviations."""

    dtype = torch.float32

    def __init__(self, spec: ArraySpec, deviation: Deviation = "free") -> None:
        count = spec.num_elements
        moved = {"free": 0, "each": count, "shared": 1}[deviation]
        super().__init__(
            spec,
            param_size=2 * count,
            num_outputs=count + moved,
            num_free=0 if moved else count,
            mask_size=0,
            encoded_size=count,
        )
        self._deviation = deviation

    def assemble(self, outputs: Tensor, free: Tensor | None) -> Tensor:
        """Means, and logarithms of deviations."""
        count = self.encoded_size
        means, moved = outputs.split([count, self.num_outputs - count], dim=-1)
        if self._deviation == "shared":
            log_deviation = 0.5 * (F.softplus(moved) + _LEAST_DEVIATION**2).log()
        elif self._deviation == "each":
            log_deviation = (F.softplus(moved) + _LEAST_DEVIATION).log()
        else:
            assert free is not None
            log_deviation = free
        return torch.cat((means, log_deviation.expand_as(means)), dim=-1)

    def sample(self, parameters: Tensor, mask: Tensor | None, generator: torch.Generator) -> Tensor:
        """See the base class."""
        mean, log_deviation = parameters.chunk(2, -1)
        noise = torch.empty_like(mean).normal_(generator=generator)
        return self._shaped(mean + log_deviation.exp() * noise)

    def mode(self, parameters: Tensor, mask: Tensor | None) -> Tensor:
        """The mean."""
        return self._shaped(parameters.chunk(2, -1)[0])

    def log_prob(self, parameters: Tensor, mask: Tensor | None, sample: Tensor) -> Tensor:
        """Of the sample itself: what is clipped afterwards is the environment's affair."""
        self._check(parameters, sample)
        mean, log_deviation = parameters.chunk(2, -1)
        scaled = (self._flat(sample) - mean) * (-log_deviation).exp()
        return (-0.5 * (scaled.square() + _LOG_2PI) - log_deviation).sum(-1)

    def entropy(self, parameters: Tensor, mask: Tensor | None) -> Tensor:
        """See the base class."""
        return (parameters.chunk(2, -1)[1] + 0.5 * (1 + _LOG_2PI)).sum(-1)

    def kl(self, parameters: Tensor, others: Tensor, mask: Tensor | None) -> Tensor:
        """See the base class."""
        (mean, log_deviation), (their_mean, their_log_deviation) = parameters.chunk(2, -1), others.chunk(2, -1)
        difference = log_deviation - their_log_deviation
        distance = (mean - their_mean) * (-their_log_deviation).exp()
        return (0.5 * ((2 * difference).exp() + distance.square() - 1) - difference).sum(-1)

    def sent(self, sample: Tensor) -> Tensor:
        """Clipped to [-1, 1]; NaN for what is not finite, which must be seen and not become an edge."""
        return sample.clamp(-1.0, 1.0) + (sample - sample)

    def encode(self, sent: Tensor) -> Tensor:
        """As it was sent."""
        return self._flat(sent).float()

    def shown(self, parameters: Tensor, mask: Tensor | None) -> Tensor:
        """See the base class."""
        mean, log_deviation = parameters.chunk(2, -1)
        return torch.cat((mean, log_deviation.exp()), dim=-1)

    def numbers(self, parameters: Tensor, mask: Tensor | None) -> Mapping[str, Tensor]:
        """See the base class."""
        mean, log_deviation = parameters.chunk(2, -1)
        return {"mean": self._shaped(mean), "log_deviation": self._shaped(log_deviation)}

    def watched(self, parameters: Tensor, sample: Tensor) -> Mapping[str, Tensor]:
        """Size of the means: nothing draws one back that has drifted far outside; deviation; share that is clipped."""
        mean, log_deviation = parameters.chunk(2, -1)
        return {
            "action_mean_size": mean.abs().mean(-1),
            "action_deviation": log_deviation.exp().mean(-1),
            "action_clipped_share": (self._flat(sample).abs() > 1.0).float().mean(-1),
        }


class SquashedGaussian(Gaussian):
    """The tanh of a Gaussian. Its entropy has no closed form: it is estimated with one draw of the global generator."""

    def log_prob(self, parameters: Tensor, mask: Tensor | None, sample: Tensor) -> Tensor:
        """Of tanh(sample)."""
        return super().log_prob(parameters, mask, sample) - log_slope(self._flat(sample)).sum(-1)

    def entropy(self, parameters: Tensor, mask: Tensor | None) -> Tensor:
        """The Gaussian's, which is exact, and the mean of the logarithm of the slope at one reparameterised sample."""
        mean, log_deviation = parameters.chunk(2, -1)
        sample = mean + log_deviation.exp() * torch.randn_like(mean)
        return super().entropy(parameters, mask) + log_slope(sample).sum(-1)

    def sent(self, sample: Tensor) -> Tensor:
        """Its tanh; NaN for what is not finite."""
        return sample.tanh() + (sample - sample)

    def numbers(self, parameters: Tensor, mask: Tensor | None) -> Mapping[str, Tensor]:
        """See the base class."""
        numbers = super().numbers(parameters, mask)
        return {"mean_before_tanh": numbers["mean"], "log_deviation": numbers["log_deviation"]}

    def watched(self, parameters: Tensor, sample: Tensor) -> Mapping[str, Tensor]:
        """As a Gaussian's; nothing is clipped."""
        watched = super().watched(parameters, sample)
        return {name: watched[name] for name in ("action_mean_size", "action_deviation")}


def log_slope(u: Tensor) -> Tensor:
    """log(1 - tanh(u)^2) in a form that is exact and has a gradient for every u."""
    return 2.0 * (math.log(2.0) - u - F.softplus(-2.0 * u))
