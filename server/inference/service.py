"""The inference thread: requests in, batches through the policy, actions out, unrolls on to the learner.

It owns the leases. A lease changes hands only here, between batches, and only after the stream that held it has said
that it will write no more: so no slot is twice in a batch, and no ghost writes into a successor's unroll.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from seedbed.common.timestep import EpisodeEnd, StepType
from seedbed.server.inference.batching import Batcher
from seedbed.server.inference.claims import Claims
from seedbed.server.inference.frontend_links import FrontendLinks
from seedbed.server.inference.insight import InsightWriter
from seedbed.server.inference.leases import ONE_TASK, Lease, LeaseTable, StreamId
from seedbed.server.inference.openings import Openings
from seedbed.server.inference.policy import Inference
from seedbed.server.inference.sinks import EpisodeListener, EpisodeTap, FleetListener, NoListener, NoTap, UnrollSink
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
        self._tap = tap or NoTap()
        self._claims = Claims(slots.num_slots, on_episode, lambda: vitals.add("episodes_refused"))
        self._clock = clock
        self.links = FrontendLinks()
        self._openings = Openings(
            leases, self.links, plan, vitals, begin=self._begin, resume=self._recover_request, end=self._end
        )
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
                self._openings.open({**message, "frontend": number})
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
            self._claims.claim(lease.first + row, index, EpisodeEnd(row, *rest), lease.key.client_id)

    def _note_cuts(self, leases: Sequence[Lease], last: set[int]) -> tuple[set[int], set[int]]:
        """Of the slots whose rows are LAST, real ends, and those that are truncated and none: the environment broke."""
        ended = self._claims.take_told_of(last)
        cut = {slot for slot in last - ended if self._slots.discount[slot] == 1}
        for lease in leases if cut else ():
            for slot in cut.intersection(range(lease.first, lease.first + lease.num_rows)):
                self._fleet.lost(lease.environment_indices[slot - lease.first])
        return ended, cut

    def _begin(self, lease: Lease) -> None:
        """A lease has been granted: whatever was in its slots is forgotten."""
        slots = slots_of(lease)
        self._slots.clear(lease.first, lease.num_rows)
        self._inference.begin(slots, lease.serial, lease.environment_indices, lease.tasks)
        lease.opened_s = self._clock()
        self._insight.begin(lease, slots)
        self._tap.begin(slots, lease.environment_indices, lease.tasks)
        self._claims.begin(slots)
        self._fleet.joined(lease.environment_indices, lease.tasks)

    def _recover_request(self, lease: Lease) -> None:
        """A frontend that died between copying rows in and sending their id has left a request that nobody knows."""
        first = lease.first
        if self._slots.accepted_seq[first] != self._slots.answered_seq[first] and first not in self._batcher:
            self._request(lease, self._clock())

    def _detach(self, stream: StreamId) -> None:
        """The stream writes no more."""
        lease = self._lease_of(stream)
        if lease is not None:
            self.leases.detach(lease, self._clock())
        self._openings.open_waiting(stream)

    def _expire(self, now_s: float) -> None:
        for lease in self.leases.expired(now_s):
            logger.info("%s did not come back", lease.who)
            self.vitals.add("leases_expired")
            self._end(lease)

    def _end(self, lease: Lease) -> None:
        """Frees the slots; what their open unrolls hold is cut, never spliced."""
        if lease.first in self._batcher:  # its last rows are there, and will not be answered
            slots = slots_of(lease)
            over = self._claims.told_of(slots.tolist())
            self._claims.judge(slots, self._slots.step_type[slots], self._slots.reward[slots], over)
        self._batcher.discard(lease.first)
        self._sink.cut(slots_of(lease))
        self.leases.end(lease)
        self._insight.end(slots_of(lease))
        self._tap.end(slots_of(lease))
        self._fleet.left(lease.environment_indices)

    def _lose_frontend(self, number: int) -> None:
        """Its streams are gone, and so are the leases that waited on it."""
        self.ready_frontends.discard(number)
        self._openings.forget(number)
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
