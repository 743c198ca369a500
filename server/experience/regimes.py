"""Regimes: how what was done reaches the learner, and what a run does differently for it.

    queue    each unroll is trained on once, in order
    rounds   acting and learning take turns: a train batch is what the newest parameters did
    replay   unrolls are kept, and drawn again and again

An algorithm names its regime; nothing else asks which algorithm runs.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, Protocol

import torch
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
from seedbed.server.options.learning import ReplayConfig, UniformReplayConfig

logger = logging.getLogger(__name__)

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
        capacity: unrolls that the source has room for, if one begins every so many rows.
        on_policy: every row of a train batch was acted on by the parameters that it trains: actors wait for updates.
        staggers: neighbouring environments end their unrolls together, the others at other times.
        clients_yield: nearly all waits for the learner, so environments that take its core make everything slower.
        counts_agent_steps: progress is what was done, for that is learnt from again and again; else what was consumed.
    """

    make: Callable[[ServerConfig, Learns, OpenUnrolls], tuple[Source, Collector]]
    capacity: Callable[[ServerConfig, int], int]
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
    options: ReplayConfig | UniformReplayConfig = config.algorithm_options.replay
    transitions, period = algorithm.draws == "transitions", store.layout.period
    # The limiter counts transitions or unrolls; of transitions an unroll brings at most `insert_size`.
    insert_size, counted = (period, 1) if transitions else (1, period)
    capacity, min_size = options.num_unrolls(period), options.min_inserts(counted)
    if options.replay_min_size > options.replay_capacity:
        raise UsageError(
            f"expected --replay-min-size of at most {options.replay_capacity} for --replay-capacity "
            f"{options.replay_capacity}, got {options.replay_min_size}: learning would never start"
        )
    ratio, tolerance = options.draws_per_insert(counted, algorithm.batch_size), options.replay_tolerance
    if tolerance is None:
        tolerance = roomy_tolerance(
            samples_per_insert=ratio,
            batch_size=algorithm.batch_size,
            num_environments=config.fleet.num_envs,
            insert_size=insert_size,
        )
    limiter = RateLimiter(
        samples_per_insert=ratio,
        min_size=min_size,
        tolerance=tolerance,
        batch_size=algorithm.batch_size,
        insert_size=insert_size,
    )
    device = choose_replay_device(
        options.replay_device,
        store.device,
        store.layout,
        capacity,
        options.replay_capacity / capacity,
        algorithm.batch_size,
    )
    storage = _allocated(options.replay_device, store, capacity, device)
    seed = config.environment.seed
    replay: Replay
    if transitions:
        replay = TransitionReplay(storage, limiter, seed=seed)
    else:
        alpha, beta = options.exponents
        prioritisation = Prioritisation(alpha=alpha, beta=beta, initial=algorithm.initial_priorities)
        replay = Replay(storage, limiter, prioritisation, seed=seed)
    return replay, Collector(store, replay, config.fleet.greedy_environments)


def _allocated(wanted: str, store: OpenUnrolls, capacity: int, device: torch.device) -> StoredUnrolls:
    """A replay's storage; where the device has less memory than it said, and nothing was wished, on the CPU.

    Raises:
        UsageError: it does not fit where it was wished.
    """
    try:
        return StoredUnrolls(store.layout, capacity, device, store.device)
    except torch.OutOfMemoryError as error:
        if wanted != "auto" or device.type == "cpu":
            raise UsageError(
                f"expected a replay that fits into the memory of {device}: take --replay-device cpu or a smaller "
                f"--replay-capacity ({error})"
            ) from error
    logger.warning("the replay does not fit into the memory of %s and is kept on the CPU", device)
    torch.cuda.empty_cache()
    return StoredUnrolls(store.layout, capacity, torch.device("cpu"), store.device)


def _queue_capacity(config: ServerConfig, period: int) -> int:
    return config.queue_unrolls


def _rounds_capacity(config: ServerConfig, period: int) -> int:
    return config.num_slots


def _replay_capacity(config: ServerConfig, period: int) -> int:
    capacity: int = config.algorithm_options.replay.num_unrolls(period)
    return capacity


REGIMES: Mapping[RegimeName, Regime] = {
    "queue": Regime(make=_make_queue, capacity=_queue_capacity, staggers=True),
    "rounds": Regime(make=_make_rounds, capacity=_rounds_capacity, on_policy=True),
    "replay": Regime(make=_make_replay, capacity=_replay_capacity, clients_yield=True, counts_agent_steps=True),
}
