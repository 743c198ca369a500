"""Average reward under a bound on the variance of rewards (Zhong et al. 2020, arXiv 2012.14098).

With rho and eta the means of r and r^2 over what the policy does, maximise rho subject to eta - rho^2 <= alpha. By a
multiplier lambda for the constraint, and because rho^2 is the greatest 2 y rho - y^2 over y (Fenchel's dual),

    L(lambda, y, policy) = (1 + 2 lambda y) rho - lambda eta + lambda (alpha - y^2)

which for given lambda and y is the average of another reward, r~ = (1 + 2 lambda y) r - lambda r^2. The policy follows
r~; after each update y moves towards rho, and lambda by how far the variance is above alpha.

It is the variance of single rewards, not of returns, and it is a state of the learner: what acts does not need it.

Shapes: T transitions, B unrolls.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from seedbed.server.options.risk import RiskConfig


class RiskBound(nn.Module):
    """The state of the bound, all of it float64 and without a dimension.

    Args:
        config: alpha and the rates.

    Attributes:
        mean, second: running rho and eta.
        dual: y.
        multiplier: lambda.
        updates: how many there were; the t-th weighs at least 1 / t, so that the first sets the scale.
    """

    mean: Tensor
    second: Tensor
    dual: Tensor
    multiplier: Tensor
    updates: Tensor

    def __init__(self, config: RiskConfig) -> None:
        super().__init__()
        assert config.risk_variance is not None
        self._alpha = config.risk_variance
        self._config = config
        for name in ("mean", "second", "dual", "multiplier", "updates"):
            self.register_buffer(name, torch.zeros((), dtype=torch.float64))

    def adjusted(self, rewards: Tensor) -> Tensor:
        """r~ less its running average, `[T, B]` of the dtype of `rewards`: what a differential value adds up."""
        slope = 1.0 + 2.0 * self.multiplier * self.dual
        average = slope * self.mean - self.multiplier * self.second
        raw = rewards.double()
        return (slope * raw - self.multiplier * raw.square() - average).to(rewards.dtype)

    @torch.no_grad()
    def sums(self, rewards: Tensor, valid: Tensor) -> Tensor:
        """Count, sum and sum of squares of the raw rewards of valid transitions, float64 `[3]`."""
        kept = valid & rewards.isfinite()
        raw = torch.where(kept, rewards, 0.0).double()
        return torch.stack((kept.sum().double(), raw.sum(), raw.square().sum()))

    def no_sums(self) -> Tensor:
        """What no rewards add."""
        return self.mean.new_zeros(3)

    @torch.no_grad()
    def merge(self, sums: Tensor) -> None:
        """One update of moments, y and lambda, in place, without asking the device for a number."""
        count, total, squares = sums
        happens = count > 0
        at_least = 1.0 / (self.updates + 1.0)
        moment_rate = at_least.clamp(min=self._config.risk_moment_rate)
        dual_rate = at_least.clamp(min=self._config.risk_dual_rate)
        mean = torch.lerp(self.mean, total / count.clamp(min=1.0), moment_rate)
        second = torch.lerp(self.second, squares / count.clamp(min=1.0), moment_rate)
        dual = torch.lerp(self.dual, mean, dual_rate)
        excess = second - 2.0 * dual * mean + dual.square() - self._alpha
        multiplier = (self.multiplier + self._config.multiplier_rate * excess).clamp(0.0, self._config.multiplier_limit)
        new = {"mean": mean, "second": second, "dual": dual, "multiplier": multiplier, "updates": self.updates + 1.0}
        for name, value in new.items():
            buffer = getattr(self, name)
            buffer.copy_(torch.where(happens, value, buffer))

    def metrics(self) -> Mapping[str, Tensor]:
        """For the log."""
        return {
            "reward_mean": self.mean.clone(),
            "reward_variance": self.second - self.mean.square(),
            "risk_multiplier": self.multiplier.clone(),
            "risk_dual": self.dual.clone(),
        }
