"""Machines and cables: network namespaces, which see neither the network of this machine nor one another's."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Self

SERVER_ADDRESS, CLIENT_ADDRESS = "10.77.0.1", "10.77.0.2"


def missing_rights() -> str | None:
    """Why there can be no namespaces here, or None."""
    if absent := [name for name in ("unshare", "nsenter", "ip") if shutil.which(name) is None]:
        return f"{', '.join(absent)} not installed"
    tried = subprocess.run(["unshare", "--net", "true"], capture_output=True, check=False)
    return None if tried.returncode == 0 else "no right to make network namespaces"


class Machine:
    """A network namespace with loopback and one interface; it lives as long as a process that sleeps in it.

    Attributes:
        prefix: command that runs another one there.
    """

    def __init__(self, *own: str) -> None:
        """Makes it.

        Args:
            *own: further options of `unshare`, and the command that ends in a sleep.
        """
        self._holder = subprocess.Popen(["unshare", "--net", *(own or ("sleep", "infinity"))])
        self.pid = self._holder.pid
        self.prefix: tuple[str, ...] = ("nsenter", f"--net=/proc/{self.pid}/ns/net")

    def ip(self, *arguments: str) -> None:
        """Runs `ip` there."""
        subprocess.run([*self.prefix, "ip", *arguments], check=True, capture_output=True)

    def close(self) -> None:
        """Ends the namespace, once nothing runs there."""
        self._holder.kill()
        self._holder.wait()


class Cable:
    """The server's machine and the client's; use it as a context.

    Attributes:
        server, client: the machines, at `SERVER_ADDRESS` and `CLIENT_ADDRESS`.
    """

    def __enter__(self) -> Self:
        self.server, self.client = Machine(), Machine()
        await_own_namespace(self.server, self.client)
        self.server.ip("link", "add", "cable", "type", "veth", "peer", "name", "cable", "netns", str(self.client.pid))
        for machine, address in ((self.server, SERVER_ADDRESS), (self.client, CLIENT_ADDRESS)):
            machine.ip("address", "add", f"{address}/24", "dev", "cable")
            machine.ip("link", "set", "cable", "up")
            machine.ip("link", "set", "lo", "up")
        return self

    def __exit__(self, *_: object) -> None:
        self.server.close()
        self.client.close()

    @contextlib.contextmanager
    def unplugged(self) -> Iterator[None]:
        """For a while: neither side is told."""
        self.server.ip("route", "add", "blackhole", f"{CLIENT_ADDRESS}/32")
        self.client.ip("route", "add", "blackhole", f"{SERVER_ADDRESS}/32")
        try:
            yield
        finally:
            self.server.ip("route", "delete", "blackhole", f"{CLIENT_ADDRESS}/32")
            self.client.ip("route", "delete", "blackhole", f"{SERVER_ADDRESS}/32")


class Node(Machine):
    """A machine with a name of its own, which knows others by theirs.

    Args:
        name: of the host.
        hosts: its /etc/hosts.
        disk: a folder and where it stands there, for it alone.
    """

    def __init__(self, name: str, hosts: Path, disk: tuple[Path, Path] | None = None) -> None:
        mounts = [(hosts, Path("/etc/hosts")), *([disk] if disk else [])]
        own = [f"hostname {name}", *(f"mount --bind {what} {where}" for what, where in mounts), "exec sleep infinity"]
        super().__init__("--uts", "--mount", "sh", "-c", " && ".join(own))
        self.prefix = ("nsenter", f"--target={self.pid}", "--net", "--uts", "--mount")
        await_own_namespace(self)


def connect(nodes: Mapping[str, Node]) -> None:
    """All to a switch, which the first one has; each has its address, the key, on `eth0`."""
    first, *others = nodes.values()
    first.ip("link", "add", "eth0", "type", "bridge")
    for number, other in enumerate(others):
        cable = f"cable{number}"
        first.ip("link", "add", cable, "type", "veth", "peer", "name", "eth0", "netns", str(other.pid))
        first.ip("link", "set", cable, "master", "eth0", "up")
    for address, node in nodes.items():
        node.ip("address", "add", f"{address}/24", "dev", "eth0")
        node.ip("link", "set", "eth0", "up")
        node.ip("link", "set", "lo", "up")


def await_own_namespace(*machines: Machine) -> None:
    """`unshare` has done its work once the process is another program."""
    for machine in machines:
        while b"sleep" not in _command(machine.pid):
            pass


def _command(pid: int) -> bytes:
    with open(f"/proc/{pid}/cmdline", "rb") as file:
        return file.read().partition(b"\0")[0]
