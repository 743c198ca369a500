"""Networks of soft actor-critics: a policy with a body, critics on the features of the same body, a temperature.

The body (torso and core) belongs to the critics, which alone train it; the policy reads its features without gradient
(as SAC-AE does with pixels, arXiv 1910.01741). A body without weights, as of `--torso flat --core none`, leaves the
published networks: policy and critics that share nothing.

What acts is the policy with the body. The critics are asked in the learner alone.

Shapes: F features, P parameters of the action distribution, K numbers of all boxes, E of an encoded action, N critics,
J joint actions.
"""

from __future__ import annotations

import itertools
from abc import abstractmethod
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from seedbed.common.specs import ArraySpec
from seedbed.server.networks.body import Body
from seedbed.server.networks.distributions import ActionSpace
from seedbed.server.networks.ensemble import Ensemble
from seedbed.server.networks.gaussians import log_slope
from seedbed.server.networks.headed import HeadedNetwork
from seedbed.server.networks.moments import ObservationMoments
from seedbed.server.options.network import NetworkConfig

LEAST_LOG_DEVIATION, MOST_LOG_DEVIATION = -20.0, 2.0

_LOG_2PI = 1.8378770664093453
_IMPOSSIBLE = -1e8
"""Log probability below which a joint action is one that the mask forbids."""


class SoftValue(NamedTuple):
    """What a policy is worth in a row.

    Attributes:
        value: E_a [Q(s, a)] + alpha H, Q the least of the critics, `[...]`.
        entropy: H in nats, of the action in [-1, 1]^K for boxes; of these both are estimates at one sample. `[...]`
    """

    value: Tensor
    entropy: Tensor


class Policy(HeadedNetwork):
    """The part that acts: body, hidden layers, parameters of the action distribution.

    Args:
        shown, space, config: see `Body`.
        hidden: widths of the hidden layers.
        num_outputs: numbers of the last layer.
    """

    def __init__(
        self,
        shown: tuple[ArraySpec, ...],
        space: ActionSpace,
        config: NetworkConfig,
        *,
        hidden: Sequence[int],
        num_outputs: int,
    ) -> None:
        super().__init__(shown, space, config)
        self._space = space
        sizes = (self.body.output_size, *hidden)
        self.hidden = nn.ModuleList(nn.Linear(*pair) for pair in itertools.pairwise(sizes))
        self.last = nn.Linear(sizes[-1], num_outputs)

    def own_parameters(self) -> tuple[nn.Parameter, ...]:
        """Those that are not the body's."""
        return (*self.hidden.parameters(), *self.last.parameters())

    def heads(self, features: Tensor) -> Tensor:
        """See the base class: `[..., P]`."""
        return self.outputs(features)

    def outputs(self, features: Tensor) -> Tensor:
        """The last layer's numbers, `[..., num_outputs]`, for critics to value. Features get no gradient."""
        hidden = features.detach()
        for layer in self.hidden:
            hidden = torch.relu(layer(hidden))
        return self.last(hidden)


class SquashedPolicy(Policy):
    """Of boxes: a mean and the logarithm of a deviation for each number, both moved by the row."""

    def __init__(
        self, shown: tuple[ArraySpec, ...], space: ActionSpace, config: NetworkConfig, *, hidden: Sequence[int]
    ) -> None:
        """See the base class."""
        super().__init__(shown, space, config, hidden=hidden, num_outputs=2 * space.num_outputs)

    def heads(self, features: Tensor) -> Tensor:
        """See the base class; parts of the distribution have their means and deviations side by side."""
        return self._space.assemble(*self.outputs(features).chunk(2, -1))

    def outputs(self, features: Tensor) -> Tensor:
        """K means, then K logarithms of deviations between -20 and 2, as in the paper's code."""
        mean, log_deviation = super().outputs(features).chunk(2, -1)
        return torch.cat((mean, log_deviation.clamp(LEAST_LOG_DEVIATION, MOST_LOG_DEVIATION)), dim=-1)


class SquashedMean(Policy):
    """Of boxes: numbers whose tanh is the action; as a distribution, of deviation 1, of which the mode is meant."""

    def __init__(
        self, shown: tuple[ArraySpec, ...], space: ActionSpace, config: NetworkConfig, *, hidden: Sequence[int]
    ) -> None:
        """See the base class."""
        super().__init__(shown, space, config, hidden=hidden, num_outputs=space.num_outputs)

    def heads(self, features: Tensor) -> Tensor:
        """See the base class."""
        outputs = self.outputs(features)
        return self._space.assemble(outputs, torch.zeros_like(outputs))


class Critics(nn.Module):
    """N critics that read features of the body."""

    @abstractmethod
    def taken(self, features: Tensor, actions: tuple[Tensor, ...]) -> Tensor:
        """Q_i of actions as they were sent, `[N, ...]`."""

    @abstractmethod
    def soft_value(self, features: Tensor, outputs: Tensor, mask: Tensor | None, alpha: Tensor) -> SoftValue:
        """The value of a policy; its gradient is meant for the policy's parameters.

        Args:
            features: `[..., F]`.
            outputs: of the policy, see `Policy.outputs`.
            mask: of the actions, `[..., M]`.
            alpha: scalar.
        """


class BoxCritics(Critics):
    """Q(s, a) of boxes: features and encoded action in, a number out. Expectations are taken at one sample."""

    def __init__(
        self, num_features: int, space: ActionSpace, *, count: int, hidden: Sequence[int], layer_norm: bool
    ) -> None:
        super().__init__()
        self._space = space
        self.q = Ensemble(count, (num_features + space.encoded_size, *hidden, 1), layer_norm=layer_norm)

    def values(self, features: Tensor, encoded: Tensor) -> Tensor:
        """`[..., F]` and `[..., E]` to `[N, ...]`."""
        result: Tensor = self.q(torch.cat((features, encoded), dim=-1)).squeeze(-1)
        return result

    def taken(self, features: Tensor, actions: tuple[Tensor, ...]) -> Tensor:
        """See the base class."""
        return self.values(features, self._space.encode(actions))

    def soft_value(self, features: Tensor, outputs: Tensor, mask: Tensor | None, alpha: Tensor) -> SoftValue:
        """See the base class."""
        mean, log_deviation = outputs.chunk(2, -1)
        action, log_prob = squashed_sample(mean, log_deviation, torch.randn_like(mean))
        q_value = self.values(features, action).amin(0)
        return SoftValue(q_value - alpha * log_prob, -log_prob)


class TableCritics(Critics):
    """Q(s, .) of discrete actions: a number for each joint action, so expectations are exact.

    Several components are taken together: their policy is a product, their critics are not.
    """

    joint: Tensor
    strides: Tensor

    def __init__(
        self,
        num_features: int,
        space: ActionSpace,
        actions: Sequence[ArraySpec],
        *,
        count: int,
        hidden: Sequence[int],
        layer_norm: bool,
    ) -> None:
        super().__init__()
        self._space = space
        self._shapes = [action.shape for action in actions]
        sizes = [size for action in actions for size in action.num_values]
        joint = torch.cartesian_prod(*map(torch.arange, sizes)).reshape(-1, len(sizes))
        strides = [int(torch.tensor(sizes[k + 1 :]).prod()) for k in range(len(sizes))]
        self.register_buffer("joint", joint, persistent=False)
        self.register_buffer("strides", torch.tensor(strides), persistent=False)
        self.q = Ensemble(count, (num_features, *hidden, len(joint)), layer_norm=layer_norm)

    def taken(self, features: Tensor, actions: tuple[Tensor, ...]) -> Tensor:
        """See the base class."""
        leading = features.shape[:-1]
        flat = torch.cat([action.reshape(*leading, -1).long() for action in actions], dim=-1)
        index = (flat * self.strides).sum(-1)
        q_values: Tensor = self.q(features)
        return q_values.gather(-1, index.expand(len(q_values), *leading).unsqueeze(-1)).squeeze(-1)

    def soft_value(self, features: Tensor, outputs: Tensor, mask: Tensor | None, alpha: Tensor) -> SoftValue:
        """See the base class; an action that the mask forbids has no share in it, whatever the critics say."""
        log_policy = self.log_policy(outputs, mask)
        policy = log_policy.exp()
        q_values = self.q(features).amin(0).detach().masked_fill(log_policy < _IMPOSSIBLE, 0.0)
        entropy = -(policy * log_policy).sum(-1)
        return SoftValue((policy * q_values).sum(-1) + alpha * entropy, entropy)

    def log_policy(self, parameters: Tensor, mask: Tensor | None) -> Tensor:
        """Log probability of each joint action, `[..., P]` to `[..., J]`."""
        leading, count = parameters.shape[:-1], len(self.joint)

        def each(x: Tensor) -> Tensor:
            return x.unsqueeze(-2).expand(*leading, count, -1)

        counts = [max(1, torch.Size(shape).numel()) for shape in self._shapes]
        parts = self.joint.split(counts, dim=-1)
        samples = tuple(
            part.reshape(count, *shape).expand(*leading, count, *shape)
            for part, shape in zip(parts, self._shapes, strict=True)
        )
        distribution = self._space.distribution(each(parameters), None if mask is None else each(mask))
        return distribution.log_prob(samples)


class SoftNetwork(nn.Module):
    """All that a soft actor-critic learns.

    Attributes:
        policy: the part that acts.
        critics: on the features of its body.
        log_alpha: of the temperature, a scalar.
        observations: moments of what is shown; None: nothing is normalised.
    """

    def __init__(
        self, policy: Policy, critics: Critics, alpha: float, observations: ObservationMoments | None = None
    ) -> None:
        super().__init__()
        self.observations = observations
        self.policy = policy
        self.critics = critics
        self.log_alpha = nn.Parameter(torch.tensor(alpha).log())


class ActorAndCritics(nn.Module):
    """A deterministic policy and its critics; also as a target network.

    Attributes:
        policy: the part that acts.
        critics: on the features of its body.
        observations: moments of what is shown; None: nothing is normalised.
    """

    def __init__(
        self, policy: SquashedMean, critics: BoxCritics, observations: ObservationMoments | None = None
    ) -> None:
        super().__init__()
        self.observations = observations
        self.policy = policy
        self.critics = critics


class Valuing(nn.Module):
    """Body and critics, what a target network is a copy of; it shares the modules it is given."""

    def __init__(self, body: Body, critics: Critics) -> None:
        super().__init__()
        self.body = body
        self.critics = critics


def squashed_sample(mean: Tensor, log_deviation: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
    """A reparameterised sample of a tanh-squashed Gaussian and its log density.

    The density is computed from the noise, not back from the sample, so it is exact however small the deviation.

    Args:
        mean, log_deviation: `[..., K]`.
        noise: standard normal, `[..., K]`.

    Returns:
        The action in [-1, 1], `[..., K]`, and log pi(action) in nats, `[...]`.
    """
    sample = torch.addcmul(mean, log_deviation.exp(), noise)
    log_prob = -(0.5 * (noise.square() + _LOG_2PI) + log_deviation + log_slope(sample)).sum(-1)
    return sample.tanh(), log_prob
