"""gRPC's standard health service in a frontend: grpc.health.v1, for the probes of gRPC's own tools.

It tells about the whole server, not about this process: a frontend in good health is of no use while inference or the
learner is stuck. With a token set it demands one like every other method; those who have none ask over HTTP.
"""

from __future__ import annotations

import asyncio
import time

import grpc.aio
from grpc_health.v1 import health_pb2_grpc
from grpc_health.v1.health import aio as health_aio
from grpc_health.v1.health_pb2 import HealthCheckResponse

from seedbed.server.shared.health import FRONTEND_BEAT_S, examine
from seedbed.server.shared.vitals import VitalsTable

OVERALL, LIVENESS, READINESS = "", "seedbed-liveness", "seedbed-readiness"


class HealthService:
    """The service, and this frontend's heartbeat."""

    def __init__(self, vitals: VitalsTable, number: int, stall_limit_s: float) -> None:
        """Nothing is registered yet.

        Args:
            vitals: of the whole server.
            number: of this frontend.
            stall_limit_s: see `health.examine`.
        """
        self._vitals = vitals
        self._number = number
        self._stall_limit_s = stall_limit_s
        self._servicer = health_aio.HealthServicer()

    async def register(self, server: grpc.aio.Server) -> None:
        """Adds it to a server that has not started. A servicer of gRPC says SERVING by default."""
        for service in (OVERALL, LIVENESS, READINESS):
            await self._servicer.set(service, HealthCheckResponse.NOT_SERVING)
        health_pb2_grpc.add_HealthServicer_to_server(self._servicer, server)

    async def run(self) -> None:
        """Beats for as long as it is not cancelled."""
        while True:
            await self._beat()
            await asyncio.sleep(FRONTEND_BEAT_S)

    async def leave(self) -> None:
        """Not serving from now on, whatever the vitals say."""
        await self._servicer.enter_graceful_shutdown()

    async def _beat(self) -> None:
        now_s = time.monotonic()
        self._vitals.frontends[self._number]["tick_s"] = now_s
        health = examine(self._vitals, self._stall_limit_s, now_s)
        for service, well in ((OVERALL, health.ready), (LIVENESS, health.live), (READINESS, health.ready)):
            status = HealthCheckResponse.SERVING if well else HealthCheckResponse.NOT_SERVING
            await self._servicer.set(service, status)
