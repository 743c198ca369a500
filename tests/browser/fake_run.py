"""A run that is made up: what the dashboard's server would say of it.

Pictures say which environment they show: every pixel of a tile is `tile_grey(environment)`, but for a bar that moves.
"""

from __future__ import annotations

import math
import struct
import time
import zlib
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

SCRIPT_CLIENT = "<img src=x onerror=alert(1)>"
TILE = 84


def tile_grey(environment: int) -> int:
    """The grey that fills an environment's tile: ten apart for neighbours."""
    return 20 + environment * 10 % 220


@dataclass
class FakeRun:
    """A run that does not exist.

    Attributes:
        num_environments: slots 0.. hold environments 100.. .
        kind: of the tiles: "image", "vector", "summary"; "both": an image and a vector.
        policy: kind of what /api/watch shows: "probabilities", "q_values", "normal", "mixed".
        frames: whether observations are shown.
        token: what is demanded.
        away: what requests are cut off without an answer, those whose path begins so; None: none.
        asked: (seconds, path) of each request.
    """

    num_environments: int = 12
    kind: str = "image"
    policy: str = "probabilities"
    frames: bool = True
    token: str | None = None
    away: str | None = None
    asked: list[tuple[float, str]] = field(default_factory=list)
    begun_s: float = field(default_factory=time.monotonic)

    @property
    def clients(self) -> list[str]:
        """Client of each slot: four of them, one whose name is markup."""
        names = ["gpu-box-7", "local-1", SCRIPT_CLIENT, "robot-lab-2"]
        return [names[slot * len(names) // self.num_environments] for slot in range(self.num_environments)]

    @property
    def elapsed_s(self) -> float:
        """Of the run."""
        return time.monotonic() - self.begun_s

    def state(self) -> dict[str, Any]:
        """/api/state."""
        slots = list(range(self.num_environments))
        tiles: dict[str, Any] = {
            "kind": self.parts[0]["kind"],
            "slots": slots,
            "environments": [100 + slot for slot in slots],
            "clients": self.clients if slots else [],
            "greedy": [slot % 4 == 0 for slot in slots],
            "states": ["grace" if slot == 5 else "stalled" if slot == 6 else "live" for slot in slots],
            "tasks": [0] * len(slots),
            "parts": self.parts,
        }
        if tiles["kind"] == "image":
            tiles |= {"width": TILE, "height": TILE, "columns": columns_of(len(slots))}
        return {
            "run": "pong",
            "environment": "ALE/Pong-v5",
            "algorithm": "vtrace",
            "phase": "serving",
            "tasks": ["ALE/Pong-v5"],
            "frames_shown": self.frames,
            "left_s": 2733.0,
            "now_s": 1640.1 + self.elapsed_s,
            "seq": int(self.elapsed_s * 10),
            "totals": {"agent_steps": 1483852, "episodes": 1611, "updates": 9281, "frames": 5935408},
            "rates": {"steps_per_s": 1653.0, "updates_per_s": 10.3, "rows_per_batch": 37.1},
            "gauges": {
                "return": -20.08,
                "lag": 3.0,
                "lag_max": 12,
                "queued_unrolls": 4,
                "loss": 0.0187,
                "entropy": None,
            },
            "stages_ms": {
                "accept": 0.06,
                "wait": 2.1,
                "inference": 6.4,
                "reply": 0.2,
                "remember": 1.9,
                "back_pressure": 0.3,
                "batch_wait": 11.0,
                "update": 52.0,
            },
            "busy": {"inference": 0.71, "learner": 0.88, "frontend-0": 0.12},
            "verdict": {
                "stage": "environments",
                "reason": "inference is busy 71 %, the learner 55 %, all cores 97 %",
                "change": "More cores or machines for environments",
            },
            "tiles": tiles,
        }

    @property
    def parts(self) -> list[dict[str, Any]]:
        """The observation arrays."""
        numbers = {"image": TILE * TILE, "vector": 8, "summary": 300}
        kinds = ["image", "vector"] if self.kind == "both" else [self.kind]
        return [{"name": f"/{kind}", "kind": kind, "numbers": numbers[kind]} for kind in kinds]

    def bars(self, slots: list[int], part: int) -> dict[str, Any]:
        """/api/bars."""
        kind = self.parts[part]["kind"]
        values = [self.values(slot, kind) for slot in slots]
        count = 1 if kind == "summary" else len(values[0])
        return {"kind": kind, "slots": slots, "values": values, "low": [-2.0] * count, "high": [2.0] * count}

    def values(self, slot: int, kind: str) -> list[float]:
        """What a slot shows where it shows no image."""
        if kind == "summary":
            return [-1.0, math.sin(self.elapsed_s + slot), 2.0]
        return [round(math.sin(self.elapsed_s + slot + i) * 2, 3) for i in range(8)]

    def picture(self, slots: list[int], scale: int) -> bytes:
        """/api/mosaic.png, as tall and wide as it has to be."""
        columns = columns_of(len(slots))
        atlas = np.zeros((max(1, math.ceil(len(slots) / columns)) * TILE, columns * TILE), np.uint8)
        for place, slot in enumerate(slots):
            tile = np.full((TILE, TILE), tile_grey(100 + slot), np.uint8)
            across = int(self.elapsed_s * 40 + slot * 17) % (TILE - 4)
            tile[2:6, across : across + 4] = 255
            row, column = divmod(place, columns)
            atlas[row * TILE : (row + 1) * TILE, column * TILE : (column + 1) * TILE] = tile
        return _png(atlas.repeat(scale, 0).repeat(scale, 1))

    def watched(self, slot: int) -> dict[str, Any]:
        """/api/watch."""
        trail = np.arange(120) / 12 + self.elapsed_s
        one = {"name": "action", "from": 0}
        policies: dict[str, dict[str, Any]] = {
            "probabilities": {"policy": [0.11, 0.19, 0.08, 0.3, 0.28, 0.04], "action": 3},
            "q_values": {"policy": [-0.4, 0.1, 0.9, -0.05], "action": 2},
            "normal": {"policy": [-0.3, 0.8, 0.2, 0.1], "action": {"action": [-0.31, 0.77]}},
            "mixed": {"policy": [0.4, 0.6, 0.3, 0.2], "action": {"/turn": [1], "/throttle": [0.2]}},
        }
        sizes = {"probabilities": [6], "q_values": [4], "normal": [2, 2]}
        parts = [{**one, "kind": self.policy, "sizes": sizes.get(self.policy)}]
        if self.policy == "mixed":
            parts = [{"name": "/turn", "kind": "probabilities", "from": 0, "sizes": [2]}]
            parts += [{"name": "/throttle", "kind": "normal", "from": 2, "sizes": [1, 1]}]
        shown = [{**part, **self._numbers(slot, part["kind"])} for part in self.parts]
        return {
            "environment": 100 + slot,
            "client": self.clients[slot],
            "kind": self.policy,
            "value": -2.13,
            "reward": 0,
            "return": -3,
            "step": 412,
            "version": 65,
            "trail": {
                "value": [round(float(x), 3) for x in np.sin(trail) - 2],
                "reward": [1 if i % 37 == 0 else -1 if i % 41 == 0 else 0 for i in range(120)],
            },
            "since_look": slot == 3,
            "policy_parts": parts,
            "parts": shown if self.frames else [],
            **policies[self.policy],
        }

    def _numbers(self, slot: int, kind: str) -> dict[str, Any]:
        return {} if kind == "image" else {"values": self.values(slot, kind), "low": [-2.0] * 8, "high": [2.0] * 8}

    def fleet(self) -> list[dict[str, Any]]:
        """/api/fleet."""
        found = []
        for number, client in enumerate(dict.fromkeys(self.clients)):
            found.append(
                {
                    "client": client,
                    "host": f"10.0.0.{8 + number}",
                    "task": "ALE/Pong-v5",
                    "groups": 2,
                    "environments": self.clients.count(client),
                    "state": "grace" if number == 1 else "live",
                    "since_s": 812 + number,
                    "steps_per_s": 210.0 - 40 * number,
                    "think_ms": [12.0, 14.5, 61.0, 9.25][number],
                    "rtt_ms": None,
                    "reconnects": number % 2,
                    "last_seen_s": 0.1,
                }
            )
        return found

    def curves(self) -> dict[str, Any]:
        """/api/curves."""
        frames = [i * 12_000 for i in range(1, 200)]
        returns = [None if i < 5 else round(-21 + 39 / (1 + math.exp(-(i - 90) / 18)), 3) for i in range(199)]
        wobble = [math.sin(i * 1.7) * math.cos(i * 0.31) for i in range(199)]
        columns = {
            "frames": frames,
            "wall_s": [i * 5.0 for i in range(1, 200)],
            "episode_return_mean": returns,
            "cohort_return_mean": [value if i % 40 == 39 else None for i, value in enumerate(returns)],
            "steps_per_s": [1653 + 60 * w for w in wobble],
            "policy_lag_mean": [3 + 0.4 * w for w in wobble],
            "policy_lag_max": [9 + round(2 * w) for w in wobble],
            "loss": [0.02 + 0.004 * w for w in wobble],
            "entropy": [1.79 - 1.1 * i / 199 + 0.03 * w for i, w in enumerate(wobble)],
            "gradient_norm": [0.5 + 0.1 * w for w in wobble],
        }
        return {"columns": columns, "newest_step": frames[-1] // 4}


def columns_of(num_tiles: int) -> int:
    return max(1, math.ceil(math.sqrt(num_tiles)))


def _png(grey: NDArray[np.uint8]) -> bytes:
    """A grey image `[height, width]` as PNG."""
    height, width = grey.shape
    rows = np.zeros((height, width + 1), np.uint8)  # each row begins with the number of its filter: none
    rows[:, 1:] = grey

    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", head)
        + chunk(b"IDAT", zlib.compress(rows.tobytes(), 1))
        + chunk(b"IEND", b"")
    )
