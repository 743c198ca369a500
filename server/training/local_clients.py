"""Environment clients on this machine, as processes of their own: the server never imports their side.

They talk to the server over the same gRPC as remote ones. A client that ends, for whatever reason, is started again, at
once the first time and after ever longer waits if that happens often. The run ends when one says that trying again is
useless (its exit code tells), or ends too often.
"""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field, replace
from importlib.util import find_spec
from pathlib import Path

from seedbed.common.address import local_address
from seedbed.common.certificates import names_of
from seedbed.common.credentials import ServerCredentials
from seedbed.common.environment_options import VIDEO_ENDINGS, CareOptions, EnvironmentOptions, FilmOptions
from seedbed.common.errors import AuthError, BrokenError, MissingExtraError, SeedbedError, SpecError, UsageError
from seedbed.common.extras import missing_extra
from seedbed.common.image_layout import cost_remark
from seedbed.common.options import to_argv
from seedbed.common.plugins import NOTHING_TYPED, Trust, check_trusted
from seedbed.common.report import report_pipe
from seedbed.common.restarts import RestartBudget
from seedbed.common.specs import EnvironmentSpec
from seedbed.server.options.config import ServerConfig

logger = logging.getLogger(__name__)

_MODULE = "seedbed.env_client"
_MAX_RESTARTS, _WINDOW_S = 6, 600.0  # of one client: one that dies as soon as it runs ends the run within a minute
_EXIT_TIMEOUT_S = 5.0
_YIELD, _LAST = 5, 19  # steps of niceness; the last there is
_PERMANENT = {error.exit_code: error for error in (UsageError, MissingExtraError, AuthError, SpecError)}


def describe_environment(
    config: EnvironmentOptions, trust: Trust = NOTHING_TYPED, care: CareOptions | None = None
) -> EnvironmentSpec:
    """Asks the client side, in a process of its own, what the environment looks like.

    Args:
        config: which.
        trust: whether its module may be imported.
        care: how long it may take to be built and reset; nobody watches it yet, so there is no window.

    Raises:
        UsageError: its module may not be imported.
        SeedbedError: what that process said was wrong.
    """
    check_trusted("--env", config.env, trust)
    care = replace(care or CareOptions(), render="none")
    command = [
        sys.executable,
        "-P",
        "-m",
        _MODULE,
        "--describe",
        *to_argv(config),
        *to_argv(care),
        *_import_options(config.env_id, trust),
    ]
    with report_pipe() as pipe, tempfile.TemporaryFile() as log:
        process = pipe.start(command, log)
        try:
            facts = pipe.read(care.reset_timeout_s)
            code = 0 if facts else process.wait(_EXIT_TIMEOUT_S)
        except (TimeoutError, subprocess.TimeoutExpired):
            raise SpecError(
                f"{config.env}: expected to be built, reset and stepped once within {care.reset_timeout_s:g} s: "
                "--reset-timeout-s gives it longer"
            ) from None
        finally:
            process.kill()
            process.wait()
        if facts is None:
            log.seek(0)
            sys.stderr.write(log.read().decode(errors="replace"))
            raise SpecError(f"{config.env}: the process that built it {_how_it_ended(code)}")
    spec = EnvironmentSpec.from_json(facts["spec"])
    if (remark := cost_remark(spec)) is not None:
        logger.warning("%s", remark)
    return spec


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


def _import_options(env: str, trust: Trust) -> list[str]:
    """Options that hand the decision on: a client would take an --env on its command line for typed."""
    return trust.to_argv(env) or ["--no-allow-import"]


@dataclass(slots=True)
class _Client:
    """One client process, the present or the last one.

    Attributes:
        restart_s: when the next one starts, or None while this one lives.
    """

    number: int
    process: subprocess.Popen[bytes]
    budget: RestartBudget = field(default_factory=lambda: RestartBudget(_MAX_RESTARTS, _WINDOW_S))
    restart_s: float | None = None


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
        num_clients: int | None = None,
        first_index: int = 0,
    ) -> None:
        """Plans them; `start` starts them.

        Args:
            config: how many, of what, and what they need to be let in.
            address: HOST:PORT at which the server listens.
            yielding: where cores are scarce the server goes first, and they get what it leaves.
            trust: whether they may import the environment's module.
            film: the video that the one with environment 0 makes.
            num_clients: processes unless options say how many; one per core if None.
            first_index: of their environments.

        Raises:
            UsageError: that may not be imported, or the server demands certificates, and these clients have none.
            AuthError: the server's certificate names no host.
        """
        fleet = config.fleet
        check_trusted("--env", config.environment.env, trust)
        self._environment = [
            *to_argv(config.environment),
            *to_argv(config.care),
            *to_argv(film or FilmOptions()),
            *_import_options(config.environment.env_id, trust),
        ]
        self._connection = ["--server", local_address(address), *credential_options(config.serving.credentials)]
        self._yielding = yielding
        self._counts = _split(fleet.num_envs, fleet.num_clients or num_clients or os.cpu_count() or 1)
        self._first_index = first_index
        self._clients: list[_Client] = []

    def start(self) -> None:
        """Starts all."""
        self._clients = [_Client(number, self._spawn(number)) for number in range(len(self._counts))]

    def check(self) -> None:
        """Starts clients again that have ended.

        Raises:
            SeedbedError: one ended for a reason that another start would not mend.
            BrokenError: one ends again and again.
        """
        now_s = time.monotonic()
        for client in self._clients:
            code = client.process.poll()
            if client.restart_s is None and code is not None:
                client.restart_s = now_s + _wait_s(client, code, now_s)
            if client.restart_s is not None and now_s >= client.restart_s:
                client.process, client.restart_s = self._spawn(client.number), None

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

    def _spawn(self, number: int) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-P", "-m", _MODULE, *self._connection, *self._environment]
        command += ["--num-envs", str(self._counts[number])]
        first = self._first_index + sum(self._counts[:number])
        command += ["--first-index", str(first), "--client-id", f"local-{number}"]
        command += ["--exit-with-parent"]
        threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
        # A session of its own: Ctrl-C reaches the server alone, which stops its clients in order. The open pipe tells
        # a client when the server is gone for good.
        client = subprocess.Popen(command, env={**os.environ, **threads}, stdin=subprocess.PIPE, start_new_session=True)
        if self._yielding:
            ours = os.getpriority(os.PRIO_PROCESS, 0)
            os.setpriority(os.PRIO_PROCESS, client.pid, min(ours + _YIELD, _LAST))
        return client


def _wait_s(client: _Client, code: int, now_s: float) -> float:
    """How long a client that has ended stays away: 0, 1, 2, 4 ... seconds, the more often it ended of late.

    Raises:
        SeedbedError: for ever.
    """
    what = f"env client local-{client.number} {_how_it_ended(code)}"
    if code in _PERMANENT:
        raise _PERMANENT[code](f"{what}; see its message above")
    restarts = client.budget.spend(now_s)
    if restarts is None:
        often = f"after {_MAX_RESTARTS} restarts within {_WINDOW_S / 60:g} minutes"
        raise BrokenError(f"{what} {often}; see its messages above")
    wait_s = 0.0 if restarts == 1 else 2.0 ** (restarts - 2)
    logger.warning("%s, starting it again in %g s", what, wait_s)
    return wait_s


def _how_it_ended(code: int) -> str:
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


def _split(total: int, parts: int) -> list[int]:
    """As evenly as possible, no part empty."""
    if total < 1:
        raise SeedbedError(f"expected at least one environment, got {total}")
    parts = min(parts, total)
    return [total // parts + (number < total % parts) for number in range(parts)]
