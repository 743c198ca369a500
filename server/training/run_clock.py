"""Clock of a run: what was done and learnt so far, over all its starts; it also keeps the newest episodes."""

from __future__ import annotations

import time

from seedbed.common.timestep import EpisodeEnd
from seedbed.server.monitoring.metrics import EpisodeWindow
from seedbed.server.options.config import ServerConfig
from seedbed.server.run.state import RunState
from seedbed.server.shared.vitals import Vitals
from seedbed.server.training.assemble import Parts


class RunClock:
    """Read by every thread; each of its numbers is written by one."""

    def __init__(self, config: ServerConfig, state: RunState, parts: Parts, vitals: Vitals) -> None:
        """Starts counting from where the run stands."""
        self._config = config
        self._before = state
        self._parts = parts
        self._vitals = vitals
        self._consumed = state.consumed
        self._episodes = EpisodeWindow.from_state(state.episodes)
        self._start_s = time.monotonic()

    def consume(self, num_transitions: int) -> None:
        """The learner has taken a train batch: so many transitions to train on, masked ones included."""
        self._consumed += num_transitions

    def share_done(self) -> float:
        """Share of the run that is over: by what was learnt from; where that is learnt from again, by what was done."""
        done = self._agent_steps if self._parts.regime.counts_agent_steps else self._consumed
        return done / self._config.run.max_steps

    def on_episode(self, environment_index: int, end: EpisodeEnd) -> None:
        """An episode has ended in the environment with this stable index."""
        self._vitals.add("episodes")
        if self._config.fleet.shows_score(environment_index):
            self._episodes.add(end.episode_return, end.steps, end.frames)

    def now(self) -> RunState:
        """Where the run stands, without tensors."""
        return RunState(
            agent_steps=self._agent_steps,
            consumed=self._consumed,
            updates=self._parts.learner.num_updates,
            wall_s=self._before.wall_s + time.monotonic() - self._start_s,
            episodes=self._episodes.get_state(),
        )

    @property
    def _agent_steps(self) -> int:
        return self._before.agent_steps + self._parts.inference.num_steps
