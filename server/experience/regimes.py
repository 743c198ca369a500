"""Regimes: how what was done reaches the learner, and what a run does differently for it.

    queue    each unroll is trained on once, in order
    rounds   acting and learning take turns: a train batch is what the newest parameters did
    replay   unrolls are kept, and drawn again and again

An algorithm names its regime; nothing else asks which algorithm runs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

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

RegimeName = Literal["queue", "rounds", "replay"]
Draws = Literal["unrolls", "transitions"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayOptions:
    """What a replay is made from.

    Attributes:
        draws: "unrolls", by priority; "transitions", uniformly: then everything is counted in valid transitions.
        capacity: unrolls.
        min_size, samples_per_insert, tolerance: see `RateLimiter`; a tolerance of None is `roomy_tolerance`.
        num_environments: how many.
        alpha, beta, initial: see `Prioritisation`.
        device: where it lives; "auto": beside the learner if it fits.
        seed: of the draws.
    """

    draws: Draws
    capacity: int
    min_size: int
    samples_per_insert: float
    tolerance: float | None
    num_environments: int
    alpha: float
    beta: float
    initial: Callable[[TrainBatch], Tensor]
    device: Literal["auto", "cpu", "cuda"]
    seed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceOptions:
    """What sources are made from; each regime reads what it needs.

    Attributes:
        batch_size: B.
        num_slots: S.
        queue_unrolls: capacity of a queue.
        shown_environments: indices of those that are not learnt from.
        replay: of a replay.
    """

    batch_size: int
    num_slots: int
    queue_unrolls: int
    shown_environments: range
    replay: ReplayOptions


@dataclass(frozen=True, slots=True, kw_only=True)
class Regime:
    """What a run does for a kind of source.

    Attributes:
        make: builds the source, and the account in front of it. Raises UsageError where options do not fit.
        on_policy: every row of a train batch was acted on by the parameters that it trains: actors wait for updates.
        staggers: neighbouring environments end their unrolls together, the others at other times.
        clients_yield: nearly all waits for the learner, so environments that take its core make everything slower.
        counts_agent_steps: progress is what was done, for that is learnt from again and again; else what was consumed.
    """

    make: Callable[[SourceOptions, OpenUnrolls], tuple[Source, Collector]]
    on_policy: bool = False
    staggers: bool = False
    clients_yield: bool = False
    counts_agent_steps: bool = False


def _make_queue(options: SourceOptions, store: OpenUnrolls) -> tuple[Source, Collector]:
    queue = UnrollFifo(store.layout, options.queue_unrolls, store.device)
    return queue, Collector(store, queue, options.shown_environments)


def _make_rounds(options: SourceOptions, store: OpenUnrolls) -> tuple[Source, Collector]:
    rounds = RoundFifo(store.layout, options.num_slots, store.device)
    return rounds, RoundCollector(store, rounds, options.shown_environments)


def _make_replay(options: SourceOptions, store: OpenUnrolls) -> tuple[Source, Collector]:
    replay, layout = options.replay, store.layout
    insert_size = layout.period if replay.draws == "transitions" else 1
    if replay.min_size > replay.capacity * insert_size:
        raise UsageError(
            f"expected --replay-min-size of at most {replay.capacity * insert_size} for --replay-capacity "
            f"{replay.capacity}, got {replay.min_size}: learning would never start"
        )
    tolerance = replay.tolerance
    if tolerance is None:
        tolerance = roomy_tolerance(
            samples_per_insert=replay.samples_per_insert,
            batch_size=options.batch_size,
            num_environments=replay.num_environments,
            insert_size=insert_size,
        )
    limiter = RateLimiter(
        samples_per_insert=replay.samples_per_insert,
        min_size=replay.min_size,
        tolerance=tolerance,
        batch_size=options.batch_size,
        insert_size=insert_size,
    )
    device = choose_replay_device(replay.device, store.device, layout, replay.capacity)
    storage = StoredUnrolls(layout, replay.capacity, device, store.device)
    made: Replay
    if replay.draws == "transitions":
        made = TransitionReplay(storage, limiter, seed=replay.seed)
    else:
        prioritisation = Prioritisation(alpha=replay.alpha, beta=replay.beta, initial=replay.initial)
        made = Replay(storage, limiter, prioritisation, seed=replay.seed)
    return made, Collector(store, made, options.shown_environments)


REGIMES: Mapping[RegimeName, Regime] = {
    "queue": Regime(make=_make_queue, staggers=True),
    "rounds": Regime(make=_make_rounds, on_policy=True),
    "replay": Regime(make=_make_replay, clients_yield=True, counts_agent_steps=True),
}
