"""Signs that a run does not learn, each said once in one line with what to try.

All but one are judged by what the run itself showed before, and none while it gets better: a task that has been learnt
also has an entropy near 0, and losses grow with returns. The one is told whatever returns do: importance weights that
leave less than half of the samples (ESS, `losses.importance`) make of any off-policy correction a slow one.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping

from seedbed.common.specs import EnvironmentSpec
from seedbed.server.options.run import RunConfig
from seedbed.server.run.cohorts import CohortRecord
from seedbed.server.run.state import RunState

_EARLY_SHARE, _LATE_SHARE = 0.1, 0.3  # of the run
_MIN_COHORTS = 3
_LOW_ENTROPY_SHARE = 0.01  # of the greatest there is
_EXPLOSION = 1000.0  # times the median of what was before
_MIN_INTERVALS = 10  # before which nothing is an explosion
_STREAK = 3  # log intervals in a row: one may be an accident
_WATCHED = ("loss", "gradient_norm")
_LEAST_SAMPLE_SHARE = 0.5


class LearningSigns:
    """Watches the numbers of every log interval."""

    def __init__(self, run: RunConfig, spec: EnvironmentSpec) -> None:
        """Has seen nothing.

        Args:
            run: gives the ends of the run, of which its share is reckoned.
            spec: gives the greatest entropy.
        """
        self._run = run
        self._max_entropy = _max_entropy(spec)
        self._said: set[str] = set()
        self._streaks: dict[str, int] = {}
        self._seen: dict[str, list[float]] = {name: [] for name in _WATCHED}

    def look(self, state: RunState, metrics: Mapping[str, float]) -> list[str]:
        """What is to be said now.

        Args:
            state: where the run stands.
            metrics: of the newest log interval.
        """
        record, share = state.cohort_record, self._share(state)
        better = has_improved(record)
        entropy = metrics.get("entropy", math.inf)
        low = not better and share < _EARLY_SHARE and entropy < _LOW_ENTROPY_SHARE * self._max_entropy
        flat = not better and share >= _LATE_SHARE and record.judged >= _MIN_COHORTS
        exploded = [name for name in _WATCHED if self._explodes(name, metrics) and not better]
        sample_share = metrics.get("effective_sample_share", 1.0)
        not_learning = "this run does not learn"
        lines = {
            "entropy": f"{not_learning}: it hardly explores any more (entropy {entropy:.3g}) and has not got better: "
            "try a larger --entropy-cost or a smaller --learning-rate",
            "explosion": f"{not_learning}: {' and '.join(exploded)} grew a thousandfold: "
            "try a smaller --learning-rate or --clip-norm",
            "flat": f"{not_learning}: no cohort of episodes was better than the first one after {share:.0%} of the "
            "run: try another --learning-rate or --algorithm, and see whether the environment's rewards can be found "
            "by acting at random",
            "off-policy": "this run learns from actions that its policy would hardly take any more (importance weights "
            f"leave {sample_share:.0%} of the samples): try a smaller --learning-rate, or less lag: "
            "fewer --queue-unrolls",
        }
        off_policy = sample_share < _LEAST_SAMPLE_SHARE
        found = {"entropy": low, "explosion": bool(exploded), "flat": flat, "off-policy": off_policy}
        return [lines[sign] for sign, here in found.items() if self._lasts(sign, here)]

    def _lasts(self, sign: str, here: bool) -> bool:
        """Whether a sign has been there for some intervals in a row, and was never told."""
        self._streaks[sign] = self._streaks.get(sign, 0) + 1 if here else 0
        if self._streaks[sign] < _STREAK or sign in self._said:
            return False
        self._said.add(sign)
        return True

    def _explodes(self, name: str, metrics: Mapping[str, float]) -> bool:
        if (value := metrics.get(name)) is None:  # no update in this interval
            return False
        before = self._seen[name]
        if len(before) >= _MIN_INTERVALS and not abs(value) <= _EXPLOSION * statistics.median(before):
            return True
        before.append(abs(value))
        return False

    def _share(self, state: RunState) -> float:
        run = self._run
        shares = [state.agent_steps / run.max_steps if run.max_steps else 0.0]
        if run.max_seconds:
            shares.append(state.wall_s / run.max_seconds)
        return max(shares)


def has_improved(record: CohortRecord) -> bool:
    """Whether a cohort was better than the first one by more than chance makes it: two standard errors."""
    first, best = record.first, record.best
    return first is not None and best is not None and best.mean > first.mean + 2 * first.standard_error


def _max_entropy(spec: EnvironmentSpec) -> float:
    """Of a policy over discrete actions; with boxes entropies have no zero, and none is low."""
    if any(action.kind == "box" for action in spec.actions):
        return -math.inf
    return sum(math.log(count) for action in spec.actions for count in action.num_values)
