"""Transport alone: real clients, gRPC, frontend, slots and leases, between environments and a policy that cost nothing.

Environments are synthetic, with observations as large as the real ones; what stepping them costs is measured alone and
subtracted. So the figure holds packing, sending, checking, copying into slots, ids, replies and unpacking: the CPU time
of clients, frontends and the device process's share.
"""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass

from seedbed.common.specs import EnvironmentSpec
from seedbed.env_client.environments.building import describe
from seedbed.server.options.config import ServerConfig
from tests.bench.accounting import Snapshot
from tests.bench.components import Cost, EnvironmentAlone, num_clients, synthetic_id
from tests.bench.programs import TIMEOUT_S, Program, all_of
from tests.bench.zero_server import ZeroServer

_WARM_UP_S = 0.5


@dataclass(frozen=True, slots=True)
class TransportCost:
    """CPU microseconds of one environment step, by who spends them."""

    client: float
    frontend: float
    device: float

    @property
    def total(self) -> Cost:
        """Of all three; by the clock nothing is known, since they work at the same time."""
        cpu_us = self.client + self.frontend + self.device
        return Cost(cpu_us, cpu_us)


class TransportAlone:
    """A server and clients with the configuration's messages and numbers of processes."""

    def __init__(self, config: ServerConfig, spec: EnvironmentSpec) -> None:
        self._config = config
        self._environment_id = synthetic_id(spec)
        self._stepping = EnvironmentAlone(config, self._environment_id)

    def measure(self, seconds: float) -> TransportCost:
        """Serves for so long."""
        own_us = self._stepping.measure(min(seconds, 1.0)).cpu_us
        with ZeroServer(describe(self._environment_id, ""), self._config.serving, self._config.num_slots) as server:
            clients = [Program(command) for command in self._commands(server.address)]
            with all_of(clients):
                deadline_s = time.monotonic() + TIMEOUT_S
                while server.inference.num_steps < 10 * self._config.fleet.num_envs:
                    for client in clients:
                        client.check("it was served")
                    assert time.monotonic() < deadline_s, "expected clients that step"
                    time.sleep(0.01)
                time.sleep(_WARM_UP_S)
                return self._window(server, [client.pid for client in clients], seconds, own_us)

    def _window(self, server: ZeroServer, clients: list[int], seconds: float, own_us: float) -> TransportCost:
        began, steps = (*server.snapshot(), Snapshot.of(clients)), server.inference.num_steps
        time.sleep(seconds)
        ended, steps = (*server.snapshot(), Snapshot.of(clients)), server.inference.num_steps - steps
        frontend, device, client = (
            after.cpu_s_since(before) / steps * 1e6 for before, after in zip(began, ended, strict=True)
        )
        return TransportCost(client=max(0.0, client - own_us), frontend=frontend, device=device)

    def _commands(self, address: str) -> list[tuple[str, ...]]:
        total, parts = self._config.fleet.num_envs, num_clients(self._config)
        counts = [total // parts + (number < total % parts) for number in range(parts)]
        client = (sys.executable, "-m", "seedbed.env_client", "--server", address, "--env", self._environment_id)
        commands: list[tuple[str, ...]] = []
        for number, count in enumerate(counts):
            share = ("--num-envs", str(count), "--first-index", str(sum(counts[:number])))
            commands.append((*client, *share, "--client-id", f"bench-{number}"))
        return commands
