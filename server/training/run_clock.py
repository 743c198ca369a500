"""Clock of a run: what was done and learnt so far, over all its starts, and how well the episodes went."""

from __future__ import annotations

import time
from collections.abc import Sequence

from seedbed.common.timestep import EpisodeEnd
from seedbed.server.learning.exchange.meeting import Report, Stop
from seedbed.server.monitoring.episodes import EpisodeQueue, EpisodeRecord
from seedbed.server.monitoring.metrics import EpisodeWindow
from seedbed.server.options.config import ServerConfig
from seedbed.server.run.cohorts import Cohorts
from seedbed.server.run.joint_cohorts import JointCohorts
from seedbed.server.run.state import RunState
from seedbed.server.run.task_facts import TaskFacts
from seedbed.server.shared.vitals import Vitals
from seedbed.server.training.assemble import Parts
from seedbed.server.training.task_clock import TaskClock


class RunClock:
    """Read by every thread; each of its numbers is written by one.

    Attributes:
        cohorts: what the run is judged by.
        tasks: of several; None where there is one.
        episodes: those that have ended, for whoever writes them down.
    """

    def __init__(
        self, config: ServerConfig, state: RunState, parts: Parts, vitals: Vitals, facts: Sequence[TaskFacts] = ()
    ) -> None:
        """Starts counting from where the run stands; `facts` of each task where there are several."""
        self._config = config
        self._before = state
        self._parts = parts
        self._vitals = vitals
        self._consumed = state.consumed
        self._window = EpisodeWindow.from_state(state.episodes)
        self.episodes = EpisodeQueue()
        self.tasks: TaskClock | None = None
        self.cohorts: Cohorts | JointCohorts = Cohorts(self.shows_score, state.cohort_record)
        if facts:
            steps = parts.inference.steps_of_tasks
            self.tasks = TaskClock(facts, self.shows_score, state.cohort_record, state.tasks, steps)
            self.cohorts = self.tasks.cohorts
        self._first_step_s: float | None = None

    def consume(self, num_transitions: int) -> None:
        """The learner has taken a train batch: so many transitions to train on, masked ones included."""
        self._consumed += num_transitions

    def share_done(self) -> float:
        """Share of the run that is over: by what was learnt from; where that is learnt from again, by what was done."""
        done = self._agent_steps if self._parts.regime.counts_agent_steps else self._all_consumed
        return done / self._config.run.max_steps

    def on_episode(self, environment_index: int, end: EpisodeEnd, client: str) -> None:
        """An episode has ended in the environment with this stable index."""
        self._vitals.add("episodes")
        counts = self.shows_score(environment_index)
        where = self.wall_s, self._agent_steps
        task = None if self.tasks is None else self.tasks.name_of(environment_index)
        self.episodes.put(EpisodeRecord(*where, environment_index, client, counts, end, task))
        if counts:
            self._score(environment_index, end)

    def _score(self, environment_index: int, end: EpisodeEnd) -> None:
        """The end of an episode that counts."""
        if self.tasks is not None:
            self.tasks.ended(environment_index, end)
        self._window.add(end.episode_return, end.steps, end.frames)
        self.cohorts.ended(environment_index, end.episode_return)

    def joined(self, indices: Sequence[int], tasks: Sequence[int]) -> None:
        """These environments begin their first episodes, each of a task."""
        if self.tasks is not None:
            self.tasks.joined(indices, tasks)
            self.tasks.cohorts.joined(indices, tasks)
        elif isinstance(self.cohorts, Cohorts):
            self.cohorts.joined(indices)

    def left(self, indices: Sequence[int]) -> None:
        """These are gone."""
        if self.tasks is not None:
            self.tasks.left(indices)
        self.cohorts.left(indices)

    def lost(self, index: int) -> None:
        """The episode of this one was cut because it broke."""
        self.cohorts.lost(index)

    def shows_score(self, environment_index: int) -> bool:
        """Whether the episodes of an environment count."""
        return self._config.fleet.shows_score(environment_index)

    def stop_condition(self, state: RunState) -> str | None:
        """The first stop condition that is reached, as a phrase, or None."""
        facts = () if self.tasks is None else self.tasks.facts
        return state.stop_condition(self._config.run, facts, self._config.tasks.target_score)

    def ends(self, stop: Stop) -> bool:
        """Asks for the end of the run. Returns whether it ends now: several learners end after the same update."""
        return True

    @property
    def is_stopped_elsewhere(self) -> bool:
        """Whether another learner was asked to stop, and so all do."""
        return False

    @property
    def reports(self) -> Sequence[Report]:
        """What each replica last told; none where there is one."""
        return ()

    def now(self) -> RunState:
        """Where the run stands, without tensors."""
        return RunState(
            agent_steps=self._agent_steps,
            consumed=self._all_consumed,
            updates=self._parts.learner.num_updates,
            wall_s=self.wall_s,
            episodes=self._window.get_state(),
            cohorts=self.cohorts.record.to_json(),
            tasks={} if self.tasks is None else self.tasks.now(),
        )

    @property
    def wall_s(self) -> float:
        """Seconds that the run has gone on, over all its starts."""
        return self._before.wall_s + self._elapsed_s()

    def _elapsed_s(self) -> float:
        """Since the first step of this start: what imports, frontends and clients took before it is not of the run."""
        if self._first_step_s is None:
            if not self._parts.inference.num_steps:
                return 0.0
            self._first_step_s = time.monotonic()
        return time.monotonic() - self._first_step_s

    @property
    def _all_consumed(self) -> int:
        return self._consumed

    @property
    def _agent_steps(self) -> int:
        return self._before.agent_steps + self._parts.inference.num_steps
