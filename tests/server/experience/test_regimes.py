"""What each regime makes, and what a run does for it."""

from __future__ import annotations

import dataclasses
from typing import get_args

import pytest
import torch
from torch import Tensor

from seedbed.common.errors import UsageError
from seedbed.common.options import override
from seedbed.server.algorithms.replayed_q import ReplayedQOptions
from seedbed.server.algorithms.sac import SACOptions
from seedbed.server.experience.account import Collector
from seedbed.server.experience.batch import TrainBatch
from seedbed.server.experience.fifo import UnrollFifo
from seedbed.server.experience.open_unrolls import OpenUnrolls
from seedbed.server.experience.regimes import REGIMES, Draws, RegimeName
from seedbed.server.experience.replay import Replay
from seedbed.server.experience.rounds import RoundCollector, RoundFifo
from seedbed.server.experience.transition_replay import TransitionReplay
from seedbed.server.experience.unroll import UnrollLayout
from seedbed.server.options.config import ServerConfig
from seedbed.server.options.learning import LearningConfig, ReplayConfig, UniformReplayConfig
from seedbed.server.options.run import FleetConfig
from seedbed.server.options.serving import ServingConfig
from tests.reference.unrolls import numbers_layout

CPU = torch.device("cpu")
CONFIG = ServerConfig(
    algorithm_options=ReplayedQOptions(
        replay=ReplayConfig(replay_capacity=11, replay_min_size=4, samples_per_insert=2.0),
    ),
    fleet=FleetConfig(num_envs=40, num_greedy_envs=2),
    learning=LearningConfig(batch_size=3),
    serving=ServingConfig(num_slots=45, queue_unrolls=7),
)
UNIFORM = dataclasses.replace(
    CONFIG,
    algorithm_options=SACOptions(
        replay=UniformReplayConfig(replay_capacity=42, replay_min_size=4, updates_per_step=0.5)
    ),
)


class Learner:
    """Three unrolls make a batch."""

    batch_size = 3

    def __init__(self, draws: Draws = "unrolls") -> None:
        self.draws: Draws = draws

    def initial_priorities(self, batch: TrainBatch) -> Tensor:
        """All are worth the same."""
        return torch.ones(len(batch.provenance))


def store(layout: UnrollLayout | None = None) -> OpenUnrolls:
    return OpenUnrolls(layout or numbers_layout(5, 4, 1), 5, CPU)


def test_every_name_has_a_regime() -> None:
    assert set(REGIMES) == set(get_args(RegimeName))


@pytest.mark.parametrize(
    ("name", "source", "collector", "capacity", "saved"),
    [
        ("queue", UnrollFifo, Collector, 7, False),
        ("rounds", RoundFifo, RoundCollector, 45, False),
        ("replay", Replay, Collector, 11, True),
    ],
)
def test_what_a_regime_makes(name: RegimeName, source: type, collector: type, capacity: int, saved: bool) -> None:
    made, account = REGIMES[name].make(CONFIG, Learner(), store())
    assert type(made) is source
    assert type(account) is collector
    assert made.capacity == capacity  # type: ignore[attr-defined]
    assert (made.contents is not None) == saved


def test_transitions_are_drawn_where_an_algorithm_wants_them() -> None:
    """Capacity, first draw and ratio count them: 11 unrolls of 4 hold 42, and for each U updates of 3 are due."""
    layout = dataclasses.replace(numbers_layout(6, 4, 1, trained_rows=range(4)), state_specs=())
    made, _ = REGIMES["replay"].make(UNIFORM, Learner("transitions"), store(layout))
    assert isinstance(made, TransitionReplay)
    assert made.contents is made
    assert made.capacity == REGIMES["replay"].capacity(UNIFORM, layout.period) == 11
    assert made._limiter.num_inserts_allowed() == 1
    made._limiter.inserts = 4
    assert made._limiter.num_inserts_allowed() >= 40, "an unroll of every environment at once"
    made._limiter.inserts, made._limiter.samples = 104, 150
    assert made._limiter._deficit() == 0
    assert made.metrics()["replay_updates_per_step"] == 0.5
    with pytest.raises(UsageError, match="--core none"):
        REGIMES["replay"].make(UNIFORM, Learner("transitions"), store())


def test_unrolls_are_drawn_evenly_where_an_algorithm_has_no_priorities() -> None:
    """An unroll of 4 transitions is drawn for U updates of each of them."""
    layout = dataclasses.replace(numbers_layout(6, 4, 1, trained_rows=range(4)))
    made, _ = REGIMES["replay"].make(UNIFORM, Learner(), store(layout))
    assert type(made) is Replay
    assert (made._prioritisation.alpha, made._prioritisation.beta) == (0.0, 0.0)
    made._limiter.inserts, made._limiter.samples = 101, 600
    assert made._limiter._deficit() == 0, "after the first unroll, 100 of 4 transitions, 200 updates of 3"


@pytest.mark.parametrize(("config", "most"), [(CONFIG, 11), (UNIFORM, 42)], ids=["unrolls", "transitions"])
def test_a_replay_that_could_never_begin_is_refused(config: ServerConfig, most: int) -> None:
    layout = dataclasses.replace(numbers_layout(6, 4, 1), state_specs=())
    draws: Draws = "unrolls" if config is CONFIG else "transitions"
    for min_size in (most, most + 1):
        changed = override(config, {"algorithm_options.replay.replay_min_size": min_size})
        if min_size == most:
            REGIMES["replay"].make(changed, Learner(draws), store(layout))
        else:
            with pytest.raises(UsageError, match=f"--replay-min-size of at most {most} for --replay-capacity {most}"):
                REGIMES["replay"].make(changed, Learner(draws), store(layout))


def test_rounds_have_neither_burn_in_nor_overlap() -> None:
    for layout in (numbers_layout(9, 4, 1), numbers_layout(9, 8, 1, trained_rows=range(2, 8))):
        with pytest.raises(AssertionError):
            REGIMES["rounds"].make(CONFIG, Learner(), store(layout))
