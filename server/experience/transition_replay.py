"""A replay that is drawn from transition by transition, uniformly: unrolls are only how they are stored.

Consecutive unrolls start `period` rows apart, so every transition of a lease is among the first `period` of exactly one
unroll. That unroll is chosen with a weight of how many valid ones it has there, then one of those; so each valid
transition that is held is drawn with the same probability. A batch has the row it leaves and the L - period rows
behind it: for n-step targets, L = period + n.

Shapes: B transitions of a train batch, P rows of a period.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from seedbed.common.errors import UsageError
from seedbed.server.experience.batch import TrainBatch, Windows
from seedbed.server.experience.open_unrolls import OpenUnrolls
from seedbed.server.experience.rate_limiter import RateLimiter
from seedbed.server.experience.replay import Places, Prioritisation, Replay
from seedbed.server.experience.stored_unrolls import StoredUnrolls
from seedbed.server.experience.unroll import Provenance


class TransitionReplay(Replay):
    """Counts valid transitions in its limiter; has no priorities but their number in each unroll."""

    def __init__(self, storage: StoredUnrolls, limiter: RateLimiter, *, seed: int) -> None:
        """Takes over a storage.

        Args:
            storage: of the unrolls.
            limiter: holds both sides to a ratio of transitions; inserts come at most `period` at a time.
            seed: of the draws.

        Raises:
            UsageError: the network has an agent state, which is known before the first row of an unroll alone.
        """
        if storage.layout.state_specs:
            raise UsageError("expected --core none where single transitions are drawn from a replay")
        super().__init__(storage, limiter, Prioritisation(alpha=1.0, beta=0.0, initial=_none), seed=seed)
        self._layout = storage.layout
        # Of each place, the transitions that may be drawn, and the rows that were received.
        self._valid = np.zeros((self.capacity, self._layout.period), bool)
        self._length = np.zeros(self.capacity, np.int64)
        self._num_valid = 0

    def update_priorities(self, batch: TrainBatch, priorities: Tensor) -> None:
        """See `Source`: there are none."""
        raise NotImplementedError("expected an algorithm without priorities, transitions are drawn uniformly")

    def metrics(self) -> Mapping[str, float]:
        """For the log."""
        with self._moved:
            updates_per_step = self._limiter.updates_per_insert()
        return {
            **super().metrics(),
            "replay_transitions": self._num_valid,
            "replay_updates_per_step": updates_per_step,
        }

    def check_valid(self) -> None:
        """See the base class."""
        super().check_valid()
        counts = self._valid.sum(1)
        assert (self._tree[np.arange(self.capacity)] == counts).all()
        assert counts.sum() == self._num_valid

    def set_state(self, state: Mapping[str, Any]) -> None:
        """See the base class."""
        super().set_state(state)
        held = [(place, source) for place, source in enumerate(self._provenance) if source is not None]
        if held:
            places, sources = zip(*held, strict=True)
            valid = self._storage.valid(np.array(places), sources)[: self._layout.period].T.cpu().numpy()
            self._note_valid(np.array(places), sources, valid)

    def _may_take(self, size: int) -> bool:
        return self._num_valid > 0 and super()._may_take(size)

    def _count(self, open_unrolls: OpenUnrolls, places: Places, sources: Sequence[Provenance]) -> int:
        """Valid transitions that are new: the writer waits by them, so by what the host knows of them."""
        return self._note_valid(places, sources, open_unrolls.valid(sources)[:, : self._layout.period])

    def _note_valid(self, places: Places, sources: Sequence[Provenance], valid: NDArray[np.bool_]) -> int:
        """Takes down which transitions `[N, P]` may be drawn; returns how many."""
        count = int(valid.sum())
        self._num_valid += count - int(self._valid[places].sum())
        self._valid[places] = valid
        self._length[places] = [source.length for source in sources]
        return count

    def _prioritise(self, places: Places, sources: Sequence[Provenance]) -> None:
        self._set_priorities(places, self._valid[places].sum(1).astype(np.float64))

    def _try_sample(self, batch_size: int) -> TrainBatch | None:
        self._read_notes()
        # The only unroll with anything to draw may be the one that is being overwritten.
        return super()._try_sample(batch_size) if self._tree.total > 0 else None

    def _gather(self, places: Places, sources: Sequence[Provenance]) -> TrainBatch:
        """One valid transition of each, uniformly, and the rows behind it."""
        valid, num_rows = self._valid[places], self._layout.num_rows - self._layout.period + 1
        rank = (self._random.random(len(places)) * valid.sum(1)).astype(np.int64)
        first_rows = (valid.cumsum(1) > rank[:, None]).argmax(1)
        lengths = np.minimum(self._length[places] - first_rows, num_rows)
        return self._storage.gather_windows(places, first_rows, num_rows, Windows(sources, first_rows, lengths))


def _none(batch: TrainBatch) -> Tensor:
    raise NotImplementedError("transitions have no priorities")
