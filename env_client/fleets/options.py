"""Options of `seedbed fleet`: the one source of their names, defaults and help."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from seedbed.common.credentials import ClientCredentials
from seedbed.common.environment_options import CareOptions, EnvironmentOptions
from seedbed.common.errors import UsageError
from seedbed.common.options import option
from seedbed.common.server_list import SERVERS_METAVAR, ServerList
from seedbed.env_client.config import EnvConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetOptions:
    """fleet"""

    ray: str | None = option(
        None,
        "the Ray cluster: auto (the one that this machine belongs to), HOST:PORT or ray://HOST:PORT",
        metavar="ADDRESS",
    )
    server: str | None = option(None, "the policy server, or its replicas", metavar=SERVERS_METAVAR)
    num_envs: int = option(64, "environments of all clients together", minimum=1)
    envs_per_client: int = option(16, "environments of one client, which is one task", minimum=1)
    cpus_per_client: float = option(1.0, "cores that are reserved for a client", minimum=0)
    groups: Literal["1", "2"] = option("2", "with 2 one half is stepped while the other waits for actions")
    allow_import: bool = option(
        True, "import, and so run, the module of --env MODULE:NAME; names that a server says never import anything"
    )
    environment: EnvironmentOptions = field(default_factory=EnvironmentOptions)
    care: CareOptions = field(default_factory=CareOptions)
    credentials: ClientCredentials = field(default_factory=ClientCredentials)

    def validate(self) -> None:
        """Checks what no single option can.

        Raises:
            UsageError: an option is missing or makes no sense.
        """
        if self.ray is None:
            raise UsageError("--ray ADDRESS is missing: auto, HOST:PORT or ray://HOST:PORT of a Ray cluster")
        if self.server is None:
            raise UsageError(f"--server {SERVERS_METAVAR} is missing")
        ServerList.parse(self.server)
        if self.care.render != "none":
            raise UsageError("expected no --render: nobody sees the windows of other machines")
        if self.environment.env is None and (flag := self.environment.needs_env) is not None:
            raise UsageError(f"{flag} needs --env ID: without it the server says all about the environment")

    def clients(self, name: str) -> list[EnvConfig]:
        """The options of each client: as many environments as may be, the last one what is left.

        Args:
            name: that all of their ids begin with.
        """
        counts = [self.envs_per_client] * (self.num_envs // self.envs_per_client)
        if left := self.num_envs % self.envs_per_client:
            counts.append(left)
        return [
            EnvConfig(
                server=self.server,
                num_envs=count,
                client_id=f"{name}-{number}",
                groups=self.groups,
                allow_import=self.allow_import,
                environment=self.environment,
                care=self.care,
                credentials=self.credentials,
            )
            for number, count in enumerate(counts)
        ]
