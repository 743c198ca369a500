"""How often each unroll is replayed: samples and inserts wait for one another (as in Reverb, arXiv 2102.04736).

With `deficit = samples_per_insert * inserts - samples`, where the first `min_size` inserts owe nothing, the deficit
stays within `+- tolerance`: an insert that would leave it above waits, and so does a sample that would leave it below.

No threads, no clock: whoever uses it holds a lock of its own.
"""

from __future__ import annotations

from seedbed.common.errors import UsageError


class RateLimiter:
    """Counts inserts and samples, of unrolls or of transitions.

    Attributes:
        inserts, samples: so far.
    """

    def __init__(
        self, *, samples_per_insert: float, min_size: int, tolerance: float, batch_size: int, insert_size: int = 1
    ) -> None:
        """Refuses what would bring both sides to a halt.

        Args:
            samples_per_insert: how often what is inserted is drawn on average.
            min_size: inserts before the first sample.
            tolerance: how far the deficit may be from 0, in samples.
            batch_size: samples are taken so many at a time.
            insert_size: inserts are made so many at a time, or fewer.

        Raises:
            UsageError: an option makes no sense, or there is a deficit at which neither side may go on.
        """
        if not samples_per_insert > 0 or min_size < 1:
            raise UsageError(
                "expected --samples-per-insert above 0 and --replay-min-size of at least 1, "
                f"got {samples_per_insert} and {min_size}"
            )
        # Inserts wait above tolerance - samples_per_insert * insert_size, a batch below batch_size - tolerance.
        smallest = (batch_size + samples_per_insert * insert_size) / 2
        if tolerance < smallest:
            raise UsageError(
                f"expected --replay-tolerance of at least {smallest:g} for --batch-size {batch_size} and "
                f"--samples-per-insert {samples_per_insert:g}, got {tolerance:g}: both sides could wait for ever"
            )
        self.inserts = 0
        self.samples = 0
        self._samples_per_insert = samples_per_insert
        self._min_size = min_size
        self._tolerance = tolerance
        self._insert_size = insert_size
        self._batch_size = batch_size

    def num_inserts_allowed(self) -> int:
        """How many times `insert_size` may be inserted now."""
        before_any_sample = self._min_size - self.inserts
        if before_any_sample > 0:
            return -(-before_any_sample // self._insert_size)
        return max(0, int((self._tolerance - self._deficit()) // (self._samples_per_insert * self._insert_size)))

    def may_sample(self, count: int) -> bool:
        """Whether a batch of `count` may be drawn now."""
        return self.inserts >= self._min_size and self._deficit() - count >= -self._tolerance

    def updates_per_insert(self) -> float:
        """Batches drawn for each insert since the first batch; 0 before."""
        return self.samples / self._batch_size / max(1, self.inserts - self._min_size)

    def _deficit(self) -> float:
        return self._samples_per_insert * (self.inserts - self._min_size) - self.samples


def roomy_tolerance(
    *, samples_per_insert: float, batch_size: int, num_environments: int, insert_size: int = 1
) -> float:
    """A tolerance for two batches, and for an unroll of every environment at once: they come together."""
    per_unroll = samples_per_insert * insert_size
    return max(2 * (batch_size + per_unroll), num_environments * per_unroll)
