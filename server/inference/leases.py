"""Who holds which slots now. Pure bookkeeping: the caller brings the clock, sends the messages and cuts the unrolls.

A lease belongs to (client_id, run_id, group) and holds a contiguous range of slots, named by the first. Its life:

    open ----> live <----> in grace ----> ended
                 |   resume   |  expire
                 +------------+---- release, or fenced by a newer run_id

A live lease has a stream. When the stream is lost the lease is in grace: it keeps its slots, its agent state and its
open unroll, but nobody waits for it. The same client may resume it until the grace time is over.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from seedbed.common.errors import CapacityError, FencedError, InvalidMessageError
from seedbed.server.inference.environment_indices import EnvironmentIndices
from seedbed.server.options.task_plan import TaskPlan
from seedbed.server.shared.recent import Recent

ONE_TASK = TaskPlan()
_MAX_RETIRED = 4096  # replaced incarnations that are remembered


@dataclass(frozen=True, slots=True)
class LeaseKey:
    """Who asks: a client process, its incarnation, and which of its streams."""

    client_id: str
    run_id: int
    group: int


@dataclass(frozen=True, slots=True)
class StreamId:
    """One stream of one frontend process."""

    frontend: int
    number: int


@dataclass(slots=True, eq=False)
class Lease:
    """Slots `first .. first + num_rows - 1`, held by one group of one incarnation of one client.

    Attributes:
        serial: counts leases; tells successive holders of the same slots apart.
        environment_indices: stable index of each row's environment.
        tasks: which of the server's tasks each row plays.
        stream: who to answer, or None in grace.
        expires_s: when a lease in grace ends.
        last_ends_seq: the last Steps whose ends of episodes were counted.
        host: address of the client's machine, for people.
        opened_s: when it was granted.
        reconnects: how often it went on with another stream.
    """

    key: LeaseKey
    serial: int
    first: int
    environment_indices: tuple[int, ...]
    tasks: tuple[int, ...]
    stream: StreamId | None
    expires_s: float | None = None
    last_ends_seq: int = 0
    host: str = ""
    opened_s: float = 0.0
    reconnects: int = 0

    @property
    def num_rows(self) -> int:
        """E of this lease."""
        return len(self.environment_indices)

    @property
    def is_live(self) -> bool:
        """Whether it has a stream; if not, it is in grace."""
        return self.stream is not None

    @property
    def who(self) -> str:
        """The client and its group, for the log."""
        return f"{self.key.client_id} group {self.key.group}"


class LeaseTable:
    """All leases over S slots.

    Attributes:
        live_rows: rows of leases that have a stream.
        used_rows: rows of all leases.
    """

    def __init__(self, *, num_slots: int, grace_s: float, indices: range | None = None) -> None:
        """Grants nothing yet.

        Args:
            num_slots: S.
            grace_s: how long a lease outlives its stream.
            indices: environment indices that are chosen for clients; None: any.
        """
        self.num_slots = num_slots
        self.grace_s = grace_s
        self.live_rows = 0
        self.used_rows = 0
        self._live_clients: Counter[str] = Counter()
        self._by_first: dict[int, Lease] = {}
        self._by_key: dict[LeaseKey, Lease] = {}
        self._indices = EnvironmentIndices(indices)
        self._serials = 0
        self._retired: Recent[tuple[str, int]] = Recent(_MAX_RETIRED)

    def keep(self, indices: Collection[int], clients: Collection[str]) -> None:
        """See `EnvironmentIndices.keep`."""
        self._indices.keep(indices, clients)

    @property
    def num_clients(self) -> int:
        """Clients that hold a live lease."""
        return len(self._live_clients)

    def __len__(self) -> int:
        """Leases, live and in grace."""
        return len(self._by_first)

    def all(self) -> list[Lease]:
        """Every lease, live and in grace."""
        return list(self._by_first.values())

    def get(self, first: int) -> Lease | None:
        """The lease named by its first slot."""
        return self._by_first.get(first)

    def find(self, key: LeaseKey) -> Lease | None:
        """The lease of exactly this group of this incarnation."""
        return self._by_key.get(key)

    def fenced_by(self, key: LeaseKey) -> list[Lease]:
        """Leases of older incarnations of the same client."""
        return [
            lease
            for lease in self._by_first.values()
            if lease.key.client_id == key.client_id and lease.key.run_id != key.run_id
        ]

    def retire(self, client_id: str, run_id: int) -> None:
        """An incarnation has been replaced by a newer one and must not come back, or the two would take turns."""
        self._retired.add((client_id, run_id))

    def check_not_retired(self, key: LeaseKey) -> None:
        """Refuses an incarnation that has been replaced.

        Raises:
            FencedError: it has.
        """
        if (key.client_id, key.run_id) in self._retired:
            raise FencedError(
                f"expected the newest run of client {key.client_id!r}, got one that another has replaced: "
                "two live clients must not share a client_id"
            )

    def on_frontend(self, frontend: int) -> list[Lease]:
        """Live leases whose stream ends at one frontend process."""
        return [lease for lease in self._by_first.values() if lease.stream and lease.stream.frontend == frontend]

    def rows_of_tasks(self, num_tasks: int) -> list[int]:
        """Rows that play each task."""
        counts = Counter(task for lease in self._by_first.values() for task in lease.tasks)
        return [counts[task] for task in range(num_tasks)]

    def tasks_of(self, key: LeaseKey) -> set[int]:
        """What the other leases of the same process play."""
        same = (key.client_id, key.run_id)
        leases = (lease for lease in self._by_first.values() if (lease.key.client_id, lease.key.run_id) == same)
        return {task for lease in leases for task in lease.tasks}

    def choose_indices(self, wishes: Sequence[int], tasks: Sequence[int] = (), plan: TaskPlan = ONE_TASK) -> list[int]:
        """See `EnvironmentIndices.choose`."""
        return self._indices.choose(wishes, tasks, plan)

    def open(
        self, key: LeaseKey, environment_indices: Sequence[int], stream: StreamId, tasks: Sequence[int] = ()
    ) -> Lease:
        """Grants a new lease.

        Raises:
            InvalidMessageError: it names an environment index twice.
            IndexTakenError: a live lease holds one of the indices.
            CapacityError: no range of free slots is long enough, or a lease in grace holds one of the indices.
        """
        assert key not in self._by_key, "an existing lease is resumed, not opened"
        self._indices.check(environment_indices, key.client_id)
        first = self._find_free(len(environment_indices))
        self._serials += 1
        tasks = tuple(tasks) or (0,) * len(environment_indices)
        lease = Lease(key, self._serials, first, tuple(environment_indices), tasks, stream)
        self._by_first[first] = lease
        self._by_key[key] = lease
        self._indices.give(lease)
        self.used_rows += lease.num_rows
        self._count_live(lease, 1)
        return lease

    def resume(self, lease: Lease, environment_indices: Sequence[int], stream: StreamId) -> None:
        """Gives a lease in grace its new stream.

        Raises:
            InvalidMessageError: the client now names other environments than when it was granted.
        """
        assert lease.stream is None, "the old stream must be gone first, or two streams would write the same rows"
        if lease.environment_indices != tuple(environment_indices):
            raise InvalidMessageError(
                f"expected the environments {list(lease.environment_indices)} of the lease that is resumed, "
                f"got {list(environment_indices)}"
            )
        lease.stream, lease.expires_s = stream, None
        self._count_live(lease, 1)

    def detach(self, lease: Lease, now_s: float) -> None:
        """The stream is lost: the lease is in grace from now on."""
        if lease.stream is not None:
            lease.stream, lease.expires_s = None, now_s + self.grace_s
            self._count_live(lease, -1)

    def end(self, lease: Lease) -> None:
        """Frees the slots."""
        if lease.stream is not None:
            self._count_live(lease, -1)
        self.used_rows -= lease.num_rows
        del self._by_first[lease.first]
        del self._by_key[lease.key]
        self._indices.free(lease)

    def expired(self, now_s: float) -> list[Lease]:
        """Leases whose grace time is over."""
        if self.used_rows == self.live_rows:  # asked at every batch, and nearly always none is in grace
            return []
        return [lease for lease in self._by_first.values() if lease.expires_s is not None and lease.expires_s <= now_s]

    def next_expiry_s(self) -> float | None:
        """When the next lease in grace ends, or None."""
        if self.used_rows == self.live_rows:
            return None
        return min((lease.expires_s for lease in self._by_first.values() if lease.expires_s is not None), default=None)

    def check_valid(self) -> None:
        """Asserts every invariant; for tests."""
        leases = sorted(self._by_first.values(), key=lambda lease: lease.first)
        ends = [0, *(lease.first + lease.num_rows for lease in leases)]
        starts = [*(lease.first for lease in leases), self.num_slots]
        assert all(end <= start for end, start in zip(ends, starts, strict=True)), "slots overlap"
        assert self.used_rows == sum(lease.num_rows for lease in leases)
        assert self.live_rows == sum(lease.num_rows for lease in leases if lease.stream)
        assert set(self._live_clients) == {lease.key.client_id for lease in leases if lease.stream}
        assert all((lease.stream is None) == (lease.expires_s is not None) for lease in leases)
        assert {id(lease) for lease in leases} == {id(lease) for lease in self._by_key.values()}
        self._indices.check_valid(leases)

    def _count_live(self, lease: Lease, sign: int) -> None:
        self.live_rows += sign * lease.num_rows
        self._live_clients[lease.key.client_id] += sign
        if not self._live_clients[lease.key.client_id]:
            del self._live_clients[lease.key.client_id]

    def _find_free(self, num_rows: int) -> int:
        """First fit over the gaps between leases. Opening a lease is rare, so a sort is cheap enough."""
        start = 0
        for lease in sorted(self._by_first.values(), key=lambda lease: lease.first):
            if lease.first - start >= num_rows:
                return start
            start = lease.first + lease.num_rows
        if self.num_slots - start >= num_rows:
            return start
        raise CapacityError(
            f"expected {num_rows} free slots in a row, the server has {self.num_slots} of which {self.used_rows} "
            f"are leased (raise --num-slots, or come back later)"
        )
