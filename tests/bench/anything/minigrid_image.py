"""MiniGrid's empty room as an image: its own space holds a sentence, which has no numbers."""

from __future__ import annotations

from typing import Any


def make() -> Any:
    """MiniGrid-Empty-8x8-v0, of which 7 x 7 cells are seen: kind, colour and state of each."""
    import gymnasium
    from minigrid.wrappers import ImgObsWrapper

    return ImgObsWrapper(gymnasium.make("MiniGrid-Empty-8x8-v0"))
