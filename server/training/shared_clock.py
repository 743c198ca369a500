"""Clock of a run of several replicas: totals, cohorts and the end of it, from what all of them tell at meetings."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from seedbed.common.timestep import EpisodeEnd
from seedbed.server.learning.exchange.meeting import KINDS, Event, Report, Stop, Told
from seedbed.server.options.config import ServerConfig
from seedbed.server.run.state import RunState
from seedbed.server.run.task_facts import TaskFacts
from seedbed.server.shared.indices import INDEX_STRIDE
from seedbed.server.shared.vitals import Vitals
from seedbed.server.training.assemble import Parts
from seedbed.server.training.place import Place
from seedbed.server.training.run_clock import RunClock


class SharedClock(RunClock):
    """The same on all replicas as of their last meeting; `learning.exchange.meeting.Floor` of this one.

    The learner's thread changes totals and cohorts, at meetings; the inference thread only writes down what happened.
    """

    def __init__(
        self,
        config: ServerConfig,
        state: RunState,
        parts: Parts,
        vitals: Vitals,
        place: Place,
        facts: Sequence[TaskFacts] = (),
    ) -> None:
        """Starts counting from where the run stands, which is the same for all."""
        super().__init__(config, state, parts, vitals, facts)
        self._place = place
        self._events: deque[Event] = deque()
        self._reports: Sequence[Report] = (Report(),) * place.world
        self._wish = Stop.NONE
        self._agreed = Stop.NONE
        self._present: set[int] = set()

    def miss(self, rank: int) -> None:
        """See `Floor`: its environments owe no episode any more."""
        for index in sorted(index for index in self._present if index // INDEX_STRIDE == rank):
            self._note(Event(KINDS.index("left"), index), elsewhere=True)

    def tell(self, room: int) -> Told:
        """See `Floor`."""
        events = [self._events.popleft() for _ in range(min(room, len(self._events)))]
        report = Report(
            stop=self._wish,
            pending=len(self._events),
            agent_steps=self._parts.inference.num_steps,
            consumed=self._consumed - self._before.consumed,
            live_rows=self._vitals["live_rows"],
            lag_max=self._vitals["policy_lag_max"],
        )
        return Told(report, events)

    def hear(self, told: Sequence[Told]) -> None:
        """See `Floor`."""
        self._reports = [one.report for one in told]
        ours = self._reports[self._place.rank].agent_steps
        self._parts.inference.steps_elsewhere = int(sum(one.agent_steps for one in self._reports) - ours)
        self._agreed = max(self._agreed, Stop(int(max(one.stop for one in self._reports))))
        for rank, one in enumerate(told):
            for event in one.events:
                self._note(event, elsewhere=rank != self._place.rank)

    def _note(self, event: Event, *, elsewhere: bool) -> None:
        kind, environment = KINDS[int(event.kind)], int(event.environment)
        if kind == "joined":
            self._present.add(environment)
            super().joined([environment], [int(event.steps)])
        elif kind == "left":
            self._present.discard(environment)
            super().left([environment])
        elif kind == "lost":
            self.cohorts.lost(environment)
        else:
            end = EpisodeEnd(0, event.episode_return, int(event.steps), int(event.frames), False)
            self._window.add(end.episode_return, end.steps, end.frames)
            if self.tasks is not None:
                self.tasks.ended(environment, end, elsewhere=elsewhere)
            self.cohorts.ended(environment, event.episode_return)

    def _score(self, environment_index: int, end: EpisodeEnd) -> None:
        """See the base class; all learners hear of it."""
        self._tell("ended", environment_index, end.episode_return, end.steps, end.frames)

    def joined(self, indices: Sequence[int], tasks: Sequence[int]) -> None:
        """See the base class."""
        if self.tasks is not None:
            self.tasks.joined(indices, tasks)
        for index, task in zip(indices, tasks, strict=True):
            self._tell("joined", index, 0.0, task)  # in the place of an episode's steps

    def left(self, indices: Sequence[int]) -> None:
        """See the base class."""
        for index in indices:
            self._tell("left", index)

    def lost(self, index: int) -> None:
        """See the base class."""
        self._tell("lost", index)

    def _tell(self, kind: str, environment: int, *numbers: float) -> None:
        self._events.append(Event(KINDS.index(kind), environment, *numbers))

    def shows_score(self, environment_index: int) -> bool:
        """See the base class; the last environments of each replica do."""
        return self._config.fleet.shows_score(environment_index % INDEX_STRIDE)

    def stop_condition(self, state: RunState) -> str | None:
        """See the base class; the first replica decides, for its clock is that of the run."""
        if self._place.rank == 0:
            return super().stop_condition(state)
        return "reached what the first learner has" if self._agreed == Stop.REACHED else None

    def ends(self, stop: Stop) -> bool:
        """See the base class: when all of them know."""
        self._wish = max(self._wish, stop)
        return self._agreed != Stop.NONE

    @property
    def is_stopped_elsewhere(self) -> bool:
        """See the base class."""
        return self._agreed == Stop.ASKED

    @property
    def reports(self) -> Sequence[Report]:
        """Of all replicas, by rank."""
        return self._reports

    @property
    def _agent_steps(self) -> int:
        return self._before.agent_steps + int(sum(one.agent_steps for one in self._reports))

    @property
    def _all_consumed(self) -> int:
        return self._before.consumed + int(sum(one.consumed for one in self._reports))
