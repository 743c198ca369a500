"""A run in one thread: a server's real parts and real environments take turns, without gRPC, processes and clocks.

Everybody acts once, then all train batches that are complete are learnt from. So the same seed gives the same numbers
on every machine of a kind, however busy it is, and the policy lag is what the configuration makes it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping

import numpy as np
import torch

from seedbed.common.options import override
from seedbed.env_client.environments.building import make_environments
from seedbed.server.experience.batch import TrainBatch
from seedbed.server.options.config import ServerConfig
from seedbed.server.training.assemble import assemble

_EPISODES = 100  # whose mean is the score, as in `seedbed train`


class Lockstep:
    """A run of an algorithm that learns from a queue.

    Attributes:
        returns: of the latest episodes.
        metrics: of every update so far.
    """

    def __init__(self, config: ServerConfig) -> None:
        """Builds everything as `seedbed train` does; the actors begin on the next call of `run`."""
        environment, num_envs = config.environment, config.fleet.num_envs
        self._config = config
        self._environments = make_environments(
            environment.env_id, environment.atari_preset, range(num_envs), environment.seed
        )
        room = num_envs + config.learning.batch_size  # nobody could wait for more
        alone = {"serving.num_slots": num_envs, "serving.queue_unrolls": room}
        parts = assemble(override(config, alone), self._environments.spec)
        self._learner, self._parameters = parts.learner, parts.parameters
        self._slots, self._inference = parts.slots, parts.inference
        self._queue, self._sink = parts.source, parts.sink
        self.returns: deque[float] = deque(maxlen=_EPISODES)
        self.metrics: list[Mapping[str, torch.Tensor]] = []

    def run(self) -> None:
        """Trains to the end."""
        everybody = np.arange(self._slots.num_slots)
        self._inference.begin(everybody, 1, everybody.tolist())
        rows, turn = self._environments.reset(), 0
        while self._inference.num_steps < self._config.run.max_steps:
            turn += 1
            self._slots.accept(0, rows.num_rows, turn, rows)
            self._sink.hand_over(self._inference.remember(self._inference.act(everybody)))
            self._learn()
            rows = self._environments.step(self._slots.actions)
            self.returns.extend(end.episode_return for end in rows.episode_ends)
        self._environments.close()

    def _learn(self) -> None:
        learning = self._config.learning
        while len(self._queue) >= learning.batch_size:
            batch = self._queue.get(learning.batch_size)
            assert isinstance(batch, TrainBatch)
            progress = self._inference.num_steps / self._config.run.max_steps
            self.metrics.append(self._learner.update(batch, progress).metrics)
            if len(self.metrics) % learning.publish_every == 0:
                self._parameters.publish(self._learner.network, self._learner.num_updates)
