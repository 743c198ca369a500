"""Curves of training, counted alike for both sides: agent steps, and the mean return of the last 100 episodes."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence

Curve = tuple[tuple[int, float], ...]

WINDOW = 100
"""Episodes that ended last. A curve begins when there are so many: a mean of fewer passes any threshold by luck."""


def curve_of_episodes(episodes: Iterable[tuple[int, float]]) -> Curve:
    """One point for each episode from the hundredth on.

    Args:
        episodes: (agent steps when it ended, return), in the order of their ends.
    """
    window: deque[float] = deque(maxlen=WINDOW)
    points = []
    for steps, value in episodes:
        window.append(value)
        if len(window) == WINDOW:
            points.append((int(steps), sum(window) / WINDOW))
    return tuple(points)


def steps_to(curve: Sequence[tuple[int, float]], threshold: float) -> int | None:
    """Agent steps at the first point that is not below the threshold; None if there is none."""
    return next((steps for steps, value in curve if value >= threshold), None)


def thinned(curve: Sequence[tuple[int, float]], points: int = 200) -> Curve:
    """About so many points, evenly out of all, the last among them."""
    stride = -(-len(curve) // points) or 1
    return tuple(reversed(curve[::-1][::stride]))
