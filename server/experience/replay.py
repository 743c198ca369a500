"""A prioritised replay of unrolls, between the inference thread and the learner.

The oldest unroll is overwritten by the newest. Each has a priority p, and is drawn with probability

    P(i) = p_i^alpha / sum_j p_j^alpha,      importance weight w_i = (N P(i))^-beta / max over the batch

(Schaul et al. 2016, arXiv 1511.05952; as in R2D2 and Ape-X the weights are normalised within the batch).

The writer copies an unroll in and leaves a note; all book-keeping, initial priorities included, is done by the reader
when it draws. So the writer never waits for the reader but through the rate limiter. A place may be overwritten while
it is read, or between a draw and the new priority: each has a *generation*, counted up before it is written. A batch
of which a generation has changed is drawn again, a priority of an older generation is ignored.

Shapes: B unrolls of a train batch.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import astuple, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from seedbed.server.experience.batch import Sample, TrainBatch
from seedbed.server.experience.open_unrolls import OpenUnrolls
from seedbed.server.experience.rate_limiter import RateLimiter
from seedbed.server.experience.source import Contents, Source
from seedbed.server.experience.stored_unrolls import Marker, StoredUnrolls
from seedbed.server.experience.sum_tree import SumTree
from seedbed.server.experience.transfer import Fetched, to_device
from seedbed.server.experience.unroll import Provenance

_NOTES_AT_ONCE = 256  # initial priorities computed together

Places = NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Prioritisation:
    """How unrolls are drawn.

    Attributes:
        alpha: exponent of priorities; 0 draws uniformly.
        beta: exponent of importance weights; 1 corrects in full.
        initial: priorities `[B]` of new unrolls from a batch without observations, agent state and sample.
    """

    alpha: float
    beta: float
    initial: Callable[[TrainBatch], Tensor]


class Replay(Source):
    """Unrolls are kept, and drawn by priority.

    Attributes:
        capacity: unrolls it holds at most.
        num_redrawn: batches drawn again because a part was overwritten on the way.
    """

    def __init__(
        self,
        storage: StoredUnrolls,
        limiter: RateLimiter,
        prioritisation: Prioritisation,
        *,
        seed: int,
    ) -> None:
        """Takes over a storage.

        Args:
            storage: of the unrolls.
            limiter: holds both sides to a ratio.
            prioritisation: how unrolls are drawn.
            seed: of the draws.
        """
        super().__init__()
        capacity = storage.capacity
        self.capacity = capacity
        self.num_redrawn = 0
        self._storage = storage
        self._limiter = limiter
        self._prioritisation = prioritisation
        self._random = np.random.default_rng(seed)
        self._tree = SumTree(capacity)
        self._provenance: list[Provenance | None] = [None] * capacity  # None: empty, or being written
        self._generation: Places = np.zeros(capacity, np.int64)
        self._notes: list[int] = []  # places whose contents have changed since the reader last looked
        self._next = 0
        self._size = 0
        self._written = Marker(storage.device)
        self._taken = Marker(storage.device)
        self._initial_priorities: deque[Fetched] = deque()
        self._new_priorities: deque[Fetched] = deque()

    def __len__(self) -> int:
        """Unrolls that it holds."""
        return self._size

    def insert(self, open_unrolls: OpenUnrolls, sources: Sequence[Provenance]) -> None:
        """Copies open unrolls over the oldest ones, whatever the rate limiter says."""
        count = len(sources)
        assert count <= self.capacity
        places = (self._next + np.arange(count)) % self.capacity
        self._next = (self._next + count) % self.capacity
        with self._moved:
            self._generation[places] += 1
            self._notes += places.tolist()
            for place in places.tolist():
                self._provenance[place] = None
        self._taken.wait()
        self._storage.copy_in(open_unrolls, np.array([source.slot for source in sources], np.int64), places)
        self._written.record()
        inserted = self._count(open_unrolls, places, sources)
        with self._moved:
            for place, source in zip(places.tolist(), sources, strict=True):
                self._provenance[place] = source
            self._notes += places.tolist()
            self._size = min(self._size + count, self.capacity)
            self._limiter.inserts += inserted
            self._moved.notify_all()

    def sample(self, batch_size: int) -> TrainBatch:
        """Draws a batch, whatever the rate limiter says, and counts it."""
        while (batch := self._try_sample(batch_size)) is None:
            self.num_redrawn += 1
        with self._moved:
            self._limiter.samples += batch_size
            self._moved.notify_all()
        return batch

    def update_priorities(self, batch: TrainBatch, priorities: Tensor) -> None:
        """What the unrolls of a batch are worth now, `[B]`; those that were overwritten since are left alone.

        Of an unroll that is twice in the batch the last priority counts. One that is not finite counts as 0. From a
        device they come while the next update is made, and the batch of that one has been drawn without them.
        """
        assert batch.sample is not None, "a batch that this replay drew"
        places, generations = batch.sample.places, batch.sample.generations

        def use(values: NDArray[np.float32]) -> None:
            with self._moved:
                alive = self._generation[places] == generations
            self._set_priorities(places[alive], values[alive].astype(np.float64))

        self._new_priorities.append(Fetched(priorities, use))
        _arrived(self._new_priorities, late=int(priorities.device.type != "cpu"))

    def drain(self) -> list[Provenance]:
        """Nothing: what is in a replay has reached the learner, drawn yet or not."""
        return []

    @property
    def contents(self) -> Contents:
        """All of it."""
        return self

    def metrics(self) -> Mapping[str, float]:
        """For the log."""
        with self._moved:
            inserts, samples = self._limiter.inserts, self._limiter.samples
        return {
            "replay_unrolls": self._size,
            "replay_samples_per_insert": samples / max(1, inserts),
            "replay_batches_redrawn": self.num_redrawn,
        }

    def check_valid(self) -> None:
        """Raises AssertionError unless the parts agree; while nobody writes or reads."""
        self._read_notes()
        _arrived(self._initial_priorities)
        held = np.array([source is not None for source in self._provenance])
        places = np.arange(self.capacity)
        assert held.sum() == self._size == min(self._generation.sum(), self.capacity)
        assert not self._tree[places[~held]].any(), "an empty place has a priority"
        assert ((places - self._next) % self.capacity)[held].min(initial=self.capacity) >= self.capacity - self._size
        assert np.isclose(self._tree.total, self._tree[places].sum())

    def _room(self) -> int:
        return min(self._limiter.num_inserts_allowed(), self.capacity)

    def _may_take(self, size: int) -> bool:
        return self._limiter.may_sample(size)

    def _insert(self, open_unrolls: OpenUnrolls, sources: Sequence[Provenance]) -> None:
        self.insert(open_unrolls, sources)

    def _take(self, size: int) -> TrainBatch:
        return self.sample(size)

    def _count(self, open_unrolls: OpenUnrolls, places: Places, sources: Sequence[Provenance]) -> int:
        """What unrolls that have just been copied in are for the rate limiter (inference thread)."""
        return len(sources)

    def _prioritise(self, places: Places, sources: Sequence[Provenance]) -> None:
        """Gives unrolls that are drawn from for the first time their priorities, from a device one draw late."""

        def use(values: NDArray[np.float32]) -> None:
            self._set_priorities(places, values.astype(np.float64))

        batch = self._storage.gather_recorded(places, sources)
        self._initial_priorities.append(Fetched(self._prioritisation.initial(batch), use))

    def _gather(self, places: Places, sources: Sequence[Provenance]) -> TrainBatch:
        """What is drawn of these unrolls."""
        return self._storage.gather(places, sources)

    def _try_sample(self, batch_size: int) -> TrainBatch | None:
        """One draw; None if a part of it was overwritten meanwhile."""
        self._read_notes()
        places, weights = self._draw(batch_size)
        with self._moved:
            if not set(self._notes).isdisjoint(places.tolist()):
                return None  # drawn by what an earlier unroll there was worth
            generations = self._generation[places]
            sources = [self._provenance[place] for place in places.tolist()]
        intact = [source for source in sources if source is not None]
        if len(intact) < batch_size:
            return None
        self._written.wait()
        batch = self._gather(places, intact)
        self._taken.record()
        with self._moved:
            if (self._generation[places] != generations).any():
                return None
        return replace(batch, sample=Sample(places, generations, to_device(weights, batch.valid.device)))

    def _draw(self, batch_size: int) -> tuple[Places, NDArray[np.float32]]:
        """Places and importance weights `[B]`."""
        if self._tree.total > 0:
            places = self._tree.sample(batch_size, self._random)
            probabilities = self._tree[places] / self._tree.total
        else:  # nothing is worth anything, as when all errors were not finite: rather any than none
            held = np.array([place for place, source in enumerate(self._provenance) if source is not None])
            places = self._random.choice(held, batch_size)
            probabilities = np.full(batch_size, 1 / self._size)
        weights = (self._size * probabilities) ** -self._prioritisation.beta
        return places, (weights / weights.max()).astype(np.float32)

    def _read_notes(self) -> None:
        """Initial priorities for what has come; 0 for what is being overwritten."""
        _arrived(self._initial_priorities)
        with self._moved:
            if not self._notes:
                return
            noted, self._notes = self._notes, []
            places = np.unique(np.array(noted, np.int64))
            sources = [self._provenance[place] for place in places.tolist()]
        present = np.array([source is not None for source in sources], bool)
        self._tree[places[~present]] = np.zeros(np.count_nonzero(~present))
        here, whole = [source for source in sources if source is not None], places[present]
        self._written.wait()
        for start in range(0, len(whole), _NOTES_AT_ONCE):
            part = slice(start, start + _NOTES_AT_ONCE)
            self._prioritise(whole[part], here[part])
        self._taken.record()
        if self._storage.device.type == "cpu" or not self._tree.total > 0:  # or there is nothing to draw yet
            _arrived(self._initial_priorities)

    def _set_priorities(self, places: Places, priorities: NDArray[np.float64]) -> None:
        usable = np.where(np.isfinite(priorities), priorities, 0.0)
        self._tree[places] = np.where(usable > 0, np.maximum(usable, 0.0) ** self._prioritisation.alpha, 0.0)

    def get_state(self) -> dict[str, Any]:
        """All but the contents of `tensors`, as JSON can hold it; while nobody writes or reads."""
        self._read_notes()
        _arrived(self._initial_priorities)
        _arrived(self._new_priorities)
        return {
            "next": self._next,
            "size": self._size,
            "inserts": self._limiter.inserts,
            "samples": self._limiter.samples,
            "random": self._random.bit_generator.state,
            "generation": self._generation.tolist(),
            "priority": self._tree[np.arange(self.capacity)].tolist(),
            "provenance": [None if source is None else astuple(source) for source in self._provenance],
        }

    def set_state(self, state: Mapping[str, Any]) -> None:
        """The inverse of `get_state`, before anybody writes or reads; `tensors` must have their contents already."""
        self._next, self._size = state["next"], state["size"]
        self._limiter.inserts, self._limiter.samples = state["inserts"], state["samples"]
        self._random.bit_generator.state = state["random"]
        self._generation[:] = state["generation"]
        self._tree[np.arange(self.capacity)] = np.array(state["priority"])
        self._provenance[:] = [None if numbers is None else Provenance(*numbers) for numbers in state["provenance"]]

    def check_state(self, state: Mapping[str, Any]) -> None:
        """See `Contents`: files may be anybody's."""
        numbers = [state[name] for name in ("next", "size", "inserts", "samples")]
        generation, priority = np.array(state["generation"], np.int64), np.array(state["priority"], np.float64)
        sources = [None if source is None else Provenance(*map(int, source)) for source in state["provenance"]]
        lengths = [source.length for source in sources if source is not None]
        np.random.default_rng(0).bit_generator.state = state["random"]
        sizes = (generation.shape, priority.shape, (len(sources),))
        sound = np.isfinite(priority) & (priority >= 0)
        if (
            not all(type(number) in (int, float) for number in numbers)
            or not 0 <= state["next"] < self.capacity
            or not 0 <= state["size"] <= self.capacity
            or sizes != ((self.capacity,),) * 3
            or not sound.all()
            or not all(0 < length <= self._storage.layout.num_rows for length in lengths)
        ):
            raise ValueError(f"expected the state of a replay of {self.capacity} unrolls, got another")

    @property
    def tensors(self) -> Mapping[str, Tensor]:
        """The unrolls, by a name that is stable."""
        return self._storage.tensors


def _arrived(fetched: deque[Fetched], late: int = 0) -> None:
    """Uses what was fetched, in order, but for so many of the newest."""
    while len(fetched) > late:
        fetched.popleft().arrive()
