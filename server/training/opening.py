"""Opening of a run: a new one, whose environment is described first, or one that goes on."""

from __future__ import annotations

from dataclasses import dataclass

from seedbed.common.errors import ConfigError, UsageError
from seedbed.common.options import override
from seedbed.common.specs import EnvironmentSpec
from seedbed.server.options.config import ServerConfig
from seedbed.server.run.directory import RunDirectory, RunFile
from seedbed.server.training.command_line import Given
from seedbed.server.training.first_spec import ask_first_client
from seedbed.server.training.local_clients import describe_environment
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


def open_run(given: Given, stop: StopSignal | None = None) -> OpenedRun:
    """Reads the run's directory, or describes the environment of a new one; writes nothing.

    Args:
        given: the command line.
        stop: ends the wait for a client that brings the environment.

    Raises:
        Stopped: it did.
        UsageError: an option is unknown or wrong.
        ConfigError: the run was made with other options, or may not be resumed.
        SeedbedError: the environment could not be described.
    """
    if given.asks_client and _run_of(given) is None:
        check_flags(given)
        given = _ask(given, stop or StopSignal())
    directory = given.directory
    before = directory.read()
    if before is None:
        check_flags(given)
        spec = given.spec or describe_environment(given.environment, given.trust)
        config = resolve(given, spec)
    elif given.run.resume == "never":
        raise ConfigError(f"expected no run in {directory.path} with --resume never, there is one")
    else:
        spec = before.spec
        if given.spec is not None and (found := spec.differences(given.spec)):
            raise ConfigError(f"expected --spec to be that of the run in {directory.path}: {'; '.join(found)}")
        config = resolve_again(given, before, str(directory.path))
    return OpenedRun(override(config, {"run.run_dir": directory.path}), spec, directory, before)


def _run_of(given: Given) -> RunFile | None:
    """The run that goes on, where its folder is known without the environment."""
    return given.directory.read() if "run.run_dir" in given.flags else None


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
