"""How a fleet of client processes comes, and comes back when its server is killed: `python -m tests.bench.fleet`.

Starts a server and clients that step a synthetic environment, waits until all are connected, kills the server with
SIGKILL, starts it again on the same port, and waits until all are back. Prints times, memory per client, and what the
server's processes hold open. The clients are started by this program one after the other, so "all connected" is mostly
the time that Python takes to start on this machine; "all back" is what a restart of a server costs a fleet. With
`--tls` all of it is encrypted, with a token.
"""

from __future__ import annotations

import argparse
import json
import re
import secrets
import signal
import socket
import tempfile
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import psutil

from tests.bench.programs import SEEDBED, Program
from tests.pki import Authority

_POLL_S = 0.05
_WAIT = r"\S+:\d+: (.*); next attempt in (\S+) s$"  # as the client logs it


class Fleet:
    """A server and its clients; use it as a context.

    Attributes:
        clients: their processes.
    """

    def __init__(self, *, num_clients: int, step_ms: float, patience_s: float, tls: bool) -> None:
        """Starts nothing yet.

        Args:
            num_clients: client processes with an environment each.
            step_ms: what a step of it takes: the load that the server has besides.
            patience_s: for anything that should happen.
            tls: with a certificate and a token.
        """
        self._num_clients = num_clients
        self._environment = f"seedbed/Synthetic-v0,shape=8,dtype=float32,actions=4,step_ms={step_ms:g}"
        self._patience_s = patience_s
        self._stack = ExitStack()
        self._folder = Path(self._stack.enter_context(tempfile.TemporaryDirectory()))
        self._port, self._http_port = _free_ports(2)
        self._of_server, self._of_client = _make_credentials(self._folder) if tls else ((), ())
        self.clients: list[Program] = []

    def __enter__(self) -> Fleet:
        return self

    def __exit__(self, *_: object) -> None:
        for client in self.clients:
            client.process.send_signal(signal.SIGTERM)  # all at once: their contexts wait for one after the other
        self._stack.close()

    def start_server(self) -> float:
        """Starts it, or starts it again, and waits until it says that it is ready. Returns how long that took."""
        began_s = time.monotonic()
        options = {
            "env": self._environment,
            "torso": "mlp",
            "port": self._port,
            "http-port": self._http_port,
            "num-envs": self._num_clients,
            "run-dir": self._folder / "run",
            "device": "cpu",
        }
        arguments = [text for name, value in options.items() for text in (f"--{name}", str(value))]
        self._server = self._stack.enter_context(Program((*SEEDBED, "server", *arguments, *self._of_server)))
        self.wait_for(lambda: self._get("/readyz") is not None, "a server that is ready")
        return time.monotonic() - began_s

    def start_clients(self) -> float:
        """Starts them all and waits until all are connected. Returns how long that took."""
        began_s = time.monotonic()
        for number in range(self._num_clients):
            options = (
                "--server",
                f"127.0.0.1:{self._port}",
                "--env",
                self._environment,
                "--client-id",
                f"fleet-{number}",
                *self._of_client,
            )
            self.clients.append(self._stack.enter_context(Program((*SEEDBED, "env", *options))))
        self.wait_until_connected()
        return time.monotonic() - began_s

    def kill_server(self) -> None:
        """SIGKILL: nobody is told anything."""
        self._server.process.kill()
        self._server.process.wait()

    def wait_until_connected(self) -> list[float]:
        """Waits until every client holds a lease. Returns when the first came, the second, and so on, in seconds."""
        began_s = time.monotonic()
        arrivals: list[float] = []

        def all_connected() -> bool:
            connected = self.metric("seedbed_clients_connected")
            if connected > len(arrivals):
                arrivals.extend([time.monotonic() - began_s] * (int(connected) - len(arrivals)))
            return connected == self._num_clients

        self.wait_for(all_connected, f"{self._num_clients} clients")
        return arrivals

    def metric(self, name: str) -> float:
        """A number of the server; NaN while it does not answer."""
        found = re.search(rf"^{name} (\S+)$", self._get("/metrics") or "", re.MULTILINE)
        return float(found[1]) if found else float("nan")

    def held_open(self) -> dict[str, dict[str, int]]:
        """Threads and open files of each of the server's processes, by what it does."""
        device = psutil.Process(self._server.pid)
        family = {self._role(child): child for child in device.children(recursive=True)} | {"device": device}
        return {
            "threads": {role: process.num_threads() for role, process in sorted(family.items())},
            "open_files": {role: process.num_fds() for role, process in sorted(family.items())},
        }

    def _role(self, process: psutil.Process) -> str:
        connections = process.net_connections("tcp")
        ports = {one.laddr.port for one in connections if one.status == psutil.CONN_LISTEN}
        return "frontend" if self._port in ports else "http" if self._http_port in ports else "resource tracker"

    def wait_for(self, condition: Callable[[], bool], what: str) -> None:
        """Polls until a condition holds."""
        deadline_s = time.monotonic() + self._patience_s
        while not condition():
            self._server.check(what)
            if time.monotonic() > deadline_s:
                raise RuntimeError(f"expected {what} within {self._patience_s:g} s")
            time.sleep(_POLL_S)

    def _get(self, path: str) -> str | None:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self._http_port}{path}", timeout=10) as response:
                return str(response.read().decode())
        except (OSError, urllib.error.HTTPError):
            return None


def measure(*, num_clients: int, step_ms: float, patience_s: float, tls: bool = False) -> dict[str, Any]:
    """All of it; what it returns is what the command prints."""
    with Fleet(num_clients=num_clients, step_ms=step_ms, patience_s=patience_s, tls=tls) as fleet:
        figures: dict[str, Any] = {"clients": num_clients, "step_ms": step_ms, "tls": tls}
        figures["server_ready_s"] = fleet.start_server()
        figures["all_connected_s"] = fleet.start_clients()
        time.sleep(3.0)  # of ordinary work
        figures["client_bytes"] = {
            name: [_memory(client.pid, name) for client in fleet.clients] for name in ("Pss", "Rss")
        }
        figures["held_open"] = fleet.held_open()
        killed_s = time.monotonic()
        fleet.kill_server()
        figures["server_ready_again_s"] = fleet.start_server()
        figures["back_after_ready_s"] = fleet.wait_until_connected()
        figures["all_back_after_ready_s"] = figures["back_after_ready_s"][-1]
        figures["all_back_after_kill_s"] = time.monotonic() - killed_s
        time.sleep(3.0)
        figures["held_open_after"] = fleet.held_open()
        waits = [wait for client in fleet.clients for wait in re.findall(_WAIT, client.log, re.MULTILINE)]
        figures["waits_s"] = [float(wait) for _, wait in waits]
        figures["reasons"] = Counter(re.sub(r"[\d.]+", "N", reason) for reason, _ in waits)
    return figures


def report(figures: dict[str, Any]) -> str:
    """For people."""
    back_s = figures["back_after_ready_s"]
    memory = {name: sorted(values)[len(values) // 2] / 1e6 for name, values in figures["client_bytes"].items()}
    lines = [
        f"clients, one environment each          {figures['clients']:8}, {figures['step_ms']:g} ms a step"
        + ", TLS and a token" * figures["tls"],
        f"server ready after                     {figures['server_ready_s']:8.1f} s",
        f"all connected after                    {figures['all_connected_s']:8.1f} s",
        f"memory of a client, median             {memory['Pss']:8.1f} MB proportional, {memory['Rss']:.1f} MB resident",
        f"server killed; ready again after       {figures['server_ready_again_s']:8.1f} s",
        f"half of them back after that           {back_s[len(back_s) // 2]:8.1f} s",
        f"all back after that                    {figures['all_back_after_ready_s']:8.1f} s",
        f"all back after the kill                {figures['all_back_after_kill_s']:8.1f} s",
    ]
    lines += [f"{number:8} attempts failed: {reason[:90]}" for reason, number in figures["reasons"].most_common(5)]
    for what in ("threads", "open_files"):
        for name, before in figures["held_open"][what].items():
            label = f"{what.replace('_', ' ')} of {name}"
            lines.append(f"{label:<38} {before:8}, after the restart {figures['held_open_after'][what].get(name)}")
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.fleet", description=__doc__, allow_abbrev=False)
    parser.add_argument("--clients", type=int, default=256, help="client processes (default: 256)")
    parser.add_argument("--step-ms", type=float, default=500.0, help="of the synthetic environment (default: 500)")
    parser.add_argument("--patience-s", type=float, default=180.0, help="for each thing to happen (default: 180)")
    parser.add_argument("--tls", action="store_true", help="with a certificate and a token")
    parser.add_argument("--out", type=Path, help="write the figures as JSON")
    options = parser.parse_args(argv)
    figures = measure(
        num_clients=options.clients, step_ms=options.step_ms, patience_s=options.patience_s, tls=options.tls
    )
    if options.out is not None:
        options.out.write_text(json.dumps(figures, indent=2) + "\n")
    print(report(figures))


def _memory(pid: int, name: str) -> int:
    """Bytes of a process: "Pss", in which a shared page counts for its share, or "Rss"."""
    page = Path(f"/proc/{pid}/smaps_rollup").read_text()
    found = re.search(rf"^{name}: +(\d+) kB$", page, re.MULTILINE)
    assert found is not None
    return int(found[1]) * 1024


def _make_credentials(folder: Path) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Options of a server, and of its clients."""
    authority = Authority(folder)
    pair = authority.sign("server")
    (folder / "token").write_text(secrets.token_hex(32))
    token = ("--token-file", str(folder / "token"))
    server = ("--tls-cert", str(pair.certificate), "--tls-key", str(pair.key), *token)
    return server, ("--tls-ca", str(authority.certificate), *token)


def _free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


if __name__ == "__main__":
    main()
