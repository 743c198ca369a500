"""A filesystem of a few megabytes that can really be full."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest


@contextlib.contextmanager
def small_disk(folder: Path, size: str) -> Iterator[Path]:
    """Mounts one there, which needs the right to; skips the test without.

    Args:
        folder: is made.
        size: as `mount` takes it, "8m".
    """
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    with contextlib.suppress(FileNotFoundError):
        if subprocess.run(mount, capture_output=True, check=False).returncode == 0:
            try:
                yield folder
            finally:
                subprocess.run(["umount", "--lazy", str(folder)], check=True)
            return
    pytest.skip("no right to mount a filesystem")


def fill(disk: Path) -> Path:
    """To the last byte; returns the file that does it."""
    ballast = disk / "ballast"
    for piece in (65_536, 1):
        with contextlib.suppress(OSError), ballast.open("ab", buffering=0) as stream:
            while True:
                stream.write(b"x" * piece)
    return ballast
