"""How often something that breaks may be started again before it is given up."""

from __future__ import annotations

from collections import deque


class RestartBudget:
    """So many restarts within a sliding window of time.

    Args:
        max_restarts: how many there may be in any window.
        window_s: how long one is remembered.
    """

    def __init__(self, max_restarts: int, window_s: float) -> None:
        self.max_restarts = max_restarts
        self.window_s = window_s
        self._times_s: deque[float] = deque()

    def spend(self, now_s: float) -> int | None:
        """Asks for one more restart.

        Args:
            now_s: a monotonic time.

        Returns:
            How many there were within the window, this one counted; None if that would be too many.
        """
        while self._times_s and self._times_s[0] <= now_s - self.window_s:
            self._times_s.popleft()
        if len(self._times_s) == self.max_restarts:
            return None
        self._times_s.append(now_s)
        return len(self._times_s)
