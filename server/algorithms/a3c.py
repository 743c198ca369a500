"""A3C and A2C: actor-critics whose targets are plain returns.

A3C (Mnih et al. 2016, arXiv 1602.01783, algorithm S3) takes every action for one of the policy being learnt, though
older parameters chose it: there is no correction for policy lag. In the paper each thread learns from its own last few
steps and the lag is what other threads did meanwhile; here it is what waits in the queue. V-trace with rho = 1 is the
same computation. A2C is A3C's loss on what the very parameters being learnt did.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from seedbed.common.options import option
from seedbed.common.specs import EnvironmentSpec
from seedbed.server.algorithms.actor_critic import ActorCriticAlgorithm, return_targets
from seedbed.server.algorithms.actor_critic_options import ActorCriticOptions
from seedbed.server.algorithms.published import ASYNCHRONOUS
from seedbed.server.algorithms.seen import Seen, Targets
from seedbed.server.experience.batch import TrainBatch


@dataclass(frozen=True, slots=True, kw_only=True)
class A3COptions(ActorCriticOptions):
    """A3C"""

    reduction: Literal["mean", "sum"] = option("sum", "reduction over valid steps")


class A3C(ActorCriticAlgorithm):
    """The algorithm behind `--algorithm a3c`."""

    Options = A3COptions

    @classmethod
    def defaults(cls, spec: EnvironmentSpec) -> Mapping[str, Any]:
        """Section 5.1 of the paper and its supplement, section 8."""
        return {**super().defaults(spec), **ASYNCHRONOUS, "optimiser.epsilon": 0.1}

    def targets(self, seen: Seen, batch: TrainBatch) -> Targets:
        """n-step returns at lambda 1, as published; GAE below."""
        return return_targets(seen, self._options.lambda_)


class A2C(ActorCriticAlgorithm):
    """The algorithm behind `--algorithm a2c`. A train batch is one unroll of every environment; the lag is 0."""

    Options = ActorCriticOptions
    regime = "rounds"

    @classmethod
    def defaults(cls, spec: EnvironmentSpec) -> Mapping[str, Any]:
        """OpenAI Baselines, baselines/a2c/a2c.py, for Atari."""
        return {
            **super().defaults(spec),
            "learning.unroll_length": 5,
            "optimiser.optimiser": "rmsprop_tf",
            "optimiser.learning_rate": 7e-4,
            "optimiser.epsilon": 1e-5,
            "optimiser.clip_norm": 0.5,
        }

    def targets(self, seen: Seen, batch: TrainBatch) -> Targets:
        """n-step returns at lambda 1, GAE below."""
        return return_targets(seen, self._options.lambda_)
