"""A clock of a run that stands still."""

from __future__ import annotations


class StoppedClock:
    """Always the same share of the run is over.

    Attributes:
        consumed: transitions so far.
    """

    def __init__(self, share: float = 0.0) -> None:
        self.consumed = 0
        self._share = share

    def share_done(self) -> float:
        """As it was given."""
        return self._share

    def consume(self, num_transitions: int) -> None:
        """Counts them."""
        self.consumed += num_transitions
