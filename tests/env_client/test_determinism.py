"""One thread, one seed, one outcome: acting and learning in turn give the same bits every time."""

from __future__ import annotations

import torch
from torch import Tensor

from seedbed.server.experience.batch import TrainBatch
from seedbed.server.options.network import NetworkConfig
from tests.reference.acting import World

BATCH_SIZE = 4


def train_in_turn(seed: int, num_updates: int = 12) -> tuple[list[Tensor], int]:
    """Acts until a train batch is there, learns from it, publishes, and so on; returns parameters and agent steps."""
    network = NetworkConfig(torso="mlp", core="lstm", core_size=16, frame_stack=1, precision="float32")
    world = World(network, seed=seed)
    for update in range(num_updates):
        while len(world.fifo) < BATCH_SIZE:
            world.run(1)
        batch = world.fifo.get(BATCH_SIZE)
        assert isinstance(batch, TrainBatch)
        world.learner.update(batch, update / num_updates)
        world.parameters.publish(world.learner.network, world.learner.num_updates)
    return list(world.learner.network.parameters()), world.inference.num_steps


def test_equal_seeds_give_equal_bits() -> None:
    first, first_steps = train_in_turn(seed=3)
    again, again_steps = train_in_turn(seed=3)
    assert first_steps == again_steps
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))


def test_other_seeds_give_others() -> None:
    first, _ = train_in_turn(seed=3)
    other, _ = train_in_turn(seed=4)
    assert not any(torch.equal(a, b) for a, b in zip(first, other, strict=True) if a.numel() > 64)
