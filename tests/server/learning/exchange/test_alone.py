"""One learner: what several need costs it nothing, to the last bit."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pytest
import torch

from seedbed.common.options import override
from seedbed.server.experience.batch import TrainBatch
from seedbed.server.experience.source import Empty
from seedbed.server.learning.exchange.alone import Alone
from seedbed.server.learning.optimisers import linear_decay, optimiser_of, set_learning_rate
from seedbed.server.training.resolve import defaults_of
from tests.reference.unequal import SMALL, a_batch, algorithm_of, make, numbers, same

PROGRESS = 0.25


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("vtrace", {}),
        ("vtrace", {"algorithm_options.reduction": "sum"}),
        ("a2c", {"optimiser.clip_norm": 0.1}),
        ("ppo", {"algorithm_options.epochs": 2, "algorithm_options.minibatches": 4}),
        ("r2d2", {"algorithm_options.burn_in": 0, "algorithm_options.period": 3}),
    ],
    ids=["vtrace", "sum", "clipped", "ppo", "r2d2"],
)
def test_an_update_is_that_of_a_loop_without_an_exchange(name: str, changes: Mapping[str, Any]) -> None:
    """Written out: gradient of the loss, clipped by its norm, one step of the optimiser, statistics afterwards."""
    changes = {"algorithm_options.popart": "on", **changes} if name != "r2d2" else changes
    learner, plain = make(name, changes, Alone()), make(name, changes)
    config = override(defaults_of(name), {**SMALL, **changes}).optimiser
    algorithm, learnt = algorithm_of(plain), plain.learnt
    groups = algorithm.groups(learnt)
    optimisers = {group: optimiser_of(parts, config, False) for group, parts in groups.items()}
    rate = linear_decay(config.learning_rate, config.final_learning_rate_share, PROGRESS)
    for seed in range(3):
        batch = a_batch(learner, 8, seed)
        torch.manual_seed(seed)  # minibatches are drawn
        learner.update(batch, PROGRESS)
        torch.manual_seed(seed)
        moments = dict(algorithm.observed(learnt, batch))
        for step in algorithm.steps(learnt, plain.target, batch):
            for key, moment in (step.moments or {}).items():
                moments[key] = moments[key] + moment if key in moments else moment
            if step.loss is None:
                continue
            optimiser, parameters = optimisers[step.group], list(groups[step.group].parameters)
            set_learning_rate(optimiser, rate)
            optimiser.zero_grad()
            step.loss.backward(inputs=parameters)
            torch.nn.utils.clip_grad_norm_(parameters, config.clip_norm)
            optimiser.step()
        with torch.no_grad():
            algorithm.after_update(learnt, moments)
    assert same(numbers(learner.learnt.state_dict()), numbers(learnt.state_dict()))
    assert same(
        numbers([one.state_dict() for one in learner._steps.optimisers.values()]),
        numbers([one.state_dict() for one in optimisers.values()]),
    )


def test_it_waits_as_long_as_it_takes() -> None:
    batch = a_batch(make("vtrace"), 2)
    answers: Iterator[TrainBatch | Empty] = iter([Empty.NOT_YET, Empty.NOT_YET, batch, Empty.CLOSED])
    alone = Alone()
    assert alone.turn(lambda _: next(answers)) is batch
    assert alone.turn(lambda _: next(answers)) is Empty.CLOSED
    assert (alone.rank, alone.world, alone.joint, alone.unused) == (0, 1, False, 0)
