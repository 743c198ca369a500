"""Environment clients on this machine, as processes of their own: the server never imports their side.

They talk to the server over the same gRPC as remote ones. A client that crashes is started again; one that says that
trying again is useless (its exit code tells) ends the run with its message.
"""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import time
from dataclasses import dataclass

from seedbed.common.errors import MissingExtraError, SeedbedError, SpecError, UsageError
from seedbed.common.specs import EnvironmentSpec
from seedbed.server.config import EnvironmentConfig, FleetConfig

logger = logging.getLogger(__name__)

_MODULE = "seedbed.env_client"
_RESTART_AFTER_S = 2.0
_EXIT_TIMEOUT_S = 5.0
_PROBE_TIMEOUT_S = 120.0
_PERMANENT = {error.exit_code: error for error in (UsageError, MissingExtraError, SpecError)}


def describe_environment(config: EnvironmentConfig) -> EnvironmentSpec:
    """Asks the client side, in a process of its own, what the environment looks like.

    Raises:
        SeedbedError: what that process said was wrong.
    """
    command = [sys.executable, "-m", _MODULE, "--describe", *_environment_options(config)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=_PROBE_TIMEOUT_S, check=False)
    if done.returncode != 0:
        lines = done.stderr.strip().splitlines() or ["no message"]
        error = _PERMANENT.get(done.returncode, SpecError)
        raise error(lines[-1].removeprefix("seedbed: error: "))
    return EnvironmentSpec.from_json(done.stdout)


@dataclass(slots=True)
class _Client:
    number: int
    process: subprocess.Popen[bytes]
    started_s: float


class LocalClients:
    """`num_clients` processes with `num_envs` environments between them."""

    def __init__(self, fleet: FleetConfig, environment: EnvironmentConfig, address: str) -> None:
        """Plans them; `start` starts them."""
        self._environment = environment
        self._address = address
        self._counts = _split(fleet.num_envs, fleet.num_clients or os.cpu_count() or 1)
        self._clients: list[_Client] = []

    def start(self) -> None:
        """Starts all."""
        self._clients = [self._start(number) for number in range(len(self._counts))]

    def check(self) -> None:
        """Starts crashed clients again.

        Raises:
            SeedbedError: a client ended for a reason that another start would not mend.
        """
        for client in self._clients:
            code = client.process.poll()
            if code is None or code == 0:
                continue
            if code in _PERMANENT:
                raise _PERMANENT[code](f"env client {client.number} ended with exit code {code}; see its message above")
            if time.monotonic() - client.started_s > _RESTART_AFTER_S:
                logger.warning("env client %d ended with exit code %d, starting it again", client.number, code)
                self._clients[client.number] = self._start(client.number)

    def stop(self) -> None:
        """Asks all to leave, and ends those that do not."""
        for client in self._clients:
            client.process.terminate()
        deadline_s = time.monotonic() + _EXIT_TIMEOUT_S
        for client in self._clients:
            try:
                client.process.wait(max(0.0, deadline_s - time.monotonic()))
            except subprocess.TimeoutExpired:
                client.process.kill()
                client.process.wait()
            if client.process.stdin is not None:
                client.process.stdin.close()

    def _start(self, number: int) -> _Client:
        command = [sys.executable, "-m", _MODULE, "--server", self._address]
        command += _environment_options(self._environment)
        command += ["--seed", str(self._environment.seed), "--num-envs", str(self._counts[number])]
        command += ["--first-index", str(sum(self._counts[:number])), "--client-id", f"local-{number}"]
        command += ["--exit-with-parent"]
        threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
        # A session of its own: Ctrl-C reaches the server alone, which stops its clients in order. The open pipe tells
        # a client when the server is gone for good.
        process = subprocess.Popen(
            command, env={**os.environ, **threads}, stdin=subprocess.PIPE, start_new_session=True
        )
        return _Client(number, process, time.monotonic())


def _environment_options(config: EnvironmentConfig) -> list[str]:
    return ["--env", config.env, "--atari-preset", config.atari_preset]


def _split(total: int, parts: int) -> list[int]:
    """As evenly as possible, no part empty."""
    if total < 1:
        raise SeedbedError(f"expected at least one environment, got {total}")
    parts = min(parts, total)
    return [total // parts + (number < total % parts) for number in range(parts)]
