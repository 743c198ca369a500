"""Grants of leases to streams that ask for rows: at once, or when those that stand in their way have left.

Who asks again before the old stream has said that it writes no more waits: two streams would write the same rows.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Sequence

from seedbed.common.errors import SeedbedError
from seedbed.server.inference.frontend_links import FrontendLinks
from seedbed.server.inference.leases import Lease, LeaseKey, LeaseTable, StreamId
from seedbed.server.options.task_plan import TaskPlan
from seedbed.server.shared.id_channel import Control
from seedbed.server.shared.vitals import Vitals

logger = logging.getLogger(__name__)


class Openings:
    """Used by the inference thread.

    Args:
        leases: what is granted.
        links: to the frontends whose streams ask.
        plan: of tasks.
        vitals: count what becomes of leases.
        begin: called with a new lease, before its client hears of it.
        resume: called with one that goes on with another stream.
        end: called with one that a newer run of its client has replaced.
    """

    def __init__(
        self,
        leases: LeaseTable,
        links: FrontendLinks,
        plan: TaskPlan,
        vitals: Vitals,
        *,
        begin: Callable[[Lease], None],
        resume: Callable[[Lease], None],
        end: Callable[[Lease], None],
    ) -> None:
        self._leases = leases
        self._links = links
        self._plan = plan
        self._vitals = vitals
        self._begin, self._resume, self._end = begin, resume, end
        self._waiting: deque[Control] = deque()

    def open(self, request: Control) -> None:
        """Grants a lease now, or as soon as the streams that stand in its way have left."""
        key = LeaseKey(request["client_id"], request["run_id"], request["group"])
        try:
            self._leases.check_not_retired(key)
        except SeedbedError as error:
            self._refuse(request, error)
            return
        same = self._leases.find(key)
        in_the_way = [*self._leases.fenced_by(key), *([same] if same else [])]
        for lease in in_the_way:
            if lease is not same:
                self._leases.retire(lease.key.client_id, lease.key.run_id)
        attached = [lease for lease in in_the_way if lease.stream is not None]
        if attached:
            for lease in attached:
                self._fence(lease, "a newer stream of the same lease" if lease is same else "a newer run of the client")
            self._waiting.append(request)
            return
        for lease in in_the_way:
            if lease is not same:
                self._vitals.add("leases_fenced")
                self._end(lease)
        self._grant(request, key, same)

    def open_waiting(self, left: StreamId) -> None:
        """Looks again at all that wait, now that a stream has left; what that one asked for itself is void."""
        waiting, self._waiting = self._waiting, deque()
        for request in waiting:
            if StreamId(request["frontend"], request["stream"]) != left:
                self.open(request)

    def forget(self, frontend: int) -> None:
        """A frontend is gone, and the streams that wait in it."""
        self._waiting = deque(request for request in self._waiting if request["frontend"] != frontend)

    def _grant(self, request: Control, key: LeaseKey, same: Lease | None) -> None:
        stream = StreamId(request["frontend"], request["stream"])
        tasks = self._tasks(request, key, same)
        indices = self._indices(request, same, tasks)
        try:
            if same is not None:
                self._leases.resume(same, indices, stream)
                same.reconnects += 1
                self._vitals.add("leases_resumed")
                lease = same
                self._resume(lease)
            else:
                lease = self._leases.open(key, indices, stream, tasks)
                self._vitals.add("leases_opened")
                self._begin(lease)
        except SeedbedError as error:
            self._refuse(request, error)
            return
        lease.host = request.get("host", "")
        logger.info("%s: %d rows, %s", lease.who, lease.num_rows, "resumed" if same else "new lease")
        grant = {
            "type": "granted",
            "stream": stream.number,
            "lease": lease.first,
            "resumed": same is not None,
            "environment_indices": lease.environment_indices,
            "tasks": lease.tasks,
        }
        self._links.send(stream.frontend, grant)

    def _tasks(self, request: Control, key: LeaseKey, same: Lease | None) -> Sequence[int]:
        """The tasks that a Hello names; for rows without one that which this process plays, or the least played."""
        num_rows = len(request["environment_indices"])
        if same is not None and same.num_rows == num_rows:
            return same.tasks
        named = request.get("tasks") or [0] * num_rows
        if None not in named:
            return named
        ours = self._leases.tasks_of(key)
        rows = self._leases.rows_of_tasks(self._plan.num_tasks)
        task = ours.pop() if len(ours) == 1 else self._plan.choose(rows)
        return [task if one is None else one for one in named]

    def _indices(self, request: Control, same: Lease | None, tasks: Sequence[int]) -> Sequence[int]:
        """The environments that a Hello names, or those that are chosen for it."""
        named: list[int] = request["environment_indices"]
        if not request["assign_indices"]:
            return named
        if same is not None and same.num_rows == len(named):
            return same.environment_indices
        return self._leases.choose_indices(named, tasks, self._plan)

    def _refuse(self, request: Control, error: SeedbedError) -> None:
        name = type(error).__name__
        refusal = {"type": "refused", "stream": request["stream"], "error": name, "details": str(error)}
        self._links.send(request["frontend"], refusal)

    def _fence(self, lease: Lease, by: str) -> None:
        assert lease.stream is not None
        details = f"{by} took over the lease of {lease.key.client_id!r} group {lease.key.group}"
        self._links.send(lease.stream.frontend, {"type": "fence", "stream": lease.stream.number, "details": details})
