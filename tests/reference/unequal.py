"""Train batches of unequal weight for several learners, and the same unrolls as one batch."""

from __future__ import annotations

import copy
import threading
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from seedbed.common.options import override
from seedbed.common.specs import ArraySpec, EnvironmentSpec, discrete
from seedbed.server.algorithms.interface import Algorithm
from seedbed.server.algorithms.registry import find_algorithm
from seedbed.server.experience.batch import Sample, TrainBatch
from seedbed.server.learning.exchange.interface import Exchange
from seedbed.server.learning.learner import Learner
from seedbed.server.training.recording import record
from seedbed.server.training.resolve import defaults_of

SPEC = EnvironmentSpec(
    environment="vectors",
    observations=(ArraySpec(name="observation", dtype="float32", shape=(4,)),),
    actions=(discrete("action", 3),),
)
CPU = torch.device("cpu")
_SEEDED = threading.Lock()  # the generator belongs to all threads
SMALL: Mapping[str, Any] = {
    "network.torso": "mlp",
    "network.core": "none",
    "network.layer_sizes": "16",
    "network.frame_stack": 1,
    "network.precision": "float32",
    "network.normalise_observations": "off",
    "learning.unroll_length": 6,
    "learning.batch_size": 8,
    "optimiser.optimiser": "rmsprop_tf",
    "optimiser.epsilon": 0.01,
    "optimiser.learning_rate": 0.01,
}


def make(name: str, changes: Mapping[str, Any] | None = None, exchange: Exchange | None = None) -> Learner:
    """A fresh learner; all with the same seed are equal."""
    config = override(defaults_of(name), {**SMALL, **(changes or {})})
    with _SEEDED:
        torch.manual_seed(7)
        return Learner(find_algorithm(name)(config, SPEC), config.optimiser, CPU, exchange)


def algorithm_of(learner: Learner) -> Algorithm:
    """Of a learner of these tests."""
    return learner._algorithm


def a_batch(learner: Learner, num_unrolls: int, seed: int = 0) -> TrainBatch:
    """Recorded with the learner's policy; the first unrolls have hardly a valid transition, as long leases have not."""
    version = learner.num_updates
    batch = record(algorithm_of(learner), learner.network, SPEC, num_unrolls=num_unrolls, seed=seed, version=version)
    valid = batch.valid.clone()
    valid[1:, : num_unrolls // 3] = False
    return replace(batch, valid=valid)


def part(batch: TrainBatch, unrolls: Sequence[int]) -> TrainBatch:
    """Some of the unrolls, from a replay too."""
    chosen = replace(batch, sample=None).select(torch.tensor(list(unrolls)))
    if batch.sample is None:
        return chosen
    places = np.array(unrolls)
    sample = Sample(places, np.zeros(len(places), np.int64), batch.sample.weights[list(unrolls)])
    return replace(chosen, sample=sample)


def numbers(state: Any) -> list[Tensor]:
    """All tensors of a nested state, copied."""
    if isinstance(state, Tensor):
        return [state.detach().clone()]
    parts = state.values() if isinstance(state, Mapping) else state if isinstance(state, list | tuple) else ()
    return [tensor for value in parts for tensor in numbers(value)]


def same(ours: Sequence[Tensor], theirs: Sequence[Tensor]) -> bool:
    """Bit by bit."""
    return len(ours) == len(theirs) and all(torch.equal(x, y) for x, y in zip(ours, theirs, strict=True))


def state_of(learner: Learner) -> dict[str, Any]:
    """A copy."""
    return copy.deepcopy(learner.get_state())
