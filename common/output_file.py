"""Files that a command writes for people: refused before the work where there is no place for them, in a sentence."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from seedbed.common.errors import UsageError


def check_output(option: str, file: Path) -> None:
    """Refuses a file that could not be written in the end: the work would be lost.

    Args:
        option: that named it.
        file: is written later, by `writing`. Its folder must be there.

    Raises:
        UsageError: there is no such folder, or nothing can be written there.
    """
    folder = file.absolute().parent
    if not folder.is_dir():
        raise UsageError(f"{option}: expected a folder that is there, got {file.parent}")
    place = file if file.exists() else folder
    if file.is_dir() or not os.access(place, os.W_OK):
        raise UsageError(f"{option}: expected a file that can be written, got {file}")


@contextlib.contextmanager
def writing(option: str, file: Path) -> Iterator[None]:
    """Says in a sentence why a file cannot be written within.

    Raises:
        UsageError: names the option, the file and the reason.
    """
    try:
        yield
    except OSError as error:
        raise UsageError(
            f"{option}: expected a file that can be written, got {file} ({error.strerror or error})"
        ) from error
