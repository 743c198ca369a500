"""Learners of one run as threads of a test: linked by gloo on loopback, with a store in memory."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable
from typing import TypeVar

from torch import distributed as dist

from seedbed.server.learning.exchange.link import Link

_T = TypeVar("_T")
END_S = 60.0


def together(world: int, work: Callable[[Link], _T], *, timeout_s: float = 20.0) -> list[_T | BaseException]:
    """What each of them returns, or raises, by rank; a thread that returns has left the others.

    Args:
        world: how many.
        work: of each.
        timeout_s: of a collective.
    """
    store = dist.PrefixStore(uuid.uuid4().hex, dist.HashStore())
    found: list[_T | BaseException | None] = [None] * world

    def run(rank: int) -> None:
        try:
            found[rank] = work(Link(store, rank, world, timeout_s=timeout_s))
        except BaseException as error:
            found[rank] = error.with_traceback(None)

    threads = [threading.Thread(target=run, args=(rank,), daemon=True) for rank in range(world)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(END_S)
        assert not thread.is_alive(), "a learner hangs"
    return [result for result in found if result is not None]


def well(results: list[_T | BaseException]) -> list[_T]:
    """The results; the first error is raised."""
    for result in results:
        if isinstance(result, BaseException):
            raise result
    return [result for result in results if not isinstance(result, BaseException)]
