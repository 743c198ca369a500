"""The process of a training or an evaluation that Python started; it ends in order with the process that did."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from collections.abc import Sequence

from seedbed.common.logs import run_main, stderr_is_kept

_PR_SET_PDEATHSIG = 1  # linux/prctl.h


def main(argv: Sequence[str]) -> int:
    """Runs a command of the server.

    Args:
        argv: process id of whoever started this one, then the command line.
    """
    _end_with(int(argv[0]))
    stderr_is_kept()
    from seedbed.server.__main__ import main as run  # frontends are spawned, and import this file again

    return run(argv[1:])


def _end_with(parent: int) -> None:
    """A kernel of a notebook that is killed must leave no training behind: SIGTERM, as if somebody had stopped it."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:  # gone before
        sys.exit(0)


if __name__ == "__main__":
    sys.exit(run_main(main, sys.argv[1:]))
