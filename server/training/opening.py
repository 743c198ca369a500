"""Opening of a run: a new one, whose environment is described first, or one that goes on.

A directory that is there is locked before it is read. A new one is made last, by `OpenedRun.begin`.
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from importlib.metadata import version

from seedbed.common.errors import ConfigError, RunInUseError, UsageError
from seedbed.common.logs import log_to
from seedbed.common.options import override, to_json
from seedbed.common.specs import EnvironmentSpec
from seedbed.server.options.config import ServerConfig
from seedbed.server.run.directory import LOG_FILE, RunDirectory, RunFile
from seedbed.server.training.command_line import Given
from seedbed.server.training.describing import describe
from seedbed.server.training.first_spec import ask_first_client
from seedbed.server.training.resolve import check_flags, resolve, resolve_again
from seedbed.server.training.stop_signal import StopSignal


class Stopped(Exception):
    """Somebody asked to finish before the run was opened."""


@dataclass(frozen=True, slots=True)
class OpenedRun:
    """What a command line means.

    Attributes:
        config: of the run.
        spec: of its environment.
        directory: where it lives.
        before: how it was made; None for a new one.
    """

    config: ServerConfig
    spec: EnvironmentSpec
    directory: RunDirectory
    before: RunFile | None

    def begin(self, held: ExitStack) -> None:
        """All that could fail has not failed: makes and locks a new directory, and writes down how the run is made.

        Args:
            held: keeps the lock until it is closed.

        Raises:
            RunInUseError: another process has made a run of it meanwhile.
            ConfigError: nothing can be written there.
        """
        if not self.directory.is_locked:
            held.enter_context(self.directory.made())
        self.directory.write(RunFile(to_json(self.config), self.spec, version("seedbed")))
        held.enter_context(log_to(self.directory.path / LOG_FILE))


def open_run(given: Given, stop: StopSignal | None = None, held: ExitStack | None = None) -> OpenedRun:
    """Reads the run's directory, or describes the environment of a new one; writes nothing.

    Args:
        given: the command line.
        stop: ends the wait for a client that brings the environment, and for another process that uses the directory.
        held: keeps the lock of a directory that is there, until it is closed; None: nothing is locked.

    Raises:
        Stopped: it did.
        RunInUseError: another process works in the directory, and stays.
        UsageError: an option is unknown or wrong.
        ConfigError: the run was made with other options, or may not be resumed.
        SeedbedError: the environment could not be described.
    """
    stop = stop or StopSignal()
    directory = given.directory if "run.run_dir" in given.flags or not given.asks_client else None
    if directory is not None:
        lock_existing(directory, stop, held)
    if given.asks_client and (directory is None or not directory.has_run):
        check_flags(given)
        given = _ask(given, stop)
    if directory is None:  # it is named by the environment
        directory = given.directory
        lock_existing(directory, stop, held)
    before = directory.find_run()
    if before is None:
        check_flags(given)
        spec = given.spec or describe(given)
        config = resolve(given, spec)
    elif given.run.resume == "never":
        raise ConfigError(f"expected no run in {directory.path} with --resume never, there is one")
    else:
        spec = before.spec
        if given.spec is not None and (found := spec.differences(given.spec)):
            raise ConfigError(f"expected --spec to be that of the run in {directory.path}: {'; '.join(found)}")
        config = resolve_again(given, before, str(directory.path))
    return OpenedRun(override(config, {"run.run_dir": directory.path}), spec, directory, before)


def lock_existing(directory: RunDirectory, stop: StopSignal, held: ExitStack | None) -> None:
    """Locks a directory that is there.

    Raises:
        RunInUseError: another process works in it, and stays.
        Stopped: somebody asked to finish before it left.
    """
    if held is None or not directory.exists:
        return
    try:
        held.enter_context(directory.lock(gives_up=lambda: stop.name is not None))
    except RunInUseError as error:
        if stop.name is not None:
            raise Stopped from error
        raise


def _ask(given: Given, stop: StopSignal) -> Given:
    """What was given, with the environment of the first client.

    Raises:
        UsageError: the client would not find the server again.
        Stopped: nobody came before somebody asked to finish.
    """
    if given.serving.port == 0:
        raise UsageError("expected --port N with --spec first: the client comes back to the same one")
    spec = ask_first_client(given.serving, stop)
    if spec is None:
        raise Stopped
    return given.with_spec(spec)
