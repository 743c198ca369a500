"""What looks after a running server from outside its work: the HTTP endpoint, the dashboard and the watchdog."""

from __future__ import annotations

import logging

from seedbed.common.specs import EnvironmentSpec
from seedbed.server.dashboard.process import Dashboard
from seedbed.server.monitoring.http_endpoint import HttpEndpoint
from seedbed.server.monitoring.prometheus import ServerFacts
from seedbed.server.monitoring.watchdog import Watchdog
from seedbed.server.options.config import ServerConfig
from seedbed.server.options.serving import MonitoringConfig
from seedbed.server.shared.vitals import VitalsTable

logger = logging.getLogger(__name__)


class Watch:
    """All of them, as far as they are wanted."""

    def __init__(self, config: MonitoringConfig, facts: ServerFacts, dashboard: Dashboard | None = None) -> None:
        """Takes the port.

        Args:
            config: of the endpoint.
            facts: about the server.
            dashboard: of the server; it listens already.

        Raises:
            PortInUseError, UsageError: see `HttpEndpoint`.
        """
        port = config.http_port
        self._endpoints = [] if port is None else [HttpEndpoint(config.http_host, port, facts)]
        self._dashboards = [] if dashboard is None else [dashboard]
        self._watchdog = Watchdog(facts.vitals, facts.stall_limit_s)

    def start(self) -> None:
        """Answers and watches from now on."""
        for endpoint in self._endpoints:
            endpoint.start()
            logger.info("health and metrics on http://%s", endpoint.address)
        self._watchdog.start()

    def check(self) -> None:
        """Replaces what died."""
        for endpoint in self._endpoints:
            endpoint.check()
        for dashboard in self._dashboards:
            dashboard.check()

    def stop(self) -> None:
        """Answers no more. The watchdog goes on: what is left to do must not hang either."""
        for endpoint in self._endpoints:
            endpoint.stop()
        for dashboard in self._dashboards:
            dashboard.stop()


def make_watch(
    config: ServerConfig,
    spec: EnvironmentSpec,
    vitals: VitalsTable,
    version: str,
    dashboard: Dashboard | None = None,
    *,
    replica: int | None = None,
) -> Watch:
    """Of a training server.

    Args:
        config, spec, vitals, version, dashboard: of it.
        replica: its rank among several; None: there is one.
    """
    facts = ServerFacts(
        vitals=vitals,
        stall_limit_s=config.monitoring.stall_limit_s,
        num_slots=config.num_slots,
        frames_per_step=spec.frames_per_step,
        version=version,
        replica=replica,
    )
    return Watch(config.monitoring, facts, dashboard)
