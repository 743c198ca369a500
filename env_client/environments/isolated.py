"""An environment in a process of its own: it may raise, hang, crash or leave, and costs nobody but itself.

For environments that are not to be trusted that far. What goes wrong over there becomes an exception here, and so the
one way in which every broken environment is replaced (`supervised.py`).
Each step costs two context switches and two copies.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping

import numpy as np

from seedbed.common.errors import SeedbedError
from seedbed.common.specs import EnvironmentSpec
from seedbed.env_client.environments.interface import Limits, Row, Status
from seedbed.env_client.environments.isolated_process import (
    RESULT,
    STATUSES,
    Recipe,
    receive_frame,
    send_frame,
)

_MODULE = "seedbed.env_client.environments.isolated_process"
_CLOSE_S = 1.0


class EnvironmentProcessError(Exception):
    """The environment raised, took too long, or its process ended."""


class IsolatedEnvironment:
    """Speaks for the environment over there; see `Environment`.

    Args:
        recipe: what to build there.
        limits: after which its process is killed.
    """

    def __init__(self, recipe: Recipe, limits: Limits) -> None:
        self._limits = limits
        self._end, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", _MODULE, str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                stdout=2,  # prints of its libraries go where its log goes
                pass_fds=[theirs.fileno()],
            )
        self._spec: EnvironmentSpec | None = None
        self.frames = 0
        self.info: Mapping[str, float] = {}
        send_frame(self._end, b"m", json.dumps(dataclasses.asdict(recipe)).encode())

    @property
    def spec(self) -> EnvironmentSpec:
        """Waits for the process to have built it: several are built at once.

        Raises:
            SeedbedError: it cannot be built.
            EnvironmentProcessError: see the class.
        """
        if self._spec is None:
            self._spec = EnvironmentSpec.from_json(json.loads(self._receive(self._limits.reset_s)))
        return self._spec

    def reset(self, observation: Row) -> None:
        """See `Environment`."""
        self._ask(b"r", b"", observation, self._limits.reset_s)

    def step(self, action: Row, observation: Row) -> tuple[float, Status]:
        """See `Environment`."""
        content = b"".join(np.asarray(part).tobytes() for part in action)
        return self._ask(b"s", content, observation, self._limits.step_s)

    def close(self) -> None:
        """Lets it close itself, for a moment, and ends its process."""
        self._end.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_CLOSE_S)
        self._process.kill()
        self._process.wait()

    def _ask(self, kind: bytes, content: bytes, observation: Row, limit_s: float) -> tuple[float, Status]:
        self.spec  # noqa: B018  # has to be there first
        with contextlib.suppress(ConnectionError):  # then there is no answer either
            send_frame(self._end, kind, content)
        answer = self._receive(limit_s)
        reward, status, self.frames = RESULT.unpack_from(answer)
        start = RESULT.size
        for part in observation:
            part[...] = np.frombuffer(answer, part.dtype, part.size, start).reshape(part.shape)
            start += part.nbytes
        self.info = json.loads(answer[start:]) if len(answer) > start else {}
        return reward, STATUSES[status]

    def _receive(self, limit_s: float) -> bytes:
        """The content of a good answer."""
        self._end.settimeout(limit_s)
        try:
            kind, content = receive_frame(self._end)
        except TimeoutError:
            self._process.kill()
            raise EnvironmentProcessError(f"no answer within {limit_s:g} s") from None
        except (EOFError, ConnectionError):
            self._process.kill()  # it may have closed the socket and live
            raise EnvironmentProcessError(f"its process {_how_it_ended(self._process.wait())}") from None
        if kind in (b"m", b"d"):
            return content
        name, text = json.loads(content)
        if kind == b"e":
            classes = {error.__name__: error for error in SeedbedError.__subclasses__()}
            raise classes[name](text)
        raise EnvironmentProcessError(f"{name}\n{text}")


def _how_it_ended(code: int) -> str:
    return f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
