"""`seedbed VERB ...` in a Python that lacks what Windows lacks: for tests of clients there.

Modules, functions and signals that only Unix has are gone before anything of seedbed is imported, and `sys.platform`
says win32 from then on. What Windows has instead (its own event loop, its own processes) is not simulated.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import ctypes
import multiprocessing
import os
import platform
import selectors
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType

MODULES = ("fcntl", "grp", "pty", "pwd", "resource", "termios", "tty")
FUNCTIONS = (
    *("fork", "forkpty", "getpgid", "getpriority", "getsid", "getuid", "kill", "killpg", "memfd_create", "mkfifo"),
    *(
        "nice",
        "openpty",
        "pread",
        "sched_getaffinity",
        "setpriority",
        "setsid",
        "statvfs",
        "sysconf",
        "wait4",
        "waitid",
    ),
)
SIGNALS = ("SIGHUP", "SIGKILL", "SIGQUIT", "SIGUSR1", "SIGUSR2", "SIGXCPU", "SIGCHLD", "SIGPIPE", "SIGSTOP", "SIGCONT")

_LOADED = (asyncio, concurrent.futures, ctypes, multiprocessing, platform, selectors, socket, subprocess, tempfile)
"""Of the standard library: they choose by platform when they are imported."""


class _Missing:
    """Finds nothing where Unix has something."""

    def find_spec(self, name: str, path: object = None, target: ModuleType | None = None) -> ModuleSpec | None:
        if name in MODULES:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return None


def become_windows() -> None:
    """From now on this process lacks them."""
    import grpc.aio  # noqa: F401
    import gymnasium  # noqa: F401  # its own imports choose by platform, too
    import numpy  # noqa: F401

    platform.system(), platform.uname()  # kept by the module
    for name in MODULES:
        sys.modules.pop(name, None)
    sys.meta_path.insert(0, _Missing())
    for name in FUNCTIONS:
        if hasattr(os, name):
            delattr(os, name)
    members = {name: member for name, member in signal.Signals.__members__.items() if name not in SIGNALS}
    for name in SIGNALS:
        delattr(signal, name)
    signal.Signals = type("Signals", (), {"__members__": members, "__class_getitem__": members.__getitem__})  # type: ignore[assignment, misc]
    sys.platform = "win32"


def main(argv: Sequence[str]) -> None:
    """Runs a verb as that Python would."""
    become_windows()
    from seedbed.common import cli

    sys.exit(cli.main(list(argv)))


if __name__ == "__main__":
    main(sys.argv[1:])
