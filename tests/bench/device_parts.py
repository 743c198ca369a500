"""The real parts of a device process, built as a run builds them, for programs that take turns in one thread."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import torch

from seedbed.common.specs import EnvironmentSpec
from seedbed.server.algorithms.interface import Algorithm
from seedbed.server.algorithms.registry import make_algorithm
from seedbed.server.experience.open_unrolls import OpenUnrolls
from seedbed.server.inference.parameters import Parameters
from seedbed.server.inference.policy import Inference
from seedbed.server.learning.learner import Learner
from seedbed.server.options.config import ServerConfig
from seedbed.server.shared.slots import SlotTable
from seedbed.server.training.assemble import choose_device, make_layout


@dataclass(frozen=True, slots=True)
class DeviceParts:
    """All but the queue, which is what such programs differ in; a slot for every environment, all of one lease."""

    algorithm: Algorithm
    learner: Learner
    parameters: Parameters
    store: OpenUnrolls
    slots: SlotTable
    inference: Inference

    @classmethod
    def build(cls, config: ServerConfig, spec: EnvironmentSpec) -> Self:
        """Builds them; the same seed gives the same parameters."""
        device, seed, num_envs = choose_device(config.run), config.environment.seed, config.fleet.num_envs
        torch.manual_seed(seed)
        algorithm = make_algorithm(config, spec)
        learner = Learner(algorithm, config.optimiser, device)
        parameters = Parameters(learner.network)
        store = OpenUnrolls(make_layout(config, spec, algorithm, learner.network), num_envs, device)
        slots = SlotTable(spec, num_envs)
        inference = Inference(
            algorithm=algorithm, parameters=parameters, slots=slots, unrolls=store, device=device, seed=seed
        )
        return cls(algorithm, learner, parameters, store, slots, inference)
