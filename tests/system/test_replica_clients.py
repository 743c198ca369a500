"""Clients of several real servers: which one they go to, and what happens when one dies or is full."""

from __future__ import annotations

import contextlib
import re
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import grpc
import pytest

from seedbed.proto import seedbed_pb2 as pb
from seedbed.proto.seedbed_pb2_grpc import SeedbedStub
from tests.system.processes import Program, eventually, run

pytestmark = pytest.mark.system

SMALL = ("--env", "seedbed/Synthetic-v0,shape=4,dtype=float32,actions=3,length=10,step_ms=5", "--device", "cpu")


@contextmanager
def serving(folder: Path, *num_slots: int, grace_s: float = 1.0) -> Iterator[list[Program]]:
    """Servers that only answer, each with so many slots."""
    with ExitStack() as stack:
        servers = []
        for number, slots in enumerate(num_slots):
            room = ("--num-envs", slots, "--num-slots", slots, "--grace-s", grace_s, "--no-train")
            program = Program("server", *SMALL, *room, "--http-port", "none", "--run-dir", folder / str(number))
            servers.append(stack.enter_context(program))
        yield servers


def used_rows(server: Program) -> int:
    with grpc.insecure_channel(server.address) as channel:
        return int(SeedbedStub(channel).Status(pb.StatusRequest(), timeout=10).gauges["used_rows"])


def target(servers: list[Program]) -> str:
    return ",".join(server.address for server in servers)


def test_a_client_goes_on_at_another_server_when_its_own_dies(tmp_path: Path) -> None:
    with serving(tmp_path, 4, 16) as servers:
        small, large = servers
        both = target(servers)
        with Program("env", "--server", both, "--num-envs", 4) as client:
            client.eventually(lambda: used_rows(large) == 4, "the client at the larger server")
            assert used_rows(small) == 0
            large.send(signal.SIGKILL)
            lost_s = time.monotonic()
            client.eventually(lambda: used_rows(small) == 4, "the client at the other one", 30)
            print(f"rows back after {time.monotonic() - lost_s:.1f} s")
            client.send(signal.SIGTERM)
            assert client.wait() == 0
            eventually(lambda: used_rows(small) == 0, "the rows to be free")


@pytest.mark.slow
def test_clients_fill_one_server_then_the_other(tmp_path: Path) -> None:
    """Three clients of 4 rows for 4 + 8 slots; a fourth waits, as it would for a single server."""
    with serving(tmp_path, 4, 8) as servers, ExitStack() as stack:
        both = target(servers)
        clients = [
            stack.enter_context(Program("env", "--server", both, "--num-envs", 4, "--client-id", f"c{number}"))
            for number in range(4)
        ]
        eventually(lambda: [used_rows(server) for server in servers] == [4, 8], "all rows taken")
        waiting = eventually(
            lambda: [one for one in clients if "next attempt" in one.stderr and "connected" not in one.stderr],
            "the client without a place to say so",
        )
        assert len(waiting) == 1
        (next(one for one in clients if one not in waiting)).send(signal.SIGTERM)
        waiting[0].eventually(lambda: "connected" in waiting[0].stderr, "the place that became free")


@pytest.mark.slow
def test_the_load_tester_and_the_doctor_know_lists(tmp_path: Path) -> None:
    with serving(tmp_path, 8, 8) as servers:
        both = target(servers)
        short = ("--seconds", 1, "--processes", 1)
        done = run("loadtest", "--server", both, "--clients", 4, "--envs-per-client", 4, *short)
        done.assert_well()
        assert f"against {both}, which serves seedbed/Synthetic-v0" in done.stdout
        assert "device@0" in done.stdout
        assert "device@1" in done.stdout
        run("loadtest", "--server", both, "--clients", 5, "--envs-per-client", 4, *short).assert_error(
            75, "room for 20 environments, 2 servers have 16 slots"
        )
        run("loadtest", "--server", both, "--first-index", 0).assert_error(2, "--first-index with one server")
        looked = run("doctor", "--server", both)
        looked.assert_well()
        assert "2 of 2 reached" in looked.stdout
        assert "different runs" in looked.stdout


@pytest.mark.slow
def test_clients_of_a_run_of_two_learners(tmp_path: Path) -> None:
    """Each learner has clients, no two environments share an index, and the end of the run ends all of them."""
    port = free_port_pair()
    both = f"127.0.0.1:{port},127.0.0.1:{port + 1}"
    options = ("--preset", "catch", "--num-envs", 8, "--target-return", "none", "--max-steps", 4000, "--device", "cpu")
    serve = ("server", "--learners", 2, *options, "--port", port, "--http-port", "none", "--run-dir", tmp_path / "run")
    with Program(*serve) as server, ExitStack() as stack:
        clients = [
            stack.enter_context(Program("env", "--server", both, "--num-envs", 4, "--client-id", f"c{number}"))
            for number in range(4)
        ]
        assert [client.wait() for client in clients] == [0, 0, 0, 0]
        assert server.wait() == 0
        places = [re.findall(r"connected to (\S+):", client.stderr) for client in clients]
        indices = [int(index) for client in clients for index in re.findall(r"[{,] ?(\d+): \d+", client.stderr)]
    assert {place for found in places for place in found} == set(both.split(","))
    assert len(indices) == len(set(indices)) == 16
    assert sorted(index >= 2**20 for index in indices).count(True) in (4, 8, 12)


def free_port_pair() -> int:
    """A port that nobody has now, and neither the next one."""
    while True:
        with socket.socket() as first, socket.socket() as second, contextlib.suppress(OSError):
            first.bind(("127.0.0.1", 0))
            port = int(first.getsockname()[1])
            second.bind(("127.0.0.1", port + 1))
            return port
