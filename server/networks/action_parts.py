"""Distributions over one action array: what `distributions.ActionSpace` is made of.

    Categoricals        here          discrete arrays: a softmax for each element, independent of one another
    Gaussian            `gaussians`   boxes: a normal distribution for each element; what is sent is clipped to [-1, 1]
    SquashedGaussian    `gaussians`   boxes: the same, and what is sent is its tanh

A part reads its share of a head's numbers, `parameters` `[..., p]`, and of the action mask, `[..., m]` or None.
Samples are what probabilities are asked of: a Gaussian's before clipping, a squashed one's before tanh, for neither
can be undone. Results that are numbers of a row, `[...]`, are sums over the array's K elements.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from seedbed.common.specs import ArraySpec

_FORBIDDEN = -1e9
"""Logit of a value that is not allowed. exp of it is exactly 0 in float32 and float64, and unlike -inf its product with
that 0 is 0, so entropy, KL and their gradients need no care."""


class ActionPart(ABC):
    """What all parts have.

    Attributes:
        name: of the array.
        dtype: of samples.
        param_size: p.
        num_outputs: numbers that a head computes from the row.
        num_free: weights of the head that no row moves, 0 at first.
        mask_size: m.
        encoded_size: length of an encoded action.
        num_discrete: elements that take one of a few values, of which a mask may forbid some.
        num_continuous: elements that take any value.
    """

    dtype: ClassVar[torch.dtype]

    def __init__(
        self, spec: ArraySpec, *, param_size: int, num_outputs: int, num_free: int, mask_size: int, encoded_size: int
    ) -> None:
        self.name = spec.name
        self.param_size = param_size
        self.num_outputs = num_outputs
        self.num_free = num_free
        self.mask_size = mask_size
        self.encoded_size = encoded_size
        self.num_discrete = len(spec.num_values)
        self.num_continuous = 0 if spec.num_values else spec.num_elements
        self._shape = spec.shape

    @abstractmethod
    def assemble(self, outputs: Tensor, free: Tensor | None) -> Tensor:
        """The parameters `[..., p]`, from a head's outputs `[..., num_outputs]` and its free weights `[num_free]`."""

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

    @abstractmethod
    def numbers(self, parameters: Tensor, mask: Tensor | None) -> Mapping[str, Tensor]:
        """What a stranger can draw samples from, by name.

        Of a box "mean", or "mean_before_tanh" where samples are squashed, and "log_deviation", `[..., *shape]`. Of a
        discrete array "logits" `[..., *shape, widest]`: -1e9 where the mask forbids a value or there is none.
        """

    def watched(self, parameters: Tensor, sample: Tensor) -> Mapping[str, Tensor]:
        """Numbers of a row, `[...]`, that show whether a policy leaves the range it should act in; none if discrete."""
        return {}

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
        super().__init__(spec, param_size=total, num_outputs=total, num_free=0, mask_size=total, encoded_size=total)
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

    def assemble(self, outputs: Tensor, free: Tensor | None) -> Tensor:
        """The outputs: logits."""
        return outputs

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

    def numbers(self, parameters: Tensor, mask: Tensor | None) -> Mapping[str, Tensor]:
        """See the base class."""
        logits = self._logits(parameters, mask)
        return {"logits": logits.unflatten(-2, self._shape) if self._shape else logits.squeeze(-2)}

    def _logits(self, parameters: Tensor, mask: Tensor | None) -> Tensor:
        """`[..., K, widest]`, with `_FORBIDDEN` where there is no such value or the mask forbids it."""
        logits = self._spread(parameters)
        if mask is None and self._equal:
            return logits
        exists = self._constants_on(parameters.device)["exists"]
        allowed = exists
        if mask is not None:
            asked = (self._spread(mask) != 0) & exists
            allowed = asked | (exists & ~asked.any(-1, keepdim=True))
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
