"""A server of the test's own: a process, on a port that the system chooses, in a folder that goes with it."""

from __future__ import annotations

import contextlib
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from seedbed.common.errors import SeedbedError, UnavailableError
from seedbed.common.report import ReportPipe, report_pipe
from seedbed.env_client.loadtest.options import DEFAULT_ENV, SpawnOptions

_MODULE = "seedbed.server"
_START_TIMEOUT_S = 120.0  # importing torch takes seconds, on a busy machine many
_EXIT_TIMEOUT_S = 20.0
_DYING_S = 2.0  # its port is closed before it has ended
_FOREVER_STEPS = 10**15


@contextmanager
def spawned_server(options: SpawnOptions, num_envs: int, max_seconds: float) -> Iterator[str]:
    """Runs a server for as long as the block does.

    Args:
        options: of the server.
        num_envs: slots it needs.
        max_seconds: it ends by itself after so long, should this process be killed.

    Yields:
        HOST:PORT.

    Raises:
        UsageError: it refused its options.
        SeedbedError: it did not start, or ended before the block did.
    """
    command = [sys.executable, "-P", "-m", _MODULE, *server_arguments(options, num_envs, max_seconds)]
    with tempfile.TemporaryDirectory(prefix="seedbed-loadtest-") as folder, report_pipe() as pipe:
        log = Path(folder) / "server.log"
        with log.open("w") as output:
            process = pipe.start([*command, "--run-dir", f"{folder}/run"], output)
        try:
            yield _wait_until_it_serves(pipe, log)
        except UnavailableError as error:
            with contextlib.suppress(TimeoutError):
                raise _why_it_ended(pipe, log) from error
            raise
        finally:
            _end(process)


def server_arguments(options: SpawnOptions, num_envs: int, max_seconds: float) -> list[str]:
    """The command line of the server, without its run directory; the user's own options come last and win."""
    preset = ["--preset", options.preset] if options.preset else []
    env = options.env or (None if options.preset else DEFAULT_ENV)
    return [
        "server",
        *preset,
        *(["--env", env] if env else []),
        *("--num-envs", str(num_envs), "--num-slots", str(num_envs)),
        *("--device", options.device, "--train" if options.train else "--no-train"),
        *("--max-steps", str(_FOREVER_STEPS), "--max-seconds", str(max_seconds), "--target-return", "none"),
        *("--checkpoint-interval-s", str(max_seconds)),
        *shlex.split(options.server_options),
    ]


def _wait_until_it_serves(pipe: ReportPipe, log: Path) -> str:
    try:
        facts = pipe.read(_START_TIMEOUT_S)
    except TimeoutError:
        raise SeedbedError(f"expected the server to start within {_START_TIMEOUT_S:g} s, it did not") from None
    except SeedbedError as error:
        raise type(error)(f"the server did not start: {error}") from None
    if facts is None:
        raise SeedbedError(f"the server did not start: {_last_words(log)}")
    return str(facts["serving"])


def _why_it_ended(pipe: ReportPipe, log: Path) -> SeedbedError:
    """Raises TimeoutError if it has not ended."""
    try:
        pipe.read(_DYING_S)
    except SeedbedError as error:
        return type(error)(f"the server ended: {error}")
    return SeedbedError(f"the server ended: {_last_words(log)}")


def _last_words(log: Path) -> str:
    return (log.read_text(errors="replace").strip().splitlines() or ["no message"])[-1]


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(_EXIT_TIMEOUT_S)
    finally:  # also when interrupted again
        process.kill()
        process.wait()
