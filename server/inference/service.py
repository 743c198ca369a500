"""The inference thread: requests in, batches through the policy, actions out, unrolls on to the learner.

It owns the leases. A lease changes hands only here, between batches, and only after the stream that held it has said
that it will write no more: so no slot is twice in a batch, and no ghost writes into a successor's unroll.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from seedbed.common.errors import SeedbedError
from seedbed.common.timestep import EpisodeEnd, StepType
from seedbed.server.inference.batching import Batcher
from seedbed.server.inference.claims import Claims
from seedbed.server.inference.frontend_links import FrontendLinks
from seedbed.server.inference.insight import InsightWriter
from seedbed.server.inference.leases import ONE_TASK, Lease, LeaseKey, LeaseTable, StreamId
from seedbed.server.inference.policy import Inference
from seedbed.server.inference.sinks import EpisodeListener, EpisodeTap, FleetListener, NoListener, UnrollSink
from seedbed.server.options.task_plan import TaskPlan
from seedbed.server.shared.id_channel import Control
from seedbed.server.shared.insight import Sight
from seedbed.server.shared.slots import SlotTable
from seedbed.server.shared.vitals import Vitals

logger = logging.getLogger(__name__)

_NOBODY: tuple[set[int], set[int]] = (set(), set())
_MAX_SLEEP_S = 0.25  # how late expiries and the stop request may be noticed


class InferenceService:
    """The loop of the inference thread."""

    def __init__(
        self,
        *,
        slots: SlotTable,
        leases: LeaseTable,
        batcher: Batcher,
        inference: Inference,
        sink: UnrollSink,
        on_episode: EpisodeListener,
        vitals: Vitals,
        fleet: FleetListener | None = None,
        insight: InsightWriter | None = None,
        plan: TaskPlan = ONE_TASK,
        tap: EpisodeTap | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._slots = slots
        self.leases = leases
        self._batcher = batcher
        self._inference = inference
        self._sink = sink
        self._fleet = fleet or NoListener()
        self._insight = insight or InsightWriter(Sight.of(slots.num_slots), slots)
        self._tap = tap
        self._claims = Claims(slots.num_slots, on_episode, lambda: vitals.add("episodes_refused"))
        self._ended: set[int] = set()  # slots whose row, not answered yet, is the real end of an episode
        self._plan = plan
        self._clock = clock
        self._waiting_opens: deque[Control] = deque()
        self.links = FrontendLinks()
        self.stopping = False
        self.ready_frontends: set[int] = set()
        self.vitals = vitals

    def run(self) -> None:
        """Serves until `stop`."""
        while not self.stopping:
            self.turn(self._patience_s())

    def turn(self, timeout_s: float) -> None:
        """Listens, waiting that long at most, and answers what is ready until nothing is."""
        self._listen(timeout_s)
        while self._is_ready() and not self.stopping:
            self._answer_batch()
            self._listen(0.0)

    def stop(self) -> None:
        """Asks `run` to return soon; safe from any thread and from signal handlers."""
        self.stopping = True

    def end_all(self) -> None:
        """Ends every lease, cutting its unrolls. Only after `run` has returned."""
        while self.leases.used_rows:
            for lease in list(self.leases.all()):
                self._end(lease)

    def _answer_batch(self) -> None:
        leases = [self._lease(first) for first in self._batcher.take()]
        slots = np.concatenate([slots_of(lease) for lease in leases])
        taken_s = self._clock()
        waits_s = taken_s - self._slots.accepted_s[[lease.first for lease in leases]]  # now: the next Steps change it
        last = self._slots.step_type[slots] == StepType.LAST
        ended, lost = self._note_cuts(leases, set(slots[last].tolist())) if last.any() else _NOBODY
        self._claims.judge(slots, self._slots.step_type[slots], self._slots.reward[slots], ended | lost)
        watched = self._insight.is_watched(taken_s)
        answered = self._inference.act(slots, watched)
        answered_s = self._clock()
        if watched:
            self._insight.think([lease.first for lease in leases])  # before its times are written over
        if self._tap is not None:
            self._tap.take(slots, ended, lost)
        self._reply(leases, answered_s)
        complete = self._inference.remember(answered)
        if watched:
            inputs, shown = answered.inputs, answered.decision.shown
            self._insight.show(slots, inputs.step_type, inputs.reward, answered.policy_version, shown)
        remembered_s = self._clock()
        if len(complete):
            self.vitals["hands_over"] = 1
            self._sink.hand_over(complete)
            self.vitals["hands_over"] = 0
            self.vitals.observe("back_pressure", self._clock() - remembered_s)
        self.vitals.observe_batch(len(slots))
        self.vitals.observe_each("wait", waits_s)
        self.vitals.observe("inference", answered_s - taken_s)
        self.vitals.observe("remember", remembered_s - answered_s)
        self.vitals["agent_steps"] = self._inference.num_steps

    def _reply(self, leases: list[Lease], now_s: float) -> None:
        by_frontend: dict[int, list[int]] = {}
        for lease in leases:
            self._slots.answered_s[lease.first] = now_s
            self._slots.answered_seq[lease.first] = self._slots.accepted_seq[lease.first]
            if lease.stream is not None:
                by_frontend.setdefault(lease.stream.frontend, []).append(lease.first)
        for number, ids in by_frontend.items():
            self.links.send(number, ids)

    def _listen(self, timeout_s: float) -> None:
        """Handles what has arrived; then, with no batch and no message in hand, frontends and leases that are gone.

        Under load a turn never ends, so what must happen now and then happens here.
        """
        received, given_up = self.links.poll(timeout_s)
        self.vitals["turn_s"] = now_s = self._clock()
        for number, messages in received:
            for message in messages:
                if isinstance(message, int):
                    self._request(self._lease(message), now_s)
                else:
                    self._on_control(number, message)
        for number in given_up:
            self._lose_frontend(number)
        self._expire(now_s)
        leases = self.leases
        self.vitals["live_rows"], self.vitals["used_rows"] = leases.live_rows, leases.used_rows
        self.vitals["clients"] = leases.num_clients
        self._insight.write_fleet(leases, now_s)

    def _request(self, lease: Lease, now_s: float) -> None:
        """The rows of a lease are filled and want an answer."""
        self._batcher.add(lease.first, lease.num_rows, now_s)

    def _on_control(self, number: int, message: Control) -> None:
        match message["type"]:
            case "open":
                self._open({**message, "frontend": number})
            case "detach":
                self._detach(StreamId(number, message["stream"]))
            case "goodbye":
                lease = self._lease_of(StreamId(number, message["stream"]))
                if lease is not None:
                    self._end(lease)
            case "episode_ends":
                self._note_episodes(self._lease(message["lease"]), message)
            case "ready":
                self.ready_frontends.add(number)

    def _note_episodes(self, lease: Lease, message: Control) -> None:
        """Once for each Steps: it is sent again when a frontend dies between telling of its ends and accepting it."""
        if message["seq"] <= lease.last_ends_seq:
            return
        lease.last_ends_seq = message["seq"]
        for row, *rest in message["ends"]:
            index = lease.environment_indices[row]
            self._ended.add(lease.first + row)
            self._claims.claim(lease.first + row, index, EpisodeEnd(row, *rest), lease.key.client_id)

    def _note_cuts(self, leases: Sequence[Lease], last: set[int]) -> tuple[set[int], set[int]]:
        """Of the slots whose rows are LAST, real ends, and those that are truncated and none: the environment broke."""
        ended = last & self._ended
        cut = {slot for slot in last - self._ended if self._slots.discount[slot] == 1}
        self._ended -= last
        for lease in leases if cut else ():
            for slot in cut.intersection(range(lease.first, lease.first + lease.num_rows)):
                self._fleet.lost(lease.environment_indices[slot - lease.first])
        return ended, cut

    def _open(self, request: Control) -> None:
        """Grants a lease now, or as soon as the streams that stand in its way have left."""
        key = LeaseKey(request["client_id"], request["run_id"], request["group"])
        try:
            self.leases.check_not_retired(key)
        except SeedbedError as error:
            self._refuse(request, error)
            return
        same = self.leases.find(key)
        in_the_way = [*self.leases.fenced_by(key), *([same] if same else [])]
        for lease in in_the_way:
            if lease is not same:
                self.leases.retire(lease.key.client_id, lease.key.run_id)
        attached = [lease for lease in in_the_way if lease.stream is not None]
        if attached:
            for lease in attached:
                self._fence(lease, "a newer stream of the same lease" if lease is same else "a newer run of the client")
            self._waiting_opens.append(request)
            return
        for lease in in_the_way:
            if lease is not same:
                self.vitals.add("leases_fenced")
                self._end(lease)
        self._grant(request, key, same)

    def _grant(self, request: Control, key: LeaseKey, same: Lease | None) -> None:
        stream = StreamId(request["frontend"], request["stream"])
        tasks = self._tasks(request, key, same)
        indices = self._indices(request, same, tasks)
        try:
            if same is not None:
                self.leases.resume(same, indices, stream)
                same.reconnects += 1
                self.vitals.add("leases_resumed")
                lease = same
                self._recover_request(lease)
            else:
                lease = self.leases.open(key, indices, stream, tasks)
                self.vitals.add("leases_opened")
                self._slots.clear(lease.first, lease.num_rows)
                self._inference.begin(slots_of(lease), lease.serial, lease.environment_indices, lease.tasks)
                lease.opened_s = self._clock()
                self._insight.begin(lease, slots_of(lease))
                if self._tap is not None:
                    self._tap.begin(slots_of(lease), lease.environment_indices, lease.tasks)
                self._ended.difference_update(range(lease.first, lease.first + lease.num_rows))
                self._claims.begin(slots_of(lease))
                self._fleet.joined(lease.environment_indices, lease.tasks)
        except SeedbedError as error:
            self._refuse(request, error)
            return
        lease.host = request.get("host", "")
        logger.info(
            "%s group %d: %d rows, %s", key.client_id, key.group, lease.num_rows, "resumed" if same else "new lease"
        )
        grant = {
            "type": "granted",
            "stream": stream.number,
            "lease": lease.first,
            "resumed": same is not None,
            "environment_indices": lease.environment_indices,
            "tasks": lease.tasks,
        }
        self.links.send(stream.frontend, grant)

    def _tasks(self, request: Control, key: LeaseKey, same: Lease | None) -> Sequence[int]:
        """The tasks that a Hello names; for rows without one that which this process plays, or the least played."""
        num_rows = len(request["environment_indices"])
        if same is not None and same.num_rows == num_rows:
            return same.tasks
        named = request.get("tasks") or [0] * num_rows
        if None not in named:
            return named
        ours = self.leases.tasks_of(key)
        rows = self.leases.rows_of_tasks(self._plan.num_tasks)
        task = ours.pop() if len(ours) == 1 else self._plan.choose(rows)
        return [task if one is None else one for one in named]

    def _indices(self, request: Control, same: Lease | None, tasks: Sequence[int]) -> Sequence[int]:
        """The environments that a Hello names, or those that are chosen for it."""
        named: list[int] = request["environment_indices"]
        if not request["assign_indices"]:
            return named
        if same is not None and same.num_rows == len(named):
            return same.environment_indices
        return self.leases.choose_indices(named, tasks, self._plan)

    def _refuse(self, request: Control, error: SeedbedError) -> None:
        name = type(error).__name__
        refusal = {"type": "refused", "stream": request["stream"], "error": name, "details": str(error)}
        self.links.send(request["frontend"], refusal)

    def _recover_request(self, lease: Lease) -> None:
        """A frontend that died between copying rows in and sending their id has left a request that nobody knows."""
        first = lease.first
        if self._slots.accepted_seq[first] != self._slots.answered_seq[first] and first not in self._batcher:
            self._request(lease, self._clock())

    def _fence(self, lease: Lease, by: str) -> None:
        assert lease.stream is not None
        details = f"{by} took over the lease of {lease.key.client_id!r} group {lease.key.group}"
        self.links.send(lease.stream.frontend, {"type": "fence", "stream": lease.stream.number, "details": details})

    def _detach(self, stream: StreamId) -> None:
        """The stream writes no more."""
        lease = self._lease_of(stream)
        if lease is not None:
            self.leases.detach(lease, self._clock())
        waiting, self._waiting_opens = self._waiting_opens, deque()
        for request in waiting:
            if StreamId(request["frontend"], request["stream"]) != stream:
                self._open(request)

    def _expire(self, now_s: float) -> None:
        for lease in self.leases.expired(now_s):
            logger.info("%s group %d did not come back", lease.key.client_id, lease.key.group)
            self.vitals.add("leases_expired")
            self._end(lease)

    def _end(self, lease: Lease) -> None:
        """Frees the slots; what their open unrolls hold is cut, never spliced."""
        if lease.first in self._batcher:  # its last rows are there, and will not be answered
            slots = slots_of(lease)
            over = self._ended.intersection(slots.tolist())
            self._claims.judge(slots, self._slots.step_type[slots], self._slots.reward[slots], over)
        self._batcher.discard(lease.first)
        self._sink.cut(slots_of(lease))
        self.leases.end(lease)
        self._insight.end(slots_of(lease))
        if self._tap is not None:
            self._tap.end(slots_of(lease))
        self._fleet.left(lease.environment_indices)

    def _lose_frontend(self, number: int) -> None:
        """Its streams are gone, and so are the leases that waited on it."""
        self.ready_frontends.discard(number)
        self._waiting_opens = deque(request for request in self._waiting_opens if request["frontend"] != number)
        for lease in self.leases.on_frontend(number):
            assert lease.stream is not None
            self._detach(lease.stream)

    def _is_ready(self) -> bool:
        # This thread is the one that computes: when it can ask, the device is idle.
        return self._batcher.is_ready(self._clock(), live_rows=self._awaited_rows(), device_idle=True)

    def _awaited_rows(self) -> int:
        """Rows of all leases that may ask before something else happens."""
        return self.leases.live_rows

    def _patience_s(self) -> float:
        """How long to sleep when nothing arrives."""
        times = (self._batcher.deadline_s(), self.leases.next_expiry_s())
        deadlines = [time_s - self._clock() for time_s in times if time_s is not None]
        return max(0.0, min([_MAX_SLEEP_S, *deadlines]))

    def _lease(self, first: int) -> Lease:
        lease = self.leases.get(first)
        assert lease is not None, "a frontend sends ids of its leases only, and in order"
        return lease

    def _lease_of(self, stream: StreamId) -> Lease | None:
        return next((lease for lease in self.leases.all() if lease.stream == stream), None)


def slots_of(lease: Lease) -> NDArray[np.int64]:
    """`[E]`, the slots of a lease."""
    return np.arange(lease.first, lease.first + lease.num_rows)
