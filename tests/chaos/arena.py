"""The processes of a chaos run: one server, started again and again; clients, some of them behind proxies."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import grpc
import psutil

from seedbed.proto import seedbed_pb2 as pb
from seedbed.proto.seedbed_pb2_grpc import SeedbedStub
from tests.chaos.history import Reader, server_file
from tests.system.proxy import Proxy

SIZES = (1, 2, 3, 4, 4, 2)
"""Environments of each client. Odd ones reach the server through a proxy of their own."""

STEP_MS = 20
NUM_SLOTS = 2 * sum(SIZES)
_START_S = 120.0
_STOP_S = 60.0  # seconds of it are what clients and frontends are given; the rest is for a busy machine
_SERVER = "import sys; from tests.chaos.server import main; sys.exit(main(sys.argv[1:]))"
_CLIENT = "import sys; from seedbed.common.cli import main; sys.exit(main())"
_QUIET = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}


class ChaosError(Exception):
    """Something is so wrong that the run cannot go on; the text says what."""


@dataclass(slots=True)
class Client:
    """One client process, or its place while there is none.

    Attributes:
        indices: of its environments.
        proxy: what it connects through; None: it connects to the server itself.
    """

    name: str
    indices: range
    proxy: Proxy | None
    process: subprocess.Popen[bytes] | None = None


class Arena:
    """Starts and ends everything; use it as a context.

    Attributes:
        environment: what clients step, out of `ECHO_SPECS`.
        incarnation: of the server, from 0.
        clients: all of them.
        episodes: that ended so far, by environment.
        live, used, leases: slots, and leases that hold them, when the server last told.
    """

    def __init__(self, directory: Path, seed: int, environment: str) -> None:
        self._directory = directory
        self.environment = environment
        self._port = _free_port()
        self.address = f"127.0.0.1:{self._port}"
        self.incarnation = -1
        self._server: subprocess.Popen[bytes] | None = None
        self._reader = Reader(server_file(directory, 0))
        self._serving = False
        self.episodes: Counter[int] = Counter()
        self.live = self.used = self.leases = 0
        self._stack = ExitStack()
        starts = [sum(SIZES[:number]) for number in range(len(SIZES))]
        self.clients = [
            Client(f"client-{i}", range(start, start + size), Proxy(self.address, seed=seed + i) if i % 2 else None)
            for i, (start, size) in enumerate(zip(starts, SIZES, strict=True))
        ]

    def __enter__(self) -> Self:
        try:
            for client in self.clients:
                if client.proxy is not None:
                    self._stack.enter_context(client.proxy)
            self.start_server()
            for client in self.clients:
                self.start_client(client)
        except BaseException as error:
            self.__exit__(type(error), error, None)
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        family = [process for process in (self._server, *(client.process for client in self.clients)) if process]
        for process in [*self.frontends(), *map(_psutil, family)]:
            if process is not None:
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.kill()
        for started in family:
            started.wait()
        self._stack.close()

    def start_client(self, client: Client) -> None:
        """Starts it, if it is not there."""
        if client.process is None:
            address = client.proxy.address if client.proxy else self.address
            environment = f"{self.environment},check=1,step_ms={STEP_MS}"
            options = ("--server", address, "--env", environment, "--client-id", client.name)
            indices = ("--num-envs", str(len(client.indices)), "--first-index", str(client.indices.start))
            client.process = self._start(client.name, _CLIENT, "env", *options, *indices)

    def kill_client(self, client: Client) -> None:
        """The hard way."""
        assert client.process is not None
        client.process.kill()
        client.process.wait()
        client.process = None

    def start_server(self) -> None:
        """Starts the next incarnation and waits until it serves.

        Raises:
            ChaosError: it does not.
        """
        self.incarnation += 1
        history = server_file(self._directory, self.incarnation)
        self._reader, self._serving = Reader(history), False
        self.live = self.used = self.leases = 0
        options = ("--port", str(self._port), "--num-slots", str(NUM_SLOTS), "--environment", self.environment)
        self._server = self._start("server", _SERVER, *options, "--history", str(history))
        self.wait_for(lambda: self._serving, "the server to serve", _START_S)

    def end_server(self, number: signal.Signals) -> None:
        """Sends SIGTERM or SIGKILL and waits until it and its frontends are gone.

        Raises:
            ChaosError: they stay, or a server that was asked to stop failed.
        """
        assert self._server is not None
        server, self._server = self._server, None
        frontends = _children(server)
        for frontend in frontends:
            with contextlib.suppress(psutil.NoSuchProcess):
                frontend.resume()
        server.send_signal(number)
        try:
            code = server.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            server.kill()
            raise ChaosError(f"the server did not stop within {_STOP_S:g} s of {number.name}") from None
        if number is signal.SIGTERM and code != 0:
            raise ChaosError(f"the server ended with {code} after SIGTERM, see server.log")
        _, left = psutil.wait_procs(frontends, _STOP_S)
        for frontend in left:
            with contextlib.suppress(psutil.NoSuchProcess):
                frontend.kill()
        if left:
            raise ChaosError(f"{len(left)} frontends outlived their server by {_STOP_S:g} s")

    def frontends(self) -> list[psutil.Process]:
        """gRPC processes that live now."""
        return _children(self._server) if self._server is not None else []

    def status(self) -> Mapping[str, float]:
        """The gauges of the server's own answer to Status."""
        with grpc.insecure_channel(self.address) as channel:
            return SeedbedStub(channel).Status(pb.StatusRequest(), timeout=_START_S, wait_for_ready=True).gauges

    def update(self) -> None:
        """Reads what the server has written since.

        Raises:
            ChaosError: a process has ended that nobody ended.
        """
        for record in self._reader.new():
            match record["kind"]:
                case "serving":
                    self._serving = True
                case "episode":
                    self.episodes[record["environment"]] += 1
                case "sample":
                    self.live, self.used, self.leases = record["live"], record["used"], record["leases"]
        if self._server is not None and self._server.poll() is not None:
            raise ChaosError(f"the server ended by itself with {self._server.returncode}, see server.log")
        for client in self.clients:
            if client.process is not None and client.process.poll() is not None:
                raise ChaosError(
                    f"{client.name} ended by itself with {client.process.returncode}: {self._last(client)}"
                )

    def wait_for(self, condition: Callable[[], bool], what: str, within_s: float) -> None:
        """Waits until a condition on the arena holds.

        Raises:
            ChaosError: it does not.
        """
        deadline_s = time.monotonic() + within_s
        while not condition():
            if time.monotonic() > deadline_s:
                raise ChaosError(f"expected {what} within {within_s:g} s (server {self.incarnation})")
            time.sleep(0.05)
            self.update()

    def stop_clients(self) -> None:
        """Asks all to leave.

        Raises:
            ChaosError: one does not, or says that something was wrong.
        """
        leaving = [(client, client.process) for client in self.clients if client.process is not None]
        for client, process in leaving:
            process.terminate()
            client.process = None
        for client, process in leaving:
            try:
                code = process.wait(_STOP_S)
            except subprocess.TimeoutExpired:
                process.kill()
                raise ChaosError(f"{client.name} did not leave within {_STOP_S:g} s") from None
            if code != 0:
                raise ChaosError(f"{client.name} ended with {code} after SIGTERM: {self._last(client)}")

    def _start(self, name: str, code: str, *arguments: str) -> subprocess.Popen[bytes]:
        with (self._directory / f"{name}.log").open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-c", code, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, **_QUIET},
                start_new_session=True,
            )

    def _last(self, client: Client) -> str:
        return (self._directory / f"{client.name}.log").read_text(errors="replace").strip()[-500:]


def _children(server: subprocess.Popen[bytes]) -> list[psutil.Process]:
    found = []
    with contextlib.suppress(psutil.NoSuchProcess):
        for child in psutil.Process(server.pid).children():
            with contextlib.suppress(psutil.NoSuchProcess):  # it has ended, and may not be waited for yet
                if "spawn_main" in " ".join(child.cmdline()):
                    found.append(child)
    return found


def _psutil(process: subprocess.Popen[bytes]) -> psutil.Process | None:
    return psutil.Process(process.pid) if process.poll() is None else None


def _free_port() -> int:
    """One below those that the system gives to outgoing connections: nobody takes it while no server has it."""
    while True:
        port = random.randrange(20_000, 32_000)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
