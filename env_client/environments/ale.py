"""The Arcade Learning Environment as it is installed: its import, its games and their files."""

from __future__ import annotations

import contextlib
import difflib
import sys
from collections.abc import Iterator
from typing import Any

from seedbed.common.errors import MissingExtraError, SpecError
from seedbed.common.extras import missing_extra

MULTI_PLAYER_GAMES = ("combat", "joust", "maze_craze", "warlords")
"""Games without a single-player mode; ale-py registers no environment for them either."""


def game_id(game: str) -> str:
    """The full id of a game: "Pong" -> "ALE/Pong-v5"."""
    return f"ALE/{game}-v5"


def is_game(environment_id: str) -> bool:
    """Whether the emulator is installed and has it."""
    try:
        rom_path(import_emulator()[0], environment_id)
    except (SpecError, MissingExtraError):
        return False
    return True


def rom_path(ale_py: Any, environment_id: str) -> Any:
    """The file of a game.

    Raises:
        SpecError: there is no such game.
    """
    names = (rom for rom in ale_py.roms.get_all_rom_ids() if rom not in MULTI_PLAYER_GAMES)
    roms = {game_id(rom.title().replace("_", "")): rom for rom in names}  # space_invaders -> SpaceInvaders
    if environment_id not in roms:
        near = difflib.get_close_matches(environment_id, roms, n=3)
        hint = f"did you mean {', '.join(near)}?" if near else "ids look like ALE/Pong-v5"
        raise SpecError(f"unknown game {environment_id!r}: {hint}")
    with contextlib.redirect_stdout(sys.stderr):  # ale-py prints a line when ALE_ROMS_DIR is set
        return ale_py.roms.get_rom_path(roms[environment_id])


@contextlib.contextmanager
def _hidden(package: str) -> Iterator[None]:
    """Makes a package look as if it were not installed, unless it is loaded already."""
    loaded = package in sys.modules
    if not loaded:
        sys.modules[package] = None  # type: ignore[assignment]  # see the import system's documentation of the cache
    try:
        yield
    finally:
        if not loaded:
            del sys.modules[package]


def import_emulator() -> tuple[Any, Any]:
    """The modules `ale_py` and `cv2`.

    Raises:
        MissingExtraError: one of them is not installed.
    """
    try:
        import cv2

        with _hidden("gymnasium"):  # ale-py loads it to register its own environments there: a third of this import
            import ale_py.roms
    except ImportError as error:
        raise missing_extra("atari", f"Atari games need it ({error})") from error
    cv2.setNumThreads(1)  # the client is one thread; a pool would only add switches between threads
    return ale_py, cv2
