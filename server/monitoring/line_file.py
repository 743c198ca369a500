"""A file of lines that is only added to, by a run that goes on when the disk is full."""

from __future__ import annotations

import contextlib
import json
import logging
import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from seedbed.common.errors import ConfigError
from seedbed.server.shared.reading import open_regular, read_regular

logger = logging.getLogger(__name__)

_MAX_BYTES = 4 << 30
"""Of a file that is read as a whole; a month of lines has a tenth of it."""

_AS_THEY_ARE = "surrogateescape"  # bytes that are no text keep their length
_PLACE = ("agent_steps", "wall_s")  # of a line, in the course of its run


class LineFile:
    """Appends. One process writes; what was written can be read as soon as `write` returns.

    Attributes:
        size: bytes in it.
    """

    def __init__(self, path: Path) -> None:
        """Opens it.

        Raises:
            ConfigError: it is no file, or cannot be written.
        """
        self._path = path
        try:
            self._file = open_regular(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        except OSError as error:
            raise ConfigError(f"expected a file to add lines to, got {path} ({error})") from error
        self.size = os.fstat(self._file).st_size
        self._torn = False
        self._failed = False

    def write(self, lines: str) -> bool:
        """Adds whole lines. A disk that is full costs them, and one line in the log; returns whether they are there.

        What was written of them is taken back, so that readers never meet half a line in the midst.
        """
        data = ("\n" + lines if self._torn else lines).encode()
        written = 0
        try:
            while written < len(data):
                written += os.write(self._file, data[written:])
        except OSError as error:
            with contextlib.suppress(OSError):
                os.ftruncate(self._file, self.size)
                written = 0
            self._torn = self._torn or written > 0
            if not self._failed:
                logger.error("%s misses lines: %s", self._path, error)
            self._failed = True
            return False
        finally:
            self.size += written
        self._torn = self._failed = False
        return True

    def close(self) -> None:
        """Closes it."""
        os.close(self._file)


def read_lines(path: Path) -> str:
    """The text of such a file, which may be anybody's.

    Raises:
        ConfigError: it is no file, or larger than one of ours.
    """
    try:
        return read_regular(path, at_most=_MAX_BYTES).decode(errors=_AS_THEY_ARE)
    except OSError as error:
        raise ConfigError(f"expected a file of lines, got {path} ({error})") from error


def complete_lines(path: Path, text: str) -> Iterable[tuple[str, dict[str, Any]]]:
    """Each complete line as it stands and as it reads; a last one that is not complete is left out.

    Raises:
        ConfigError: one is no JSON object, or says not where in the run it stands.
    """
    for number, line in enumerate(text.splitlines(keepends=True), start=1):
        if not line.endswith("\n"):
            return
        entry = _entry(line)
        if entry is None:
            expected = f"a JSON object with {' and '.join(_PLACE)}"
            raise ConfigError(f"{path}, line {number}: expected {expected}, got {line!r:.100}")
        yield line, entry


def readable_lines(path: Path, text: str) -> Iterable[tuple[str, dict[str, Any]]]:
    """The same without the lines that a full disk has torn."""
    for line in text.splitlines(keepends=True):
        if line.endswith("\n") and (entry := _entry(line)) is not None:
            yield line, entry


def _entry(line: str) -> dict[str, Any] | None:
    """A line as it reads; None if it is none."""
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        return None
    whole = isinstance(value, dict) and all(isinstance(value.get(name), int | float) for name in _PLACE)
    return value if whole else None


Lines = Callable[[Path, str], Iterable[tuple[str, dict[str, Any]]]]


def truncate(
    path: Path, resume_step: int, resume_wall_s: float, lines: Lines = complete_lines
) -> Mapping[str, Any] | None:
    """Removes the lines beyond a step and time and an incomplete last one, all at once.

    Args:
        path: of a file whose lines have "agent_steps" and "wall_s"; it need not be there.
        resume_step, resume_wall_s: of the checkpoint from which a run goes on.
        lines: what reads them.

    Returns:
        The last line that stays.

    Raises:
        ConfigError: it cannot be read or written.
    """
    if not path.exists():
        return None
    text = read_lines(path)
    kept = [
        (line, entry)
        for line, entry in lines(path, text)
        if entry["agent_steps"] <= resume_step and entry["wall_s"] <= resume_wall_s
    ]
    stays = "".join(line for line, _ in kept)
    try:
        if text.startswith(stays):  # as nearly always; and it needs no room on a disk that may be full
            os.truncate(path, len(stays.encode(errors=_AS_THEY_ARE)))
        else:
            _replace(path, stays)
    except OSError as error:
        raise ConfigError(f"expected a file of lines that can be written, got {path} ({error.strerror})") from error
    return kept[-1][1] if kept else None


def _replace(path: Path, text: str) -> None:
    draft = path.with_suffix(".tmp")
    with draft.open("w", errors=_AS_THEY_ARE) as stream:
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())
    draft.replace(path)
