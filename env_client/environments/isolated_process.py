"""The process of one isolated environment: it does what its socket says until that is closed. See `isolated.py`.

Frames, both ways: a kind (one byte), the length of what follows (uint32, little-endian), and that.

    ask     "r" reset | "s" step, then the bytes of the action | what begins it all: "m", a Recipe as JSON
    answer  "m" the spec as JSON | "d" reward f64, status u8, frames u64, then the bytes of the observation and, at the
            end of an episode, the numbers of its info as JSON
            "e" the name of a SeedbedError and its text, as JSON | "f" a fault: repr and trace, as JSON
"""

from __future__ import annotations

import contextlib
import ctypes
import dataclasses
import faulthandler
import json
import signal
import socket
import struct
import sys
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from seedbed.common.errors import SeedbedError
from seedbed.common.logs import setup_logging
from seedbed.common.plugins import Trust
from seedbed.common.stop_signals import ignore_stop
from seedbed.env_client.environments.interface import Asides, Environment, Status, info_of
from seedbed.env_client.environments.registry import builder

HEADER = struct.Struct("<cI")
RESULT = struct.Struct("<dBQ")
STATUSES = tuple(Status)

_PR_SET_PDEATHSIG = 1  # linux/prctl.h


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """What to build; see `registry.builder`."""

    environment_id: str
    preset: str
    index: int
    seed: int
    allow_import: bool
    installed: bool = True
    asides: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    import_from: str | None = None

    @property
    def trust(self) -> Trust:
        """What may be imported."""
        start = None if self.import_from is None else Path(self.import_from)
        return Trust(allow_import=self.allow_import, installed=self.installed, start_directory=start)


def send_frame(end: socket.socket, kind: bytes, *parts: bytes) -> None:
    """Sends one frame."""
    payload = b"".join(parts)
    end.sendall(HEADER.pack(kind, len(payload)) + payload)


def receive_frame(end: socket.socket) -> tuple[bytes, bytes]:
    """Waits for one frame: its kind and its content.

    Raises:
        EOFError: the other end is gone.
        TimeoutError: the socket has a time-out, and it is over.
    """
    kind, length = HEADER.unpack(_receive(end, HEADER.size))
    return kind, _receive(end, length)


def _receive(end: socket.socket, num_bytes: int) -> bytes:
    data = bytearray(num_bytes)
    view, have = memoryview(data), 0
    while have < num_bytes:
        got = end.recv_into(view[have:])
        if not got:
            raise EOFError
        have += got
    return bytes(data)


class _Worker:
    """The environment, and arrays to show its observations in."""

    def __init__(self, recipe: Recipe) -> None:
        build = builder(recipe.environment_id, recipe.preset, recipe.trust, Asides(**recipe.asides))
        self.environment: Environment = build(recipe.index, recipe.seed)
        spec = self.environment.spec
        self._observation = tuple(np.zeros(part.shape, part.numpy_dtype) for part in spec.observations)
        self._actions = [(part.row_bytes, part) for part in spec.actions]

    def answer(self, kind: bytes, content: bytes) -> tuple[bytes, ...]:
        """Does what was asked; the parts of a "d"."""
        reward, status = 0.0, Status.RUNNING
        if kind == b"r":
            self.environment.reset(self._observation)
        else:
            reward, status = self.environment.step(self._read_action(content), self._observation)
        result = RESULT.pack(reward, STATUSES.index(status), self.environment.frames)
        over = status in (Status.TERMINATED, Status.TRUNCATED)
        info = json.dumps(dict(info_of(self.environment))).encode() if over else b""
        return result, *(part.tobytes() for part in self._observation), info

    def _read_action(self, content: bytes) -> tuple[Any, ...]:
        parts, start = [], 0
        for num_bytes, spec in self._actions:
            data = content[start : start + num_bytes]
            parts.append(np.frombuffer(data, spec.numpy_dtype).reshape(spec.shape)[()])
            start += num_bytes
        return tuple(parts)


def _serve(end: socket.socket) -> None:
    worker: _Worker | None = None
    while True:
        kind, content = receive_frame(end)
        try:
            if worker is None:
                recipe = Recipe(**json.loads(content))
                setup_logging(f"environment {recipe.index}")
                worker = _Worker(recipe)
                answer: tuple[bytes, ...] = (b"m", json.dumps(worker.environment.spec.to_json()).encode())
            else:
                answer = (b"d", *worker.answer(kind, content))
        except SeedbedError as error:
            answer = (b"e", json.dumps([type(error).__name__, str(error)]).encode())
        except (Exception, SystemExit) as fault:
            answer = (b"f", json.dumps([repr(fault), traceback.format_exc()]).encode())
        send_frame(end, *answer)


def main(file: int) -> None:
    """Serves the socket with this descriptor to its end, and ends with the process at the other one."""
    if sys.platform == "linux":  # an environment that hangs would never notice
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    ignore_stop(but=[signal.SIGTERM])  # Ctrl-C reaches all processes of a terminal: the client decides
    faulthandler.enable()
    with socket.socket(fileno=file) as end, contextlib.suppress(EOFError, ConnectionError):
        _serve(end)


if __name__ == "__main__":
    main(int(sys.argv[1]))
