"""Options of a bound on the variance of rewards, for the algorithms that can keep one."""

from __future__ import annotations

from dataclasses import dataclass

from seedbed.common.errors import UsageError
from seedbed.common.options import option


@dataclass(frozen=True, slots=True, kw_only=True)
class RiskConfig:
    """risk"""

    risk_variance: float | None = option(
        None,
        "alpha: largest variance of single rewards; the average reward is raised as far as it allows (default: none)",
        metavar="ALPHA",
        fixed=True,
    )
    risk_multiplier_rate: float | None = option(
        None,
        "step of the multiplier lambda in each update, times how far the variance is above alpha "
        "(default: 2e-3 / alpha^1.5)",
        minimum=0,
    )
    risk_multiplier_limit: float | None = option(None, "largest multiplier lambda (default: 10 / alpha^0.5)", minimum=0)
    risk_dual_rate: float = option(0.01, "share of an update in y, which follows the mean reward slowly")
    risk_moment_rate: float = option(0.05, "share of an update in the running mean and mean square of rewards")

    def __post_init__(self) -> None:
        if self.risk_variance is not None and not self.risk_variance > 0:
            raise UsageError(f"expected --risk-variance above 0, got {self.risk_variance}")
        for name in ("risk_dual_rate", "risk_moment_rate"):
            if not 0 < getattr(self, name) <= 1:
                raise UsageError(f"expected --{name.replace('_', '-')} in (0, 1], got {getattr(self, name)}")

    @property
    def multiplier_rate(self) -> float:
        """In the unit that it has: 1 / reward^3, so that rewards of any unit are learnt alike."""
        if self.risk_multiplier_rate is not None:
            return self.risk_multiplier_rate
        return 0.0 if self.risk_variance is None else 2e-3 / self.risk_variance**1.5

    @property
    def multiplier_limit(self) -> float:
        """In the unit that it has: 1 / reward."""
        if self.risk_multiplier_limit is not None:
            return self.risk_multiplier_limit
        return 0.0 if self.risk_variance is None else 10.0 / self.risk_variance**0.5

    def check(self, reward_clipping: str) -> None:
        """Raises UsageError where there is a bound and rewards are squashed: it would be one on something else."""
        if self.risk_variance is not None and reward_clipping != "none":
            raise UsageError(
                f"expected --reward-clipping none with --risk-variance {self.risk_variance:g}, got {reward_clipping}"
            )
