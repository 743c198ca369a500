"""Signals that say stop: a person's, a terminal's that is gone, those of service managers and batch systems.

    SIGINT, SIGTERM             Ctrl-C; kill, containers, service managers
    SIGBREAK                    Ctrl-Break, a console that is closed: on Windows alone
    SIGHUP                      the terminal or the ssh connection is gone
    SIGXCPU, SIGUSR1, SIGUSR2   a batch system's warning that a job's time is over (Slurm's --signal, SGE's -notify)

Each of them ends a program that takes no notice of it. Ignored ones stay ignored, as `nohup` wants it.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Collection


def _existing(*names: str) -> tuple[signal.Signals, ...]:
    """Windows has few of them, and one of its own."""
    return tuple(signal.Signals[name] for name in names if name in signal.Signals.__members__)


URGENT = _existing("SIGINT", "SIGTERM", "SIGBREAK")
"""Those that mean it when they come a second time; the others come in company, of themselves and of these."""

STOP_SIGNALS = (*URGENT, *_existing("SIGHUP", "SIGXCPU", "SIGUSR1", "SIGUSR2"))


def on_stop(handler: Callable[[int, object], None]) -> None:
    """Has a function called for each, with its number; from the main thread.

    A shell starts background jobs with SIGINT ignored, so the urgent ones are taken in any case; the others unless they
    are ignored.
    """
    for number in STOP_SIGNALS:
        if number in URGENT or signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, handler)


def ignore_stop(*, but: Collection[signal.Signals] = ()) -> None:
    """Ignores them: in a child process whose parent decides when it ends, while all processes of a job get them.

    Args:
        but: those with which its parent ends it.
    """
    for number in set(STOP_SIGNALS) - set(but):
        signal.signal(number, signal.SIG_IGN)
