"""Environment clients on this machine, as processes of their own: the server never imports their side.

They talk to the server over the same gRPC as remote ones. A client that ends, for whatever reason, is started again, at
once the first time and after ever longer waits if that happens often. The run ends when one says that trying again is
useless (its exit code tells), or ends too often.
"""

from __future__ import annotations

import logging
import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from seedbed.common.address import local_address
from seedbed.common.certificates import names_of
from seedbed.common.credentials import ServerCredentials
from seedbed.common.environment_options import VIDEO_ENDINGS, EnvironmentOptions, FilmOptions
from seedbed.common.errors import AuthError, BrokenError, MissingExtraError, SeedbedError, SpecError, UsageError
from seedbed.common.extras import missing_extra
from seedbed.common.options import to_argv
from seedbed.common.plugins import NOTHING_TYPED, Trust, check_trusted
from seedbed.common.restarts import RestartBudget
from seedbed.server.options.config import ServerConfig

logger = logging.getLogger(__name__)

MODULE = "seedbed.env_client"
_MAX_RESTARTS, _WINDOW_S = 6, 600.0  # of one client: one that dies as soon as it runs ends the run within a minute
_EXIT_TIMEOUT_S = 5.0
_NAME_BYTES = 4
_YIELD, _LAST = 5, 19  # steps of niceness; the last there is
_PERMANENT = {error.exit_code: error for error in (UsageError, MissingExtraError, AuthError, SpecError)}


def check_video(file: Path) -> None:
    """Refuses a video that could not be written in the end.

    Raises:
        UsageError: another ending than mp4 or gif, or no such folder.
        MissingExtraError: PyAV is not installed.
    """
    if file.suffix.lower() not in VIDEO_ENDINGS:
        raise UsageError(f"--video: expected a file that ends with {' or '.join(VIDEO_ENDINGS)}, got {file}")
    if not file.absolute().parent.is_dir():
        raise UsageError(f"--video: expected a folder that is there, got {file.parent}")
    if find_spec("av") is None:  # clients on this machine have the same packages
        raise missing_extra("video", "--video needs it")


def import_options(env: str, trust: Trust) -> list[str]:
    """Options that hand the decision on: a client would take an --env on its command line for typed."""
    return trust.to_argv(env) or ["--no-allow-import"]


@dataclass(slots=True)
class _Client:
    """One client process, the present or the last one.

    Attributes:
        restart_s: when the next one starts, or None while this one lives.
        restarts: processes before this one.
        given_up: there will be no other.
    """

    number: int
    process: subprocess.Popen[bytes]
    budget: RestartBudget = field(default_factory=lambda: RestartBudget(_MAX_RESTARTS, _WINDOW_S))
    restart_s: float | None = None
    restarts: int = 0
    given_up: bool = False


class LocalClients:
    """`num_clients` processes with `num_envs` environments between them."""

    def __init__(
        self,
        config: ServerConfig,
        address: str,
        *,
        yielding: bool = False,
        trust: Trust = NOTHING_TYPED,
        film: FilmOptions | None = None,
        shares: Sequence[ClientShare] | None = None,
        num_clients: int | None = None,
        first_index: int = 0,
        agent_steps: int = 0,
    ) -> None:
        """Plans them; `start` starts them.

        Args:
            config: how many, of what, and what they need to be let in.
            address: HOST:PORT at which the server listens.
            yielding: where cores are scarce the server goes first, and they get what it leaves.
            trust: whether they may import the environment's module.
            film: the video that the one with environment 0 makes.
            shares: what each of them steps; None: see `plan_clients`.
            num_clients: processes unless options say how many; one per core if None.
            first_index: of their environments.
            agent_steps: of the run so far.

        Raises:
            UsageError: that may not be imported, or the server demands certificates, and these clients have none.
            AuthError: the server's certificate names no host.
        """
        self._common = [*to_argv(config.care), *to_argv(film or FilmOptions())]
        self._connection = ["--server", local_address(address), *credential_options(config.serving.credentials)]
        self._yielding = yielding
        self._trust = trust
        self._agent_steps = agent_steps
        self._shares = shares or plan_clients(config, num_clients=num_clients, first_index=first_index)
        for share in self._shares:
            check_trusted("--env", share.environment.env, trust)
        self._clients: list[_Client] = []
        # Who knows a client's name may take its place. One whose name is `local-0` could be sent away again and again.
        self._names = [f"local-{number}-{secrets.token_hex(_NAME_BYTES)}" for number in range(len(self._shares))]

    @property
    def names(self) -> Collection[str]:
        """By which the server knows them."""
        return frozenset(self._names)

    @property
    def indices(self) -> Collection[int]:
        """Of all their environments."""
        return frozenset(index for share in self._shares for index in share.indices)

    def start(self) -> None:
        """Starts all."""
        self._clients = [_Client(number, self._spawn(number)) for number in range(len(self._shares))]

    def check(self) -> None:
        """Starts clients again that have ended. Of several tasks one whose clients are lost for good is given up.

        Raises:
            SeedbedError: one ended for a reason that another start would not mend.
            BrokenError: one ends again and again.
        """
        now_s = time.monotonic()
        for client in self._clients:
            if client.given_up:
                continue
            code = client.process.poll()
            if client.restart_s is None and code is not None:
                try:
                    client.restart_s = now_s + _wait_s(client, code, now_s)
                except SeedbedError as error:
                    self._give_up(client, error)
                    continue
            if client.restart_s is not None and now_s >= client.restart_s:
                client.restarts += 1
                client.process, client.restart_s = self._spawn(client.number, client.restarts), None

    def _give_up(self, client: _Client, error: SeedbedError) -> None:
        """The other tasks go on; without another one, or with none left, the run ends."""
        client.given_up = True
        played = {share.task for share in self._shares}
        going_on = {self._shares[other.number].task for other in self._clients if not other.given_up}
        if len(played) < 2 or not going_on:
            raise error
        task = self._shares[client.number].environment.env_name
        left = "its other clients go on" if self._shares[client.number].task in going_on else "the other tasks go on"
        logger.error("%s, given up: %s; %s", task, error, left)

    def stop(self) -> None:
        """Asks all to leave, and ends those that do not."""
        for client in self._clients:
            client.process.terminate()  # does nothing to one that has ended
        deadline_s = time.monotonic() + _EXIT_TIMEOUT_S
        for client in self._clients:
            try:
                client.process.wait(max(0.0, deadline_s - time.monotonic()))
            except subprocess.TimeoutExpired:
                client.process.kill()
                client.process.wait()
            if client.process.stdin is not None:
                client.process.stdin.close()

    def _spawn(self, number: int, restarts: int = 0) -> subprocess.Popen[bytes]:
        share = self._shares[number]
        seed = seed_of_start(share.environment.seed, self._agent_steps, restarts)
        environment = replace(share.environment, seed=seed)
        command = [sys.executable, "-P", "-m", MODULE, *self._connection, *to_argv(environment), *self._common]
        command += import_options(share.environment.env_id, self._trust)
        command += [*share.index_options(), "--client-id", self._names[number]]
        command += ["--exit-with-parent"]
        threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
        # A session of its own: Ctrl-C reaches the server alone, which stops its clients in order. The open pipe tells
        # a client when the server is gone for good.
        client = subprocess.Popen(command, env={**os.environ, **threads}, stdin=subprocess.PIPE, start_new_session=True)
        if self._yielding:
            ours = os.getpriority(os.PRIO_PROCESS, 0)
            os.setpriority(os.PRIO_PROCESS, client.pid, min(ours + _YIELD, _LAST))
        return client


def seed_of_start(seed: int, agent_steps: int, restarts: int) -> int:
    """The seed of a client's environments: the run's own as a run begins, another one whenever it is started later.

    With the same one they would show the first episodes of the run again, and break where they broke.
    """
    if agent_steps == restarts == 0:
        return seed
    return int(np.random.SeedSequence([seed, agent_steps, restarts]).generate_state(1)[0])


def _wait_s(client: _Client, code: int, now_s: float) -> float:
    """How long a client that has ended stays away: 0, 1, 2, 4 ... seconds, the more often it ended of late.

    Raises:
        SeedbedError: for ever.
    """
    what = f"env client local-{client.number} {how_it_ended(code)}"
    if code in _PERMANENT:
        raise _PERMANENT[code](f"{what}; see its message above")
    restarts = client.budget.spend(now_s)
    if restarts is None:
        often = f"after {_MAX_RESTARTS} restarts within {_WINDOW_S / 60:g} minutes"
        raise BrokenError(f"{what} {often}; see its messages above")
    wait_s = 0.0 if restarts == 1 else 2.0 ** (restarts - 2)
    logger.warning("%s, starting it again in %g s", what, wait_s)
    return wait_s


def how_it_ended(code: int) -> str:
    return f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"


def credential_options(credentials: ServerCredentials) -> list[str]:
    """Options of a client on this machine; a token in the environment it inherits anyway.

    Raises:
        UsageError: the server demands certificates, and local clients have none.
        AuthError: the server's certificate names no host.
    """
    if credentials.tls_client_ca is not None:
        raise UsageError(
            "expected no --tls-client-ca with local clients, which have no certificates: use `seedbed server`"
        )
    options = [] if credentials.token_file is None else ["--token-file", str(credentials.token_file)]
    if credentials.tls_cert is not None and credentials.tls_key is not None:
        # The server's own certificate is the one to trust, whatever authority signed it and whatever host it is for.
        name = names_of(credentials.tls_cert, credentials.tls_key)[0].replace("*", "any")
        options += ["--tls-ca", str(credentials.tls_cert), "--tls-server-name", name]
    elif credentials.insecure:
        options += ["--insecure"]
    return options


@dataclass(frozen=True, slots=True)
class ClientShare:
    """What one client process steps.

    Attributes:
        task: which of several; 0 where there is one.
        environment: of it.
        indices: in the fleet.
    """

    task: int
    environment: EnvironmentOptions
    indices: Sequence[int]

    def index_options(self) -> list[str]:
        """Its indices on a command line."""
        first, count = self.indices[0], len(self.indices)
        if list(self.indices) == list(range(first, first + count)):
            return ["--num-envs", str(count), "--first-index", str(first)]
        return ["--indices", ",".join(map(str, self.indices))]


def plan_clients(config: ServerConfig, *, num_clients: int | None = None, first_index: int = 0) -> list[ClientShare]:
    """The client processes of a run on this machine: of several tasks each plays one, so that one which breaks costs
    only its own.

    Args:
        config: of the run.
        num_clients: processes unless options say how many; one per core if None.
        first_index: of the environments.
    """
    fleet, plan = config.fleet, config.tasks.plan
    environments = [task.environment(config.environment) for task in config.tasks.tasks] or [config.environment]
    num_clients = fleet.num_clients or num_clients or os.cpu_count() or 1
    indices = [[first_index + index for index in own] for own in plan.indices(fleet.num_envs)]
    shares = []
    for task, number in enumerate(_split(max(num_clients, plan.num_tasks), plan.num_tasks)):
        start = 0
        for count in _split(len(indices[task]), number):
            shares.append(ClientShare(task, environments[task], indices[task][start : start + count]))
            start += count
    return shares


def _split(total: int, parts: int) -> list[int]:
    """As evenly as possible, no part empty."""
    if total < 1:
        raise SeedbedError(f"expected at least one environment, got {total}")
    parts = min(parts, total)
    return [total // parts + (number < total % parts) for number in range(parts)]
