"""Protocols by which Atari games are played and evaluated, and what keyword arguments change of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from seedbed.common.errors import SpecError


@dataclass(frozen=True, slots=True, kw_only=True)
class AtariPreset:
    """One protocol of evaluation. Scores of different presets are not comparable.

    Attributes:
        repeat_action_probability: chance that the emulator repeats the last action instead of the given one.
        full_action_space: all 18 actions, or only those that do something in this game.
        max_noops: a real episode starts with 1 to this many no-op frames; 0 for none.
        life_loss_ends_episode: a lost life ends the learner's episode while the game goes on.
        frame_skip: emulator frames for which an action is repeated.
        max_frames: a real episode is truncated after so many emulator frames.
    """

    repeat_action_probability: float
    full_action_space: bool
    max_noops: int
    life_loss_ends_episode: bool
    frame_skip: int = 4
    max_frames: int = 108_000  # 30 minutes of play at 60 Hz: Machado et al. 2018, table 1


PRESETS = {
    # Machado et al., "Revisiting the Arcade Learning Environment", JAIR 2018, table 1; the protocol of ALE's v5 ids.
    "modern": AtariPreset(
        repeat_action_probability=0.25, full_action_space=True, max_noops=0, life_loss_ends_episode=False
    ),
    # Espeholt et al., "IMPALA", ICML 2018, table G.1 and the 30 no-op starts of its evaluation; single-game agents.
    "paper": AtariPreset(
        repeat_action_probability=0.0, full_action_space=False, max_noops=30, life_loss_ends_episode=True
    ),
}

_ALIASES = {
    "frameskip": "frame_skip",
    "noop_max": "max_noops",
    "terminal_on_life_loss": "life_loss_ends_episode",
    "max_num_frames_per_episode": "max_frames",
}
"""Names of ALE's own environments and of Gymnasium's wrapper -> names here."""


def read_kwargs(environment_id: str, preset: AtariPreset, kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """The fields that keyword arguments change, under their names here.

    Raises:
        SpecError: an unknown name, or a value of the wrong kind.
    """
    changes: dict[str, Any] = {}
    for given, value in kwargs.items():
        name = _ALIASES.get(given, given)
        if name not in (names := [field.name for field in fields(preset)]):
            raise SpecError(f"{environment_id}: expected keyword arguments out of {', '.join(names)}, got {given!r}")
        before = getattr(preset, name)
        kind = type(before)
        if kind is float and type(value) is int:
            value = float(value)
        sound = type(value) is kind and (kind is bool or value >= (1 if name in ("frame_skip", "max_frames") else 0))
        if not sound or (kind is float and value > 1):
            raise SpecError(f"{environment_id}: expected {name} to be like {before}, got {value!r:.100}")
        if value != before:
            changes[name] = value
    return changes
