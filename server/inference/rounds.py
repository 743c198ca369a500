"""Who acts in the present round, who waits for the next, and when is it over? A pure decision on facts and a clock.

For algorithms that learn only from what their newest parameters did. A round is one unroll of every environment:

    members act        a lease whose unroll is complete waits; whoever arrives in the midst of a round waits too
    the round is over  when no member is still expected
    learn, publish     nobody acts meanwhile
    the next begins    its members are all that waited

The first round waits for company: until every row that is expected has come, or nobody new has come for some seconds.
What would be learnt from the first group of the first client alone, all epochs of it, is noise.

A member whose client lost a stream is not expected, nor is one that has kept all others waiting too long: they leave
the round with what they have, and come back as newcomers. So nobody who comes, goes, dies or freezes stops a round.
"""

from __future__ import annotations

from collections.abc import Set as AbstractSet


class Rounds:
    """Leases, each named by its first slot, of which every one acts, waits or is not in the round."""

    def __init__(self, patience_s: float, settle_s: float = 0.0) -> None:
        """No round has begun.

        Args:
            patience_s: how long no member may ask before those still expected are given up.
            settle_s: how long nobody new may come before the first round begins without those still expected.
        """
        self._patience_s = patience_s
        self._settle_s = settle_s
        self._has_begun = False
        self._members: set[int] = set()
        self._waiting: dict[int, None] = {}  # in the order in which they came
        self._moved_s = 0.0

    @property
    def members(self) -> frozenset[int]:
        """Leases that act in this round."""
        return frozenset(self._members)

    @property
    def num_waiting(self) -> int:
        """Leases that wait for the next round."""
        return len(self._waiting)

    def is_waiting(self, lease: int) -> bool:
        """Whether a lease waits for the next round."""
        return lease in self._waiting

    def ask(self, lease: int, now_s: float) -> bool:
        """A lease wants an answer. Returns whether it is a member, and so may have one in this round."""
        if lease not in self._members:
            if not self._has_begun and lease not in self._waiting:
                self._moved_s = now_s
            self._waiting[lease] = None
            return False
        self._moved_s = now_s
        return True

    def wait(self, lease: int) -> None:
        """A member's unroll is complete."""
        self._members.remove(lease)
        self._waiting[lease] = None

    def forget(self, lease: int) -> None:
        """A lease has ended, or a member is given up."""
        self._members.discard(lease)
        self._waiting.pop(lease, None)

    def is_over(self, live: AbstractSet[int], now_s: float, *, all_here: bool = True) -> bool:
        """Whether it is time to learn and to begin the next round.

        Args:
            live: leases whose clients can go on.
            now_s: monotonic time.
            all_here: whether every row that is expected has come and waits; asked of the first round alone.
        """
        if not self._has_begun and not all_here and now_s < self._moved_s + self._settle_s:
            return False
        if now_s < self._moved_s + self._patience_s and not live.isdisjoint(self._members):
            return False
        return bool(self._members) or not live.isdisjoint(self._waiting)

    def begin(self, live: AbstractSet[int], now_s: float) -> list[int]:
        """Begins the next round with all that wait and are live; the others go on waiting.

        Returns:
            Its members, first come first.
        """
        assert not self._members, "members of the last round have completed their unrolls or are given up"
        begun = [lease for lease in self._waiting if lease in live]
        for lease in begun:
            del self._waiting[lease]
        self._members = set(begun)
        self._moved_s = now_s
        self._has_begun = True
        return begun
