"""Regimes: how what was done reaches the learner, and what a run does differently for it.

    queue    each unroll is trained on once, in order
    rounds   acting and learning take turns: a train batch is what the newest parameters did
    replay   unrolls are kept, and drawn again and again

An algorithm names its regime; nothing else asks which algorithm runs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, Protocol

from torch import Tensor

from seedbed.common.errors import UsageError
from seedbed.server.experience.account import Collector
from seedbed.server.experience.batch import TrainBatch
from seedbed.server.experience.fifo import UnrollFifo
from seedbed.server.experience.open_unrolls import OpenUnrolls
from seedbed.server.experience.rate_limiter import RateLimiter, roomy_tolerance
from seedbed.server.experience.replay import Prioritisation, Replay
from seedbed.server.experience.replay_size import choose_replay_device
from seedbed.server.experience.rounds import RoundCollector, RoundFifo
from seedbed.server.experience.source import Source
from seedbed.server.experience.stored_unrolls import StoredUnrolls
from seedbed.server.experience.transition_replay import TransitionReplay
from seedbed.server.options.config import ServerConfig
from seedbed.server.options.learning import ReplayConfig

RegimeName = Literal["queue", "rounds", "replay"]
Draws = Literal["unrolls", "transitions"]


class Learns(Protocol):
    """What a source asks of an algorithm: see `algorithms.interface.Algorithm`."""

    batch_size: int
    draws: Draws

    def initial_priorities(self, batch: TrainBatch) -> Tensor:
        """What new unrolls are worth."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Regime:
    """What a run does for a kind of source.

    Attributes:
        make: builds the source, and the account in front of it. Raises UsageError where options do not fit.
        capacity: unrolls that the source has room for.
        on_policy: every row of a train batch was acted on by the parameters that it trains: actors wait for updates.
        staggers: neighbouring environments end their unrolls together, the others at other times.
        clients_yield: nearly all waits for the learner, so environments that take its core make everything slower.
        counts_agent_steps: progress is what was done, for that is learnt from again and again; else what was consumed.
    """

    make: Callable[[ServerConfig, Learns, OpenUnrolls], tuple[Source, Collector]]
    capacity: Callable[[ServerConfig], int]
    on_policy: bool = False
    staggers: bool = False
    clients_yield: bool = False
    counts_agent_steps: bool = False


def _make_queue(config: ServerConfig, algorithm: Learns, store: OpenUnrolls) -> tuple[Source, Collector]:
    queue = UnrollFifo(store.layout, config.queue_unrolls, store.device)
    return queue, Collector(store, queue, config.fleet.greedy_environments)


def _make_rounds(config: ServerConfig, algorithm: Learns, store: OpenUnrolls) -> tuple[Source, Collector]:
    rounds = RoundFifo(store.layout, config.num_slots, store.device)
    return rounds, RoundCollector(store, rounds, config.fleet.greedy_environments)


def _make_replay(config: ServerConfig, algorithm: Learns, store: OpenUnrolls) -> tuple[Source, Collector]:
    options: ReplayConfig = config.algorithm_options.replay
    transitions = algorithm.draws == "transitions"
    insert_size = store.layout.period if transitions else 1
    if options.replay_min_size > options.replay_capacity * insert_size:
        raise UsageError(
            f"expected --replay-min-size of at most {options.replay_capacity * insert_size} for --replay-capacity "
            f"{options.replay_capacity}, got {options.replay_min_size}: learning would never start"
        )
    tolerance = options.replay_tolerance
    if tolerance is None:
        tolerance = roomy_tolerance(
            samples_per_insert=options.samples_per_insert,
            batch_size=algorithm.batch_size,
            num_environments=config.fleet.num_envs,
            insert_size=insert_size,
        )
    limiter = RateLimiter(
        samples_per_insert=options.samples_per_insert,
        min_size=options.replay_min_size,
        tolerance=tolerance,
        batch_size=algorithm.batch_size,
        insert_size=insert_size,
    )
    device = choose_replay_device(options.replay_device, store.device, store.layout, options.replay_capacity)
    storage = StoredUnrolls(store.layout, options.replay_capacity, device, store.device)
    seed = config.environment.seed
    replay: Replay
    if transitions:
        replay = TransitionReplay(storage, limiter, seed=seed)
    else:
        prioritisation = Prioritisation(
            alpha=options.priority_exponent, beta=options.importance_exponent, initial=algorithm.initial_priorities
        )
        replay = Replay(storage, limiter, prioritisation, seed=seed)
    return replay, Collector(store, replay, config.fleet.greedy_environments)


def _queue_capacity(config: ServerConfig) -> int:
    return config.queue_unrolls


def _rounds_capacity(config: ServerConfig) -> int:
    return config.num_slots


def _replay_capacity(config: ServerConfig) -> int:
    capacity: int = config.algorithm_options.replay.replay_capacity
    return capacity


REGIMES: Mapping[RegimeName, Regime] = {
    "queue": Regime(make=_make_queue, capacity=_queue_capacity, staggers=True),
    "rounds": Regime(make=_make_rounds, capacity=_rounds_capacity, on_policy=True),
    "replay": Regime(make=_make_replay, capacity=_replay_capacity, clients_yield=True, counts_agent_steps=True),
}
