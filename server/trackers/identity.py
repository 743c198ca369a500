"""Identities of a run with its trackers, kept in its directory: a run that goes on goes on there too."""

from __future__ import annotations

import json
import secrets
import threading
from pathlib import Path
from typing import overload

from seedbed.server.shared.reading import read_regular

TRACKERS_FILE = "trackers.json"
_MAX_BYTES = 1 << 16
_writing = threading.Lock()  # each tracker has a thread of its own


@overload
def identity(directory: Path, tracker: str) -> str: ...
@overload
def identity(directory: Path, tracker: str, *, make: bool) -> str | None: ...
def identity(directory: Path, tracker: str, *, make: bool = True) -> str | None:
    """The name by which a tracker knows the run; a new one if it knows none and `make` says so."""
    known = _read(directory).get(tracker)
    if known is None and make:
        known = secrets.token_hex(4)
        keep_identity(directory, tracker, known)
    return known


def keep_identity(directory: Path, tracker: str, name: str) -> None:
    """Writes it down."""
    with _writing:
        draft = directory / f".{TRACKERS_FILE}"
        draft.write_text(json.dumps({**_read(directory), tracker: name}) + "\n")
        draft.replace(directory / TRACKERS_FILE)


def _read(directory: Path) -> dict[str, str]:
    try:
        known = json.loads(read_regular(directory / TRACKERS_FILE, at_most=_MAX_BYTES))
    except (OSError, ValueError, RecursionError):
        return {}
    names = known.items() if isinstance(known, dict) else ()
    return {tracker: name for tracker, name in names if isinstance(name, str)}
