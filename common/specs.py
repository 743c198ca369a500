"""Environment specs: named, typed arrays, and an equality that explains itself.

An environment with a single Box and a single Discrete has one observation array and one action array; Dict and Tuple
spaces have several. Nothing here assumes one. JSON is the form in files and on command lines; `codec` holds the wire
form.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from seedbed.common.array_spec import (
    DTYPES,
    MASK_NAME,
    MAX_BOUNDS,
    TRAVELS_AS,
    ArraySpec,
    Kind,
    Role,
    action_mask,
    discrete,
)
from seedbed.common.errors import SpecError

__all__ = [
    "DTYPES",
    "MASK_NAME",
    "MAX_BOUNDS",
    "TRAVELS_AS",
    "ArraySpec",
    "EnvironmentSpec",
    "Kind",
    "Role",
    "action_mask",
    "discrete",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class EnvironmentSpec:
    """The contract between a client and a server; both sides compare it field by field.

    Attributes:
        environment: the id people know it by, e.g. "ALE/Pong-v5".
        preset: named preprocessing; "" where there is none.
        observations, actions: arrays in the order in which they travel.
        frames_per_step: emulator frames per agent step, for counting only.
        tasks: where a run has several tasks, what each of them looks like by itself; this is then the spec of their
            common rows, see `joint_spec`, and never travels. Empty: there is one.
    """

    environment: str
    observations: tuple[ArraySpec, ...]
    actions: tuple[ArraySpec, ...]
    preset: str = ""
    frames_per_step: int = 1
    tasks: tuple[EnvironmentSpec, ...] = ()

    def __post_init__(self) -> None:
        if not self.shown or not self.actions:
            raise SpecError(f"{self.environment}: expected at least one observation and one action array")
        if self.frames_per_step < 1:
            raise SpecError(f"{self.environment}: expected frames_per_step of at least 1, got {self.frames_per_step}")
        for kind in ("observations", "actions"):
            names = [spec.name for spec in getattr(self, kind)]
            if len(set(names)) != len(names):
                raise SpecError(f"{self.environment}: expected each of the {kind} once, got {names}")
        for spec in self.actions:
            self._check_action(spec)
        self._check_mask()

    def _check_action(self, spec: ArraySpec) -> None:
        where = f"{self.environment}: action {spec.name!r}"
        if spec.role != "value":
            raise SpecError(f"{where}: expected an action mask among the observations, got an action")
        if spec.kind != "box":
            return
        if spec.dtype != "float32":
            raise SpecError(f"{where}: expected box actions to travel as float32, got {spec}")
        if not spec.bounded or any(low == high for low, high in spec.bound_pairs):
            raise SpecError(f"{where}: expected finite bounds that differ, got {spec}")

    def _check_mask(self) -> None:
        masks = [spec for spec in self.observations if spec.role == "action_mask"]
        if not masks:
            return
        if len(masks) > 1 or not self.num_mask_entries:
            names = [mask.name for mask in masks]
            raise SpecError(f"{self.environment}: expected at most one action mask, for discrete actions, got {names}")
        mask, entries = masks[0], self.num_mask_entries
        if (mask.dtype, mask.shape, mask.kind) != ("uint8", (entries,), "binary"):
            raise SpecError(f"{self.environment}: expected a binary uint8[{entries}] as action mask, got {mask}")

    @property
    def shown(self) -> tuple[ArraySpec, ...]:
        """The observations that a network reads: all but the action mask, in their order."""
        return tuple(spec for spec in self.observations if spec.role == "value")

    @property
    def mask_position(self) -> int | None:
        """Where in `observations` the action mask stands; None without one."""
        return next((i for i, spec in enumerate(self.observations) if spec.role == "action_mask"), None)

    @property
    def num_tasks(self) -> int:
        """K, tasks that a policy learns together."""
        return max(1, len(self.tasks))

    @property
    def num_mask_entries(self) -> int:
        """Entries of an action mask: one for each value of each discrete component, in order; none for boxes."""
        return sum(spec.num_mask_entries for spec in self.actions)

    @property
    def num_actions(self) -> int:
        """A, for an environment with a single discrete action.

        Raises:
            SpecError: the action space is something else.
        """
        if len(self.actions) != 1 or self.actions[0].kind != "discrete" or self.actions[0].shape != ():
            raise SpecError(f"{self.environment}: expected one discrete action, got {list(map(str, self.actions))}")
        return self.actions[0].num_values[0]

    def differences(self, other: EnvironmentSpec) -> list[str]:
        """Lists what differs, each as `field: ours here, theirs there`; empty when equal."""
        found = [
            f"{field}: {getattr(self, field)!r} here, {getattr(other, field)!r} there"
            for field in ("environment", "preset", "frames_per_step")
            if getattr(self, field) != getattr(other, field)
        ]
        for kind in ("observations", "actions"):
            ours = {spec.name: spec for spec in getattr(self, kind)}
            theirs = {spec.name: spec for spec in getattr(other, kind)}
            if list(ours) != list(theirs):
                found.append(f"{kind}: {list(ours)} here, {list(theirs)} there")
                continue
            found += [
                f"{kind}[{name!r}]: {ours[name].difference(theirs[name])}"
                for name in ours
                if ours[name] != theirs[name]
            ]
        return found

    def to_json(self) -> dict[str, Any]:
        """The JSON form, as in `config.json`."""
        fields: dict[str, Any] = {
            "environment": self.environment,
            "preset": self.preset,
            "frames_per_step": self.frames_per_step,
            "observations": [spec.to_json() for spec in self.observations],
            "actions": [spec.to_json() for spec in self.actions],
        }
        return fields | ({"tasks": [task.to_json() for task in self.tasks]} if self.tasks else {})

    @classmethod
    def from_json(cls, data: Mapping[str, Any] | str) -> EnvironmentSpec:
        """Reads `to_json`'s form.

        Raises:
            SpecError: a field is missing, unknown or of the wrong kind.
        """
        try:
            fields = dict(json.loads(data) if isinstance(data, str) else data)
            for kind in ("observations", "actions"):
                fields[kind] = tuple(map(ArraySpec.from_json, fields[kind]))
            fields["tasks"] = tuple(map(cls.from_json, fields.get("tasks", ())))
            return cls(**fields)
        except (KeyError, TypeError, ValueError) as error:
            raise SpecError(f"expected an environment spec in JSON, got {data!r:.200} ({error})") from error
