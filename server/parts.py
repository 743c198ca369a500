"""Builds the parts that training and evaluation have in common, from a configuration."""

from __future__ import annotations

import torch

from seedbed.common.errors import UsageError
from seedbed.common.specs import EnvironmentSpec
from seedbed.server.algorithms.interface import Algorithm
from seedbed.server.config import RunConfig, ServerConfig
from seedbed.server.experience.layout import UnrollLayout
from seedbed.server.networks.interface import PolicyNetwork


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
    )


def make_acting_network(algorithm: Algorithm, device: torch.device) -> PolicyNetwork:
    """A copy that acts and is never trained."""
    network = algorithm.make_network().to(device).requires_grad_(False)
    network.store_for_acting()
    return network
