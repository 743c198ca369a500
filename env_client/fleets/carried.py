"""One client of a fleet as it travels to another machine: its options, and what stands in the files that they name."""

from __future__ import annotations

import signal
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from seedbed.common.credentials import ClientCredentials, watch_tokens
from seedbed.common.errors import SeedbedError, named_error
from seedbed.common.options import to_argv
from seedbed.common.stop_signals import STOP_SIGNALS
from seedbed.env_client.config import EnvConfig

_FILES = ("tls_ca", "tls_cert", "tls_key")
_TOKEN = "token_file"


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a client ended: exit code 0, or the name of an error and its words."""

    exit_code: int = 0
    error: str = ""
    text: str = ""

    @property
    def raised(self) -> SeedbedError:
        """The error, here."""
        return named_error(self.error, self.text)


def read_files(credentials: ClientCredentials) -> dict[str, bytes]:
    """What stands in the files of credentials on this machine, by the option; a token from its variable too.

    Raises:
        AuthError: a file cannot be used.
    """
    credentials.read_tls()
    found = {name: path.read_bytes() for name in _FILES if (path := getattr(credentials, name)) is not None}
    tokens = watch_tokens(credentials.token_file).get().values
    return found | ({_TOKEN: "\n".join(tokens).encode()} if tokens else {})


def run_client(config: EnvConfig, files: Mapping[str, bytes]) -> Outcome:
    """Runs a client to its end in this process, in its main thread.

    Args:
        config: its options; paths of credentials are those of another machine.
        files: see `read_files`.
    """
    from seedbed.env_client.__main__ import main

    with tempfile.TemporaryDirectory(prefix="seedbed-") as folder, _signals_restored():
        paths = {name: Path(folder) / name for name in files}
        for name, path in paths.items():
            path.touch(mode=0o600)
            path.write_bytes(files[name])
        nowhere: dict[str, Any] = dict.fromkeys((_TOKEN, *_FILES))
        here = replace(config, credentials=replace(config.credentials, **{**nowhere, **paths}))
        try:
            return Outcome(main(to_argv(here)))
        except SeedbedError as error:
            return Outcome(error.exit_code, type(error).__name__, str(error))
        except SystemExit as leaving:  # told to stop before anything was leased
            return Outcome(leaving.code if isinstance(leaving.code, int) else 1)


@contextmanager
def _signals_restored() -> Iterator[None]:
    """The process belongs to somebody else, who may go on using it."""
    before = {number: signal.getsignal(number) for number in STOP_SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            if handler is not None:
                signal.signal(number, handler)
