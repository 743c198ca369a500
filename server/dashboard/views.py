"""Answers of the dashboard as data: what is asked for is read from shared memory and from the run's metrics, at once.

docs/dashboard.md describes every field.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Mapping, Sequence
from hashlib import blake2s
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from seedbed.common.errors import UsageError
from seedbed.server.dashboard.bars import Bars
from seedbed.server.dashboard.curves import Curves
from seedbed.server.dashboard.facts import DashboardFacts
from seedbed.server.dashboard.figures import Figures
from seedbed.server.dashboard.observations import Observations
from seedbed.server.dashboard.pictures import PartKind, compose, part_kind, plan_atlas, to_pixels, white_of
from seedbed.server.dashboard.png import encode_png
from seedbed.server.dashboard.policy_numbers import numbers_of
from seedbed.server.shared.fleet import Fleet
from seedbed.server.shared.insight import TRAIL_STEPS

_MAX_SCALE = 2
_MAX_ACTION_NUMBERS = 64


class Picture(NamedTuple):
    """An atlas as PNG, and how its tiles lie."""

    png: bytes
    columns: int
    width: int
    height: int
    slots: list[int]


class _Part:
    """One observation array as it is shown."""

    def __init__(self, facts: DashboardFacts, number: int) -> None:
        self.spec = facts.spec.observations[number]
        self.kind: PartKind = part_kind(self.spec)
        self.observations = Observations(facts.slots, facts.insight, number)
        self.bars = Bars(self.spec)
        self.white = 0

    def describe(self) -> dict[str, Any]:
        """For the list of parts."""
        return {"name": self.spec.name, "kind": self.kind, "numbers": self.spec.num_elements}


class Views:
    """All of them. One thread asks for pictures, another for everything else: no part is of both."""

    def __init__(self, facts: DashboardFacts) -> None:
        """Reads nothing yet."""
        self._facts = facts
        self._figures = Figures(facts)
        self._curves = Curves(facts.run.metrics)
        self._fleet = Fleet(facts.insight, facts.slots)
        self._secret = secrets.token_bytes(16)
        shown = [number for number, spec in enumerate(facts.spec.observations) if spec.role == "value"]
        self._parts = [_Part(facts, number) for number in shown]

    @property
    def knows_rates(self) -> bool:
        """Whether `state` has rates yet: two looks at the vitals are needed."""
        return self._figures.num_snapshots > 1

    def look(self) -> None:
        """Takes in the newest figures."""
        self._figures.look()
        self._curves.read()
        self._fleet.read()

    def state(self, *, near: bool = True) -> dict[str, Any]:
        """`/api/state`, for somebody on this machine or not."""
        run = self._facts.run
        return {
            "run": run.name,
            "environment": self._facts.spec.environment,
            "algorithm": run.algorithm,
            "version": run.version,
            "tasks": list(run.tasks),
            "frames_shown": self._facts.frames,
            **self._figures.to_json(self._curves.newest),
            "limits": {
                "max_steps": run.max_steps,
                "max_seconds": run.max_seconds,
                "target_return": run.target_return,
            },
            "tiles": self._tiles(near),
        }

    def _tiles(self, near: bool) -> dict[str, Any]:
        """What there is to see, in the order of the environments' indices."""
        slots = self.present()
        insight, now_s = self._facts.insight, time.monotonic()
        holders = self._fleet.holders
        leases = [holders.get(int(insight.lease[slot])) for slot in slots]
        environments = insight.environment[slots].tolist()
        first = self._parts[0]
        size: dict[str, Any] = {"kind": first.kind}
        if first.kind == "image":
            atlas = plan_atlas(first.spec, len(slots))
            size |= {"width": atlas.width, "height": atlas.height, "columns": atlas.columns}
        return {
            **size,
            "slots": slots.tolist(),
            "environments": environments,
            "clients": [lease and self._name_of(lease, near) for lease in leases],
            "states": [lease and self._fleet.state_of(lease, now_s) for lease in leases],
            "greedy": [index in self._facts.run.greedy_environments for index in environments],
            "tasks": [self._facts.run.task_of(index) for index in environments],
            "parts": [part.describe() for part in self._parts],
        }

    def present(self) -> NDArray[np.int64]:
        """Slots that are held, in the order of their environments' indices."""
        slots = np.flatnonzero(self._facts.insight.lease)
        return slots[np.argsort(self._facts.insight.environment[slots], kind="stable")]

    def picture(self, slots: Sequence[int] | None, scale: int, part: int) -> Picture:
        """`/api/mosaic.png`.

        Args:
            slots: which; None: all that are held.
            scale: 2 doubles every pixel.
            part: number of the observation array among those that are shown.

        Raises:
            UsageError: something else is asked for than there is.
        """
        shown = self._part(part)
        if shown.kind != "image":
            raise UsageError(f"expected a part that is an image, got {shown.spec.name!r}: see /api/bars")
        if not 1 <= scale <= _MAX_SCALE:
            raise UsageError(f"expected a scale of 1 or {_MAX_SCALE}, got {scale}")
        wanted = self._wanted(slots)
        atlas = plan_atlas(shown.spec, len(wanted))
        rows = shown.observations.take(wanted)
        shown.white = white_of(shown.spec, rows, shown.white)
        pixels = compose(to_pixels(shown.spec, rows, atlas.step, shown.white), atlas.columns)
        if scale > 1:
            pixels = pixels.repeat(scale, 0).repeat(scale, 1)
        return Picture(encode_png(pixels), atlas.columns, scale * atlas.width, scale * atlas.height, wanted.tolist())

    def bars(self, slots: Sequence[int] | None, part: int) -> dict[str, Any]:
        """`/api/bars`: the numbers of an array that is no image. Raises UsageError."""
        shown = self._part(part)
        if shown.kind == "image":
            raise UsageError(f"expected a part that is no image, got {shown.spec.name!r}: see /api/mosaic.png")
        wanted = self._wanted(slots)
        values = shown.bars.show(shown.observations.take(wanted))
        low, high = shown.bars.bounds
        return {"kind": shown.kind, "slots": wanted.tolist(), "values": values, "low": low, "high": high}

    def watch(self, slot: int, *, near: bool = True) -> dict[str, Any]:
        """`/api/watch`: all about one slot, for somebody on this machine or not. Raises UsageError."""
        (index,) = self._wanted([slot])
        self._fleet.read()
        insight, slots = self._facts.insight, self._facts.slots
        holder = self._fleet.holders.get(int(insight.lease[index]))
        count = int(insight.num_numbers[index])
        kind, parts = numbers_of(self._facts.spec, self._facts.run.shows)
        value, reward = self._trail(int(index))
        return {
            "slot": slot,
            "environment": int(insight.environment[index]),
            "client": holder and self._name_of(holder, near),
            "task": self._task_of(int(insight.environment[index])),
            "greedy": int(insight.environment[index]) in self._facts.run.greedy_environments,
            "action": self._action(int(index)),
            "kind": kind,
            "policy": insight.policy[index, :count] if count else None,
            "policy_parts": parts,
            "value": insight.value[index] if insight.trail_length[index] else None,
            "reward": slots.reward[index],
            "return": insight.episode_return[index],
            "step": insight.episode_step[index],
            "since_look": not insight.begun[index],
            "version": insight.version[index],
            "trail": {"value": value, "reward": reward},
            "parts": [self._shown(part, index) for part in self._parts] if self._facts.frames else [],
        }

    def _task_of(self, environment: int) -> str:
        return self._facts.run.tasks[self._facts.run.task_of(environment)]

    def _shown(self, part: _Part, index: np.int64) -> dict[str, Any]:
        """An observation array of one slot; pictures are asked for by themselves."""
        if part.kind == "image":
            return part.describe()
        values = part.bars.show(part.observations.take(np.array([index])))[0]
        low, high = part.bars.bounds
        return {**part.describe(), "values": values, "low": low, "high": high}

    def _action(self, index: int) -> Any:
        """A number where the action is one, else all numbers of all arrays by name."""
        found = {
            spec.name: array[index].reshape(-1)[:_MAX_ACTION_NUMBERS].tolist()
            for spec, array in zip(self._facts.spec.actions, self._facts.slots.actions, strict=True)
        }
        (first, *others) = found.values()
        return first[0] if not others and len(first) == 1 else found

    def _trail(self, index: int) -> tuple[list[float], list[float]]:
        """Values and rewards of the newest steps, oldest first."""
        insight = self._facts.insight
        length = int(insight.trail_length[index])
        count = min(length, TRAIL_STEPS)
        trail = insight.trail[index, np.arange(length - count, length) % TRAIL_STEPS]
        return trail[:, 0].tolist(), trail[:, 1].tolist()

    def fleet(self, *, near: bool = True) -> list[dict[str, Any]]:
        """`/api/fleet`; `near`: whoever asks is on this machine."""
        self._fleet.read()
        insight, holders = self._facts.insight, self._fleet.holders
        tasks: dict[str, str] = {}  # a client's environments are all of one task
        for slot in self.present():
            if (lease := holders.get(int(insight.lease[slot]))) is not None:
                tasks.setdefault(lease["client"], self._task_of(int(insight.environment[slot])))
        rows = self._fleet.rows()
        return [{**row, "client": self._name_of(row, near), "task": tasks.get(row["client"])} for row in rows]

    def _name_of(self, row: Mapping[str, Any], near: bool) -> str:
        """Of a client; beyond this machine another one, the same each time: who knows a name may take its place."""
        name = str(row["client"])
        return name if near else f"client-{blake2s(name.encode(), key=self._secret, digest_size=3).hexdigest()}"

    def curves(self, since: int) -> dict[str, Any]:
        """`/api/curves`."""
        self._curves.read()
        return self._curves.since(since)

    def _part(self, number: int) -> _Part:
        if not 0 <= number < len(self._parts):
            raise UsageError(f"expected a part from 0 to {len(self._parts) - 1}, got {number}")
        return self._parts[number]

    def _wanted(self, slots: Sequence[int] | None) -> NDArray[np.int64]:
        if slots is None:
            return self.present()
        unknown = [slot for slot in slots if not 0 <= slot < self._facts.slots.num_slots]
        if unknown or len(slots) > self._facts.slots.num_slots:
            raise UsageError(f"expected slots from 0 to {self._facts.slots.num_slots - 1}, got {list(slots)[:8]}")
        return np.array(slots, np.int64)
