"""R2D2: recurrent Q-learning from replayed sequences (Kapturowski et al. 2019, OpenReview r1lyTjAqYX).

Sequences of T transitions with a burn-in before them begin every `period` rows of a lease and cross the ends of
episodes, with masks. The last n - 1 returns of a sequence are shorter than n.

The state that is stored is the one that entered the *first row of the burn-in*. (SEED RL stores the one that enters the
row behind the burn-in and feeds it to the first.)
"""

from __future__ import annotations

from seedbed.common.specs import EnvironmentSpec
from seedbed.server.algorithms.replayed_q import ReplayedQ
from seedbed.server.options.config import ServerConfig


class R2D2(ReplayedQ):
    """The algorithm behind `--algorithm r2d2`."""

    def __init__(self, config: ServerConfig, spec: EnvironmentSpec) -> None:
        super().__init__(config, spec, burn_in=config.r2d2.burn_in, lookahead=0, period=config.r2d2.period)
