"""Child processes that ignore signals which say stop: kept from them while they start, and ended with their parent.

A terminal sends Ctrl-C to all of them. Until a child has imported what it needs to ignore it, it would end with a
traceback, and its parent would start another.
"""

from __future__ import annotations

import atexit
import contextlib
import multiprocessing
import signal
from collections.abc import Iterator
from multiprocessing import resource_tracker

from seedbed.common.stop_signals import STOP_SIGNALS


@contextlib.contextmanager
def uninterrupted() -> Iterator[None]:
    """Processes that are started within the block inherit that signals which say stop are blocked.

    What this process is sent meanwhile reaches it at the end of the block.
    """
    resource_tracker.ensure_running()  # done for the first process that is spawned, it would lift the block
    before = signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@atexit.register
def _end_those_left() -> None:
    """Kills daemonic children that nobody has ended, as when an error breaks the orderly end off.

    This runs before multiprocessing's own end, which would ask them by SIGTERM, that they ignore, and then wait for
    them, while they wait for this process to be gone.
    """
    for process in multiprocessing.active_children():
        if process.daemon:
            process.kill()
