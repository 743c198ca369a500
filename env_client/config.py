"""Options of `seedbed env`: the one source of their names, defaults and help."""

from __future__ import annotations

import functools
import secrets
import socket
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from seedbed.common.credentials import ClientCredentials
from seedbed.common.environment_options import CareOptions, EnvironmentOptions, FilmOptions
from seedbed.common.errors import UsageError
from seedbed.common.options import option
from seedbed.common.platforms import can_isolate
from seedbed.common.plugins import Trust, start_directory
from seedbed.common.server_list import SERVERS_METAVAR


@dataclass(frozen=True, slots=True, kw_only=True)
class EnvConfig:
    """environment client"""

    server: str | None = option(
        None,
        "the policy server; of several replicas one with room is chosen: a list by commas, or all addresses of a name",
        metavar=SERVERS_METAVAR,
    )
    num_envs: int = option(1, "environments to step", minimum=1)
    first_index: int | None = option(
        None,
        "index of the first environment in the fleet, which decides its seed; the server chooses unless given",
        minimum=0,
    )
    indices: str | None = option(
        None, "indices of the environments, where they do not follow one another", metavar="N,N,...", hidden=True
    )
    client_id: str | None = option(
        None, "stable name of this client, unique in the fleet; made of the host's and random digits unless given"
    )
    groups: Literal["1", "2"] = option("2", "with 2 one half is stepped while the other waits for actions")
    give_up_after_s: float | None = option(
        None, "exit when the server has been away for so long; wait for ever unless given", minimum=0
    )
    allow_import: bool = option(
        True, "import, and so run, the module of --env MODULE:NAME; names that a server says never import anything"
    )
    import_from: Path | None = option(
        None, "where that module is looked for last; the working directory unless given", metavar="DIR", hidden=True
    )
    exit_with_parent: bool = option(False, "stop when standard input closes: the process that started this one is gone")
    describe: bool = option(False, "print the environment's spec as JSON and exit; needs --env")
    environment: EnvironmentOptions = field(default_factory=EnvironmentOptions)
    care: CareOptions = field(default_factory=CareOptions)
    film: FilmOptions = field(default_factory=FilmOptions)
    credentials: ClientCredentials = field(default_factory=ClientCredentials)

    def validate(self) -> None:
        """Checks what no single option can.

        Raises:
            UsageError: an option is missing.
        """
        if self.care.isolate and not can_isolate():
            raise UsageError("expected no --isolate on Windows: environments there share the client's process")
        if self.server is None and not self.describe:
            raise UsageError("--server HOST:PORT is missing")
        if self.environment.env is not None:
            return
        if self.describe:
            raise UsageError("--describe needs --env ID")
        if (flag := self.environment.needs_env) is not None:
            raise UsageError(f"{flag} needs --env ID: without it the server says all about the environment")

    @property
    def trust(self) -> Trust:
        """In the --env of this command line."""
        return Trust(allow_import=self.allow_import, start_directory=start_directory(self.import_from))

    @property
    def effective_client_id(self) -> str:
        """The given name, or one that no other process of the fleet has while this one lives.

        With a first index it stays the same when this client is restarted, which is then recognised and takes its old
        place at once. Without, the place of a client that crashed stays taken for the server's grace time.
        """
        return self.client_id or f"{socket.gethostname()}-{_digits() if self.first_index is None else self.first_index}"

    @property
    def chooses_indices(self) -> bool:
        """Whether this client says which environments of the fleet it has, and not the server."""
        return self.first_index is not None or self.indices is not None

    @property
    def group_indices(self) -> list[Sequence[int]]:
        """Environment indices of each group, none of them empty; the first half is the larger one.

        They are stable if the first one was given, and wishes otherwise.
        """
        start = self.first_index or 0
        everyone: Sequence[int] = range(start, start + self.num_envs)
        if self.indices is not None:
            everyone = tuple(map(int, self.indices.split(",")))
        if self.groups == "1" or len(everyone) == 1:
            return [everyone]
        middle = (len(everyone) + 1) // 2
        return [everyone[:middle], everyone[middle:]]


@functools.cache
def _digits() -> str:
    """Eight random digits, the same for as long as this process lives: hosts of containers may share names and ids."""
    return f"{secrets.randbelow(10**8):08}"
