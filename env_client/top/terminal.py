"""A terminal while `seedbed top` has it: its second screen, keys as they are pressed, and all as it was at the end."""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
import termios
import tty
from collections.abc import Sequence
from typing import Any, Self

from seedbed.env_client.top.screen import Line, Style

_ENTER, _LEAVE = "\x1b[?1049h\x1b[?25l", "\x1b[?25h\x1b[?1049l"  # the other screen, without a cursor; and back
_HOME, _REST_OF_LINE, _REST_OF_SCREEN = "\x1b[H", "\x1b[K", "\x1b[J"
_PLAIN = "\x1b[0m"
_STYLES: dict[Style, str] = {"title": "\x1b[1m", "plain": "", "quiet": "\x1b[2m", "mark": "\x1b[33m"}


class Terminal:
    """Use it as a context."""

    def __init__(self) -> None:
        """Takes nothing yet."""
        self.keys: asyncio.Queue[str] = asyncio.Queue()
        self._file = sys.stdin.fileno()
        self._before: list[Any] = []

    @staticmethod
    def size() -> tuple[int, int]:
        """Columns and lines now."""
        columns, lines = shutil.get_terminal_size()
        return columns, lines

    def show(self, lines: Sequence[Line]) -> None:
        """Draws over what stood there; lines that are left over go."""
        text = "\r\n".join(f"{_STYLES[line.style]}{line.text}{_PLAIN}{_REST_OF_LINE}" for line in lines)
        sys.stdout.write(f"{_HOME}{text}{_REST_OF_SCREEN}")
        sys.stdout.flush()

    def __enter__(self) -> Self:
        self._before = termios.tcgetattr(self._file)
        tty.setcbreak(self._file)
        asyncio.get_running_loop().add_reader(self._file, self._read)
        sys.stdout.write(_ENTER)
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.get_running_loop().remove_reader(self._file)
        termios.tcsetattr(self._file, termios.TCSADRAIN, self._before)
        sys.stdout.write(_LEAVE)
        sys.stdout.flush()

    def _read(self) -> None:
        typed = os.read(self._file, 64)
        if not typed:
            self.keys.put_nowait("q")  # the terminal is gone
            asyncio.get_running_loop().remove_reader(self._file)
        for key in typed.decode(errors="ignore"):
            self.keys.put_nowait(key)
