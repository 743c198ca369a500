"""Contract's name of an environment: its id, and all that was asked for which changes what is shown or paid.

    FrozenLake-v1{"is_slippery":false,"map_name":"8x8"}           keyword arguments, as canonical JSON
    my_pkg:make{"size":4}@72x96,grey,500steps                     images made smaller and grey, episodes cut

A client that is given no environment of its own steps what this name says; so the name is read as well as written.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from seedbed.common.errors import SpecError, UsageError

MARKS = "{@"
"""Characters that no id has: where one begins, the id is over."""

_SIZE = re.compile(r"([1-9]\d{0,4})x([1-9]\d{0,4})")
_ADAPTED = re.compile(r"(?:@(?P<size>[1-9]\d{0,4}x[1-9]\d{0,4})?,?(?P<grey>grey)?,?(?:(?P<steps>[1-9]\d*)steps)?)?")
_HARMLESS = re.compile(r"[\w ,+-]*")


@dataclass(frozen=True, slots=True, kw_only=True)
class EnvironmentName:
    """What a contract's name says.

    Attributes:
        id: of the environment.
        kwargs: keyword arguments of what makes it.
        image_size: height and width to which images are shrunk.
        grey: colours are turned to grey.
        max_steps: agent steps after which an episode is truncated.
    """

    id: str
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    image_size: tuple[int, int] | None = None
    grey: bool = False
    max_steps: int | None = None

    @classmethod
    def parse(cls, name: str) -> EnvironmentName:
        """The inverse of `str`.

        Raises:
            SpecError: it is no such name.
        """
        end = min((place for mark in MARKS if (place := name.find(mark)) >= 0), default=len(name))
        rest = name[end:]
        kwargs: dict[str, Any] = {}
        try:
            if rest.startswith("{"):
                kwargs, length = json.JSONDecoder().raw_decode(rest)
                rest = rest[length:]
        except (ValueError, RecursionError):
            rest = "?"
        if not name[:end] or (match := _ADAPTED.fullmatch(rest)) is None:
            raise SpecError(f'expected an environment like ID, ID{{"key":1}} or ID@72x96,grey, got {name!r:.200}')
        return cls(
            id=name[:end],
            kwargs=kwargs,
            image_size=None if match["size"] is None else parse_size(match["size"]),
            grey=match["grey"] is not None,
            max_steps=None if match["steps"] is None else int(match["steps"]),
        )

    def __str__(self) -> str:
        return self.around(self.id + canonical(self.kwargs))

    def around(self, made: str) -> str:
        """The name of an environment that bears, as it is made, the name `made`."""
        size = [] if self.image_size is None else ["{}x{}".format(*self.image_size)]
        steps = [] if self.max_steps is None else [f"{self.max_steps}steps"]
        adapted = [*size, *(["grey"] if self.grey else []), *steps]
        return made + ("@" + ",".join(adapted) if adapted else "")

    def check_harmless(self) -> None:
        """Refuses keyword arguments that could name a module, a file or an address: the name came over the wire.

        Raises:
            SpecError: says what to do.
        """
        if not _harmless(self.kwargs):
            raise SpecError(
                f"the server serves {self}, whose keyword arguments may name files or modules, which are never taken "
                "from a server: if they are meant, give --env and --env-kwargs"
            )


def canonical(kwargs: Mapping[str, Any]) -> str:
    """The one JSON text of some keyword arguments; empty without any."""
    return json.dumps(kwargs, sort_keys=True, separators=(",", ":"), allow_nan=False) if kwargs else ""


def _finite(text: str) -> float:
    if not math.isfinite(number := float(text)):
        _refuse_constant(text)
    return number


def parse_kwargs(text: str) -> dict[str, Any]:
    """Reads --env-kwargs.

    Raises:
        UsageError: it is no JSON object.
    """
    try:
        kwargs = json.loads(text, parse_constant=_refuse_constant, parse_float=_finite)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"--env-kwargs: expected a JSON object, got {text!r:.200} ({error})") from None
    if not isinstance(kwargs, dict):
        raise UsageError(f'--env-kwargs: expected a JSON object like {{"size": 8}}, got {text!r:.200}')
    return kwargs


def parse_size(text: str) -> tuple[int, int]:
    """Reads --image-size: height and width.

    Raises:
        UsageError: it is no size.
    """
    if (match := _SIZE.fullmatch(text)) is None:
        raise UsageError(f"--image-size: expected HEIGHTxWIDTH like 84x84, got {text!r:.200}")
    return int(match[1]), int(match[2])


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is no number of JSON")


def _harmless(value: Any) -> bool:
    """Whether all texts in it are words: letters, digits, spaces and -+_,"""
    if isinstance(value, str):
        return _HARMLESS.fullmatch(value) is not None
    if isinstance(value, Mapping):
        return all(_harmless(part) for item in value.items() for part in item)
    return all(map(_harmless, value)) if isinstance(value, list) else True
