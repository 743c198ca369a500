"""Distributions over one action array: what `distributions.ActionSpace` is made of.

    Categoricals        discrete arrays: a softmax for each element, independent of one another
    Gaussian            boxes: a normal distribution for each element; what is sent is clipped to [-1, 1]
    SquashedGaussian    boxes: the same, and what is sent is its tanh

A part reads its share of a head's raw numbers, `parameters` `[..., p]`, and of the action mask, `[..., m]` or None.
Samples are what probabilities are asked of: a Gaussian's before clipping, a squashed one's before tanh, for neither
can be undone. Results that are numbers of a row, `[...]`, are sums over the array's K elements.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from seedbed.common.specs import ArraySpec

_FORBIDDEN = -1e9
"""Logit of a value that is not allowed. exp of it is exactly 0 in float32 and float64, and unlike -inf its product with
that 0 is 0, so entropy, KL and their gradients need no care."""

_LOG_2PI = math.log(2 * math.pi)


class ActionPart(ABC):
    """What all parts have.

    Attributes:
        dtype: of samples.
        num_outputs: parameters that depend on the row.
        num_free: parameters behind them that do not: weights of the head that are 0 at first.
        mask_size: m.
        encoded_size: length of an encoded action.
        num_discrete: elements of which a mask may forbid values.
    """

    dtype: ClassVar[torch.dtype]

    def __init__(self, spec: ArraySpec, *, num_outputs: int, num_free: int, mask_size: int, encoded_size: int) -> None:
        self.num_outputs = num_outputs
        self.num_free = num_free
        self.mask_size = mask_size
        self.encoded_size = encoded_size
        self.num_discrete = len(spec.num_values)
        self._shape = spec.shape

    @abstractmethod
    def sample(self, parameters: Tensor, mask: Tensor | None, generator: torch.Generator) -> Tensor:
        """Draws `[..., *shape]`."""

    @abstractmethod
    def mode(self, parameters: Tensor, mask: Tensor | None) -> Tensor:
        """The sample of highest density, `[..., *shape]`."""

    @abstractmethod
    def log_prob(self, parameters: Tensor, mask: Tensor | None, sample: Tensor) -> Tensor:
        """Log probability, or density of what is sent, in nats."""

    @abstractmethod
    def entropy(self, parameters: Tensor, mask: Tensor | None) -> Tensor:
        """In nats; differential for boxes."""

    @abstractmethod
    def kl(self, parameters: Tensor, others: Tensor, mask: Tensor | None) -> Tensor:
        """KL(this || the one of the parameters `others`), exact, in nats."""

    @abstractmethod
    def sent(self, sample: Tensor) -> Tensor:
        """What goes over the wire for a sample."""

    @abstractmethod
    def encode(self, sent: Tensor) -> Tensor:
        """What was sent, `[..., *shape]`, as a network reads it: float32 `[..., encoded_size]`."""

    @abstractmethod
    def shown(self, parameters: Tensor, mask: Tensor | None) -> Tensor:
        """Numbers for people: the probabilities of a discrete array; mean and deviation of a box."""

    def _flat(self, action: Tensor) -> Tensor:
        """`[..., *shape]` to `[..., K]`."""
        leading = action.shape[: action.dim() - len(self._shape)]
        return action.reshape(*leading, -1) if self._shape else action.unsqueeze(-1)

    def _shaped(self, action: Tensor) -> Tensor:
        """The inverse of `_flat`."""
        return action.unflatten(-1, self._shape) if self._shape else action.squeeze(-1)

    def _check(self, parameters: Tensor, sample: Tensor) -> None:
        expected = parameters.shape[:-1] + self._shape
        if sample.shape != expected:
            raise ValueError(
                f"expected actions of shape {list(expected)} beside parameters {list(parameters.shape)}, "
                f"got {list(sample.shape)}"
            )


class Categoricals(ActionPart):
    """Each of K elements takes one of a few integers from 0 on.

    A value that the mask forbids has probability 0; an element of which all are forbidden may take any.
    """

    dtype = torch.int64

    def __init__(self, spec: ArraySpec) -> None:
        sizes = spec.num_values
        total, widest = sum(sizes), max(sizes)
        super().__init__(spec, num_outputs=total, num_free=0, mask_size=total, encoded_size=total)
        self._sizes, self._widest = sizes, widest
        self._equal = min(sizes) == widest
        ends = [sum(sizes[:k]) for k in range(len(sizes) + 1)]
        rows = range(len(sizes))
        # Elements may have different numbers of values: `[K, widest]` then has entries that stand for none.
        self._constants = {
            "place": torch.tensor([[min(ends[k] + a, ends[k + 1] - 1) for a in range(widest)] for k in rows]).flatten(),
            "exists": torch.tensor([[a < sizes[k] for a in range(widest)] for k in rows]),
            "element": torch.tensor([k for k in rows for _ in range(sizes[k])]),
            "value": torch.tensor([a for k in rows for a in range(sizes[k])]),
        }
        self._on: dict[torch.device, dict[str, Tensor]] = {}

    def sample(self, parameters: Tensor, mask: Tensor | None, generator: torch.Generator) -> Tensor:
        """By exponential races: the first of Exp(p_i) arrivals is i with probability p_i."""
        logits = self._logits(parameters, mask)
        arrivals = torch.empty_like(logits).exponential_(generator=generator)
        race = logits.softmax(-1) / arrivals
        if mask is not None or not self._equal:
            race = race.masked_fill(logits == _FORBIDDEN, -1.0)  # an arrival may be 0, and 0 / 0 would win
        return self._shaped(race.argmax(-1))

    def mode(self, parameters: Tensor, mask: Tensor | None) -> Tensor:
        """See the base class."""
        return self._shaped(self._logits(parameters, mask).argmax(-1))

    def log_prob(self, parameters: Tensor, mask: Tensor | None, sample: Tensor) -> Tensor:
        """See the base class."""
        self._check(parameters, sample)
        log_policy = F.log_softmax(self._logits(parameters, mask), dim=-1)
        return self._total(log_policy.gather(-1, self._flat(sample).long().unsqueeze(-1)).squeeze(-1))

    def entropy(self, parameters: Tensor, mask: Tensor | None) -> Tensor:
        """See the base class."""
        log_policy = F.log_softmax(self._logits(parameters, mask), dim=-1)
        return self._total(-(log_policy.exp() * log_policy).sum(-1))

    def kl(self, parameters: Tensor, others: Tensor, mask: Tensor | None) -> Tensor:
        """See the base class."""
        ours = F.log_softmax(self._logits(parameters, mask), dim=-1)
        theirs = F.log_softmax(self._logits(others, mask), dim=-1)
        return self._total((ours.exp() * (ours - theirs)).sum(-1))

    def sent(self, sample: Tensor) -> Tensor:
        """The sample."""
        return sample

    def encode(self, sent: Tensor) -> Tensor:
        """One-hot; all zero for what is none of the values."""
        flat, constants = self._flat(sent), self._constants_on(sent.device)
        if len(self._sizes) > 1:
            flat = flat.index_select(-1, constants["element"])
        return (flat == constants["value"]).float()

    def shown(self, parameters: Tensor, mask: Tensor | None) -> Tensor:
        """See the base class."""
        probabilities = self._logits(parameters, mask).softmax(-1)
        return probabilities[..., self._constants_on(parameters.device)["exists"]]

    def _logits(self, parameters: Tensor, mask: Tensor | None) -> Tensor:
        """`[..., K, widest]`, with `_FORBIDDEN` where there is no such value or the mask forbids it."""
        logits = self._spread(parameters)
        if mask is None and self._equal:
            return logits
        exists = self._constants_on(parameters.device)["exists"]
        allowed = exists
        if mask is not None:
            asked = (self._spread(mask) != 0) & exists
            allowed = torch.where(asked.any(-1, keepdim=True), asked, exists)
        return logits.masked_fill(~allowed, _FORBIDDEN)

    def _spread(self, x: Tensor) -> Tensor:
        """`[..., p]` to `[..., K, widest]`."""
        if not self._equal:
            x = x.index_select(-1, self._constants_on(x.device)["place"])
        return x.unsqueeze(-2) if len(self._sizes) == 1 else x.unflatten(-1, (len(self._sizes), self._widest))

    def _total(self, x: Tensor) -> Tensor:
        return x.squeeze(-1) if len(self._sizes) == 1 else x.sum(-1)

    def _constants_on(self, device: torch.device) -> dict[str, Tensor]:
        if device not in self._on:
            self._on[device] = {name: constant.to(device) for name, constant in self._constants.items()}
        return self._on[device]


class Gaussian(ActionPart):
    """Independent normal distributions; parameters are K means and K logarithms of deviations, which no row moves."""

    dtype = torch.float32

    def __init__(self, spec: ArraySpec) -> None:
        count = spec.num_elements
        super().__init__(spec, num_outputs=count, num_free=count, mask_size=0, encoded_size=count)

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
        """Clipped to [-1, 1]."""
        return sample.clamp(-1.0, 1.0)

    def encode(self, sent: Tensor) -> Tensor:
        """As it was sent."""
        return self._flat(sent).float()

    def shown(self, parameters: Tensor, mask: Tensor | None) -> Tensor:
        """See the base class."""
        mean, log_deviation = parameters.chunk(2, -1)
        return torch.cat((mean, log_deviation.exp()), dim=-1)


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
        """Its tanh."""
        return sample.tanh()


def log_slope(u: Tensor) -> Tensor:
    """log(1 - tanh(u)^2) in a form that is exact and has a gradient for every u."""
    return 2.0 * (math.log(2.0) - u - F.softplus(-2.0 * u))


def make_part(spec: ArraySpec, *, squash: bool) -> ActionPart:
    """The part for an action array; `squash` says which of the two boxes get."""
    if spec.kind != "box":
        return Categoricals(spec)
    return SquashedGaussian(spec) if squash else Gaussian(spec)
