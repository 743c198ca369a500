"""The page of errors and exit codes."""

from __future__ import annotations

from seedbed.common import errors
from seedbed.common.errors import SeedbedError

_HEAD = """# Errors and exit codes

Written by `make docs` from the code. An error that somebody can mend is one line on the terminal, without a stack
trace, and an exception of its class in Python (all are `seedbed.SeedbedError`). Everything else is a defect of
seedbed's, keeps its trace, and is exit code 1. [operations.md](../operations.md#stopping) says after
which codes a supervisor should start it again.

| exit code | |
|---|---|
| 0 | it has done what was asked, or was stopped in order |
| 1 | a defect, or learning has diverged |
| 130 | Ctrl-C before there was anything to stop in order, or before `seedbed eval` had all its episodes |
| 137 | killed |
| 141 | who read its output has left |
| 143 | ended by a second SIGTERM |
"""


def page() -> str:
    """The whole page."""
    classes = sorted(SeedbedError.__subclasses__(), key=lambda cls: (cls.exit_code, cls.__name__))
    ours = [cls for cls in classes if cls.__module__ == errors.__name__]
    rows = [
        f"| {cls.exit_code} | `{cls.__name__}` | {cls.status if 'status' in vars(cls) else ''} "
        f"| {'yes' if cls.retryable else 'no'} | {' '.join((cls.__doc__ or '').split())} |"
        for cls in ours
    ]
    table = ["| exit code | class | gRPC status | a client tries again | |", "|---|---|---|---|---|", *rows]
    return "\n".join([_HEAD, "## Errors", "", *table, ""])
