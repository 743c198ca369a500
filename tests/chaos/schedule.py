"""Seed -> an endless schedule of faults. Pure: it knows neither processes nor the time."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

GRACE_S = 5.0
"""Of the server: how long a lost connection keeps its lease. Mostly enough for a killed client to start again."""

DETECTION_S = 15.0
"""For a peer that says nothing at all: 10 s until it is pinged, 5 s until the answer is missed."""


class Kind(StrEnum):
    """What the nemesis can do."""

    KILL_CLIENT = "kill -9 client"
    KILL_CLIENT_PAST_GRACE = "kill -9 client, back after its grace"
    FREEZE_CLIENT = "stop client briefly"
    FREEZE_PAST_GRACE = "reset and stop client past its grace"
    FREEZE_SILENTLY = "stop client past detection and grace"
    KILL_FRONTEND = "kill -9 frontend"
    FREEZE_FRONTEND = "stop frontend briefly"
    RESET = "reset connections"
    CUT = "end connections in order"
    BLACK_HOLE_TO_SERVER = "black hole to server"
    BLACK_HOLE_TO_CLIENT = "black hole to client"
    LOSE_ANSWERS = "black hole to client, then reset"
    LATENCY = "latency and jitter"
    SLICING = "slicing"
    TERMINATE_SERVER = "SIGTERM and restart server"
    KILL_SERVER = "kill -9 and restart server"
    STRANGER = "hostile stranger"


@dataclass(frozen=True, slots=True)
class Trait:
    """How often a kind comes, and how long it lasts.

    Attributes:
        weight: times in each round of the schedule.
        shortest_s, longest_s: until it is healed; both 0 where there is nothing to heal.
    """

    weight: int
    shortest_s: float = 0.0
    longest_s: float = 0.0


TRAITS = {
    Kind.KILL_CLIENT: Trait(2),
    Kind.KILL_CLIENT_PAST_GRACE: Trait(1, GRACE_S + 0.5, GRACE_S + 1.5),
    Kind.FREEZE_CLIENT: Trait(2, 0.2, 1.5),
    Kind.FREEZE_PAST_GRACE: Trait(1, GRACE_S + 1, GRACE_S + 2),
    Kind.FREEZE_SILENTLY: Trait(1, DETECTION_S + GRACE_S + 1, DETECTION_S + GRACE_S + 3),
    Kind.KILL_FRONTEND: Trait(2),
    Kind.FREEZE_FRONTEND: Trait(1, 0.2, 1.5),
    Kind.RESET: Trait(3),
    Kind.CUT: Trait(2),
    Kind.BLACK_HOLE_TO_SERVER: Trait(1, 0.2, 3.0),
    Kind.BLACK_HOLE_TO_CLIENT: Trait(1, 0.2, 3.0),
    Kind.LOSE_ANSWERS: Trait(2, 0.3, 1.5),
    Kind.LATENCY: Trait(1, 1.0, 4.0),
    Kind.SLICING: Trait(1, 1.0, 3.0),
    Kind.TERMINATE_SERVER: Trait(1),
    Kind.KILL_SERVER: Trait(1),
    Kind.STRANGER: Trait(3),
}


@dataclass(frozen=True, slots=True)
class Fault:
    """One entry of the schedule.

    Attributes:
        victim: 0 to 1, which of those that it can hit.
        duration_s: until it is healed.
        pause_s: until the next one.
    """

    kind: Kind
    victim: float
    duration_s: float
    pause_s: float


def make_schedule(seed: int, mean_pause_s: float) -> Iterator[Fault]:
    """Faults without end: in rounds, each of which holds every kind as often as its weight, shuffled."""
    generator = random.Random(seed)
    while True:
        kinds = [kind for kind, trait in TRAITS.items() for _ in range(trait.weight)]
        generator.shuffle(kinds)
        for kind in kinds:
            trait = TRAITS[kind]
            yield Fault(
                kind=kind,
                victim=generator.random(),
                duration_s=generator.uniform(trait.shortest_s, trait.longest_s),
                pause_s=generator.uniform(0, 2 * mean_pause_s),
            )
