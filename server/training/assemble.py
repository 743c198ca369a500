"""Builds the parts that training and evaluation have in common, from a configuration."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch

from seedbed.common.errors import UsageError
from seedbed.common.specs import EnvironmentSpec
from seedbed.server.algorithms.interface import Algorithm
from seedbed.server.experience.account import Collector
from seedbed.server.experience.fifo import UnrollFifo
from seedbed.server.experience.open_unrolls import OpenUnrolls
from seedbed.server.experience.rate_limiter import RateLimiter
from seedbed.server.experience.replay import Prioritisation, Replay
from seedbed.server.experience.replay_size import choose_replay_device
from seedbed.server.experience.rounds import RoundCollector, RoundFifo
from seedbed.server.experience.stored_unrolls import StoredUnrolls
from seedbed.server.experience.unroll import UnrollLayout
from seedbed.server.inference.service import InferenceService
from seedbed.server.inference.synchronous import SynchronousService
from seedbed.server.networks.interface import PolicyNetwork
from seedbed.server.options.config import ServerConfig
from seedbed.server.options.run import RunConfig


def choose_device(config: RunConfig) -> torch.device:
    """The device of inference and learning.

    Raises:
        UsageError: CUDA is asked for and not there.
    """
    available = torch.cuda.is_available()
    if config.device == "cuda" and not available:
        raise UsageError(f"expected a CUDA device for --device cuda, torch {torch.__version__} sees none")
    torch.set_num_threads(config.torch_threads)
    return torch.device("cuda" if available and config.device != "cpu" else "cpu")


def make_layout(
    config: ServerConfig, spec: EnvironmentSpec, algorithm: Algorithm, network: PolicyNetwork
) -> UnrollLayout:
    """The shape of every unroll."""
    return UnrollLayout(
        spec=spec,
        num_rows=algorithm.num_rows,
        period=algorithm.period,
        frame_stack=config.network.frame_stack,
        recorded=algorithm.recorded,
        state_shapes=tuple(tuple(part.shape[1:]) for part in network.initial_state(1)),
        pixel_block=max(network.blocks, default=1),
        stagger=algorithm.batch_size if algorithm.regime == "queue" else 0,
    )


def make_queue(config: ServerConfig, algorithm: Algorithm, store: OpenUnrolls) -> tuple[UnrollFifo | Replay, Collector]:
    """What takes unrolls from the open ones to the learner.

    Raises:
        UsageError: a replay that does not fit into memory, or whose rate would stop both sides.
    """
    shown = config.fleet.greedy_environments
    if algorithm.regime == "rounds":
        rounds = RoundFifo(store.layout, config.num_slots, store.device)
        return rounds, RoundCollector(store, rounds, shown)
    queue: UnrollFifo | Replay
    if algorithm.regime == "replay":
        queue = _make_replay(config, algorithm, store)
    else:
        queue = UnrollFifo(store.layout, config.queue_unrolls, store.device)
    return queue, Collector(store, queue, shown)


def _make_replay(config: ServerConfig, algorithm: Algorithm, store: OpenUnrolls) -> Replay:
    options = config.algorithm_options.replay
    limiter = RateLimiter(
        samples_per_insert=options.samples_per_insert,
        min_size=options.replay_min_size,
        tolerance=options.tolerance(config.learning.batch_size, config.fleet.num_envs),
        batch_size=algorithm.batch_size,
    )
    device = choose_replay_device(options.replay_device, store.device, store.layout, options.replay_capacity)
    return Replay(
        StoredUnrolls(store.layout, options.replay_capacity, device, store.device),
        limiter,
        Prioritisation(
            alpha=options.priority_exponent, beta=options.importance_exponent, initial=algorithm.initial_priorities
        ),
        seed=config.environment.seed,
    )


def make_service(config: ServerConfig, algorithm: Algorithm) -> Callable[..., InferenceService]:
    """What makes the loop of the inference thread. Only who learns has anything to wait for."""
    if not (algorithm.regime == "rounds" and config.run.train):
        return InferenceService
    return partial(SynchronousService, num_rows=algorithm.num_rows, patience_s=config.serving.round_patience_s)
