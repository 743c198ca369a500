"""Asynchronous advantage actor-critic (Mnih et al. 2016, arXiv 1602.01783, algorithm S3), learnt in one place.

The loss takes every action for one of the policy being learnt, though older parameters chose it: there is no correction
for policy lag. In the paper each thread learns from its own last few steps and the lag is what other threads did
meanwhile; here it is what waits in the queue. V-trace with rho = 1 is the same computation.
"""

from __future__ import annotations

from seedbed.server.algorithms.actor_critic import ActorCriticAlgorithm, Learnt, Targets
from seedbed.server.experience.batch import TrainBatch
from seedbed.server.losses.returns import lambda_returns


class A3C(ActorCriticAlgorithm):
    """The algorithm behind `--algorithm a3c`."""

    def targets(self, learnt: Learnt, batch: TrainBatch) -> Targets:
        """n-step returns at lambda 1, as published; GAE below."""
        values = learnt.values.detach()
        returns = lambda_returns(
            rewards=learnt.rewards,
            discounts=learnt.discounts,
            values=values,
            valid=learnt.valid,
            lambda_=self._config.lambda_,
        )
        return Targets(returns, returns - values[:-1])
