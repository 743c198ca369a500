"""Builds the parts that training and evaluation have in common, from a configuration."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch

from seedbed.common.errors import UsageError
from seedbed.common.specs import EnvironmentSpec
from seedbed.server.algorithms.interface import Algorithm
from seedbed.server.experience.account import Collector
from seedbed.server.experience.open_unrolls import OpenUnrolls
from seedbed.server.experience.regimes import REGIMES, ReplayOptions, SourceOptions
from seedbed.server.experience.source import Source
from seedbed.server.experience.unroll import FieldSpec, UnrollLayout
from seedbed.server.inference.service import InferenceService
from seedbed.server.inference.synchronous import SynchronousService
from seedbed.server.networks.interface import PolicyNetwork
from seedbed.server.options.config import RunConfig, ServerConfig


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
        recorded=algorithm.recorded,
        state_specs=tuple(FieldSpec(tuple(part.shape[1:]), part.dtype) for part in network.initial_state(1)),
        frame_stacks=(config.network.frame_stack,) * len(spec.shown),
        blocks=network.blocks,
        trained_rows=algorithm.trained_rows,
        stagger=algorithm.batch_size if REGIMES[algorithm.regime].staggers else 0,
    )


def make_source(config: ServerConfig, algorithm: Algorithm, store: OpenUnrolls) -> tuple[Source, Collector]:
    """What takes unrolls from the open ones to the learner.

    Raises:
        UsageError: a replay that does not fit into memory, or whose rate would stop both sides.
    """
    options = config.replay
    replay = ReplayOptions(
        draws=algorithm.draws,
        capacity=options.replay_capacity,
        min_size=options.replay_min_size,
        samples_per_insert=options.samples_per_insert,
        tolerance=options.replay_tolerance,
        num_environments=config.fleet.num_envs,
        alpha=options.priority_exponent,
        beta=options.importance_exponent,
        initial=algorithm.initial_priorities,
        device=options.replay_device,
        seed=config.environment.seed,
    )
    source = SourceOptions(
        batch_size=algorithm.batch_size,
        num_slots=config.num_slots,
        queue_unrolls=config.queue_unrolls,
        shown_environments=config.fleet.greedy_environments,
        replay=replay,
    )
    return REGIMES[algorithm.regime].make(source, store)


def make_service(config: ServerConfig, algorithm: Algorithm) -> Callable[..., InferenceService]:
    """What makes the loop of the inference thread. Only who learns has anything to wait for."""
    if not (REGIMES[algorithm.regime].on_policy and config.run.train):
        return InferenceService
    return partial(SynchronousService, num_rows=algorithm.num_rows, patience_s=config.serving.round_patience_s)


def make_acting_network(algorithm: Algorithm, device: torch.device) -> PolicyNetwork:
    """A copy that acts and is never trained."""
    network = algorithm.make_network().to(device).requires_grad_(False)
    network.store_for_acting()
    return network
