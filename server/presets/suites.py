"""Suites: sets of tasks that are learnt together, by name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

_ATARI_57 = (
    "Alien",
    "Amidar",
    "Assault",
    "Asterix",
    "Asteroids",
    "Atlantis",
    "BankHeist",
    "BattleZone",
    "BeamRider",
    "Berzerk",
    "Bowling",
    "Boxing",
    "Breakout",
    "Centipede",
    "ChopperCommand",
    "CrazyClimber",
    "Defender",
    "DemonAttack",
    "DoubleDunk",
    "Enduro",
    "FishingDerby",
    "Freeway",
    "Frostbite",
    "Gopher",
    "Gravitar",
    "Hero",
    "IceHockey",
    "Jamesbond",
    "Kangaroo",
    "Krull",
    "KungFuMaster",
    "MontezumaRevenge",
    "MsPacman",
    "NameThisGame",
    "Phoenix",
    "Pitfall",
    "Pong",
    "PrivateEye",
    "Qbert",
    "Riverraid",
    "RoadRunner",
    "Robotank",
    "Seaquest",
    "Skiing",
    "Solaris",
    "SpaceInvaders",
    "StarGunner",
    "Surround",
    "Tennis",
    "TimePilot",
    "Tutankham",
    "UpNDown",
    "Venture",
    "VideoPinball",
    "WizardOfWor",
    "YarsRevenge",
    "Zaxxon",
)
"""The 57 games of Wang et al. 2016 (arXiv 1511.06581), on which scores are normalised by those of people."""

_ATARI_8 = ("Atlantis", "Boxing", "Breakout", "CrazyClimber", "Enduro", "Pong", "Seaquest", "SpaceInvaders")
"""The games of Actor-Mimic (Parisotto et al. 2016, arXiv 1511.06342), the first network to learn several."""

_MINATAR = ("Asterix", "Breakout", "Freeway", "Seaquest", "SpaceInvaders")
"""All games of MinAtar (Young and Tian 2019, arXiv 1903.03176); `pip install minatar`."""

SUITES: Mapping[str, Sequence[Mapping[str, Any]]] = {
    "atari57": [{"env": f"ALE/{game}-v5"} for game in _ATARI_57],
    "atari8": [{"env": f"ALE/{game}-v5"} for game in _ATARI_8],
    "minatar": [{"env": f"MinAtar/{game}-v1"} for game in _MINATAR],
}
"""Name -> tasks, as in a file of --tasks."""
