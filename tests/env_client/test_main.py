"""The client as a process: its options, its signals, its size. The server is the small one of echo_server.py."""

from __future__ import annotations

import asyncio
import json
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from seedbed.common.codec import spec_to_message
from seedbed.common.errors import UsageError
from seedbed.common.plugins import WIRE, Trust
from seedbed.common.specs import EnvironmentSpec
from seedbed.env_client import __main__ as client_main
from seedbed.env_client.config import EnvConfig
from seedbed.env_client.environments.building import Care, describe
from seedbed.env_client.servers import Servers
from seedbed.proto import seedbed_pb2 as pb
from tests.echo_server import EchoServer, break_stream, drain
from tests.parent_pipe import READ_END

COMMAND = [sys.executable, "-m", "seedbed.env_client"]


class ServerThread:
    """An echo server on a loop of its own."""

    def __init__(self) -> None:
        self.server = EchoServer()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self.server.start(), self._loop).result(10)

    def close(self) -> None:
        asyncio.run_coroutine_threadsafe(self.server.stop(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()


@pytest.fixture
def server() -> Iterator[EchoServer]:
    thread = ServerThread()
    yield thread.server
    thread.close()


def start(server: EchoServer, *arguments: str) -> subprocess.Popen[str]:
    command = [*COMMAND, "--server", f"127.0.0.1:{server.port}", "--exit-with-parent", *arguments]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, stdin=READ_END, stdout=pipe, stderr=pipe, text=True)


def wait_for(condition: object, within_s: float = 20.0) -> None:
    deadline_s = time.monotonic() + within_s
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < deadline_s
        time.sleep(0.02)


def test_describe_prints_json_and_nothing_else() -> None:
    done = subprocess.run(
        [*COMMAND, "--env", "seedbed/Catch-v0", "--describe"], capture_output=True, text=True, check=True, timeout=60
    )
    assert EnvironmentSpec.from_json(json.loads(done.stdout)) == describe("seedbed/Catch-v0", "")


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--env", "os:Pong-v0", "--describe", "--no-allow-import"], 2, "would import a module"),
        (["--env", "os:Pong-v0", "--describe"], 78, "cannot make 'os:Pong-v0'"),
        (["--server", "127.0.0.1:1", "--env-kwargs", "{}", "--grey"], 2, "--grey needs --env ID"),
        (["--num-envs", "2"], 2, "--server HOST:PORT is missing"),
        (["--describe"], 2, "--describe needs --env"),
        (["--server", "127.0.0.1:1", "--env", "Catch-v0", "--groups", "3"], 2, "--groups"),
        (["--server", "127.0.0.1:1", "--env", "seedbed/Catch-v0", "--give-up-after-s", "0"], 75, "gave up"),
    ],
)
def test_errors_are_one_line_and_an_exit_code(arguments: list[str], code: int, message: str) -> None:
    done = subprocess.run([*COMMAND, *arguments], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (code, "")
    assert message in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_signals_end_it_politely_and_soon(server: EchoServer, number: signal.Signals) -> None:
    client = start(server, "--env", "seedbed/Echo-v0,check=1", "--num-envs", "3", "--first-index", "40")
    wait_for(lambda: len(server.tape) > 200)
    client.send_signal(number)
    _, log = client.communicate(timeout=10)
    assert client.returncode == 0, log
    assert {entry for entry in server.tape if entry[0] == "goodbye"} == {
        ("goodbye", group, "told to stop") for group in (0, 1)
    }
    assert f"connected to 127.0.0.1:{server.port}: 3 environments in 2 groups" in log
    assert "seedbed/Echo-v0, seed of each environment index: {42: " in log


def test_a_client_that_knows_its_indices_builds_no_environment_only_to_look_at_it(server: EchoServer) -> None:
    """Unless the server does not know yet what it looks like, and what kind of pixels it shows."""
    program = (
        "import sys\n"
        "import seedbed.env_client.__main__ as client\n"
        "def refuse(*_):\n"
        "    raise AssertionError('built one more')\n"
        "client.describe = refuse\n"
        "sys.exit(client.main(sys.argv[1:]))\n"
    )
    options = ["--server", f"127.0.0.1:{server.port}", "--env", "seedbed/Echo-v0,check=1", "--first-index", "40"]
    command = [sys.executable, "-c", program, *options]
    ignorant = subprocess.run(command, stderr=subprocess.PIPE, text=True, timeout=20)
    assert "built one more" in ignorant.stderr
    server.specs = [spec_to_message(describe("seedbed/Echo-v0,check=1", ""))]
    client = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    wait_for(lambda: len(server.tape) > 20 or client.poll() is not None)
    client.terminate()
    _, log = client.communicate(timeout=10)
    assert client.returncode == 0, log


def test_other_indices_are_stepped_by_new_environments_under_a_new_run(server: EchoServer) -> None:
    """The server has forgotten the lease, and gives others; it checks each row."""
    server.offset = 50
    client = start(server, "--env", "seedbed/Echo-v0,check=1", "--num-envs", "3")
    wait_for(lambda: len(server.tape) > 200)
    server.leases.clear()
    server.faults[server.num_steps + 20] = break_stream
    wait_for(lambda: len(server.run_ids) == 2)
    seen = len(server.tape)
    wait_for(lambda: len(server.tape) > seen + 200)
    client.terminate()
    _, log = client.communicate(timeout=10)
    assert client.returncode == 0, log
    assert sorted({index for indices in server.granted.values() for index in indices})[:3] == [50, 51, 52]
    assert "are now" in log
    assert "Traceback" not in log


def test_second_signal_ends_it_the_hard_way(server: EchoServer) -> None:
    server.check = False
    client = start(server, "--env", "seedbed/Synthetic-v0,shape=2,step_ms=8000")
    wait_for(lambda: ("steps", 0, 1) in server.tape)
    time.sleep(1.0)  # it steps now, and will for eight seconds
    for _ in range(2):
        client.terminate()
        time.sleep(0.2)
    client.communicate(timeout=6)  # before its step is over
    assert client.returncode == -signal.SIGTERM


def test_child_ends_with_its_parent(server: EchoServer) -> None:
    command = [*COMMAND, "--server", f"127.0.0.1:{server.port}", "--env", "seedbed/Echo-v0", "--exit-with-parent"]
    client = subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    wait_for(lambda: len(server.tape) > 50)
    _, log = client.communicate(timeout=5)  # closes its standard input
    assert client.returncode == 0, log
    assert ("goodbye", 0, "told to stop") in server.tape


def test_signal_ends_the_wait_for_a_server_that_is_not_there() -> None:
    client = subprocess.Popen(
        [*COMMAND, "--server", "127.0.0.1:1", "--env", "seedbed/Echo-v0"], stderr=subprocess.PIPE, text=True
    )
    assert client.stderr is not None
    while "next attempt" not in client.stderr.readline():
        pass
    client.send_signal(signal.SIGTERM)
    client.communicate(timeout=10)
    assert client.returncode == 0


def test_finished_run_ends_the_client_with_success(server: EchoServer) -> None:
    server.faults[20] = drain(pb.Drain.REASON_FINISHED)
    client = start(server, "--env", "seedbed/Echo-v0,check=1")
    _, log = client.communicate(timeout=30)
    assert client.returncode == 0, log


def test_without_env_it_steps_what_the_server_serves(server: EchoServer) -> None:
    """Once it knows: a server may wait for the first client that brings an environment."""
    server.specs, server.knows_after = [spec_to_message(describe("seedbed/EchoMixed-v0", ""))], 1
    client = start(server, "--num-envs", "2")
    wait_for(lambda: len(server.tape) > 50)
    client.terminate()
    _, log = client.communicate(timeout=10)
    assert client.returncode == 0, log
    assert "the server has no environment yet and takes that of the first client with --env" in log


def test_without_env_a_server_of_several_tasks_chooses_one_and_from_then_on_it_is_named(server: EchoServer) -> None:
    server.specs = [spec_to_message(describe(f"seedbed/MemoryChain-v0,length={length}", "")) for length in (5, 6)]
    server.task, server.check = 1, False
    server.faults[1] = break_stream
    client = start(server)
    wait_for(lambda: ("hello", 0, True) in server.tape)
    assert server.named == ["seedbed/MemoryChain-v0,length=6"]  # the first Hello named none
    client.terminate()
    _, log = client.communicate(timeout=30)
    assert "seedbed/MemoryChain-v0,length=6, seed of each" in log


def test_a_server_that_says_of_no_row_which_task_it_is_is_refused(server: EchoServer) -> None:
    server.specs = [spec_to_message(describe(f"seedbed/MemoryChain-v0,length={length}", "")) for length in (5, 6)]
    server.task, server.check = 2, False
    client = start(server)
    _, log = client.communicate(timeout=30)
    assert client.returncode != 0
    assert "expected one of 2 tasks for each of 1 rows in Welcome, got [2]" in log


def test_server_cannot_make_the_client_import(server: EchoServer) -> None:
    server.specs = [spec_to_message(describe("seedbed/Echo-v0", ""))]
    server.specs[0].environment = "this:Echo-v0"
    client = start(server)
    _, log = client.communicate(timeout=30)
    assert client.returncode == 78
    assert "would import a module: that is never done for a server" in log
    assert "The Zen of Python" not in log


def test_nothing_is_imported_for_a_server_whatever_this_client_may_import(monkeypatch: pytest.MonkeyPatch) -> None:
    async def answer(_: Servers, *, must_know: bool) -> tuple[EnvironmentSpec, ...]:
        return (describe("CartPole-v1", ""),)

    monkeypatch.setattr(client_main, "describe_servers", answer)
    servers = Servers("127.0.0.1:1")
    (choice,) = client_main._choose_environment(EnvConfig(), servers, Care(trust=Trust(allow_import=True)))
    assert (choice.environment, choice.care.trust) == ("CartPole-v1", WIRE)


@pytest.mark.parametrize(
    ("kwargs", "code"), [('{"map_name":"8x8"}', 0), ('{"map_name":"this:8x8"}', 78), ('{"desc":"/etc/passwd"}', 78)]
)
def test_keyword_arguments_come_with_the_servers_name_unless_they_name_files_or_modules(
    server: EchoServer, kwargs: str, code: int
) -> None:
    pytest.importorskip("gymnasium")
    spec = describe('FrozenLake-v1{"map_name":"8x8"}', "")
    server.specs, server.check = [spec_to_message(replace(spec, environment=f"FrozenLake-v1{kwargs}"))], False
    client = start(server)
    if code == 0:
        wait_for(lambda: ("steps", 0, 1) in server.tape)
        client.terminate()
    _, log = client.communicate(timeout=30)
    assert client.returncode == code, log
    assert code == 0 or "never taken from a server: if they are meant, give --env and --env-kwargs" in log


@pytest.mark.slow
def test_child_ends_with_its_parent_although_its_environment_is_busy(server: EchoServer) -> None:
    server.check = False
    command = [*COMMAND, "--server", f"127.0.0.1:{server.port}", "--env", "seedbed/Synthetic-v0,shape=2,step_ms=20000"]
    client = subprocess.Popen(
        [*command, "--exit-with-parent"], stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    wait_for(lambda: ("steps", 0, 1) in server.tape)
    time.sleep(0.5)  # it steps now
    client.communicate(timeout=10)  # closes its standard input


def test_one_line_tells_of_a_failed_attempt_of_all_groups() -> None:
    command = [*COMMAND, "--server", "127.0.0.1:1", "--env", "seedbed/Echo-v0", "--num-envs", "4"]
    done = subprocess.run([*command, "--give-up-after-s", "1"], capture_output=True, text=True, timeout=30)
    lines = [line for line in done.stderr.splitlines() if "next attempt" in line]
    assert len(lines) == 1, lines
    assert "nobody listens on 127.0.0.1:1: is the server running, and is this its port?; next attempt in" in lines[0]


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads /proc")
def test_client_with_a_game_is_small_and_starts_quickly(server: EchoServer) -> None:
    """95 MB and half a second of CPU are the goals; the limits leave room for other versions of the libraries."""
    pytest.importorskip("ale_py")

    async def never(server: EchoServer, steps: pb.Steps, context: object) -> None:
        return

    server.faults[0] = never
    server.check = False
    client = start(server, "--env", "Pong")
    wait_for(lambda: ("steps", 0, 1) in server.tape)
    status = Path(f"/proc/{client.pid}/status").read_text()
    resident_kb = int(status.split("VmRSS:")[1].split()[0])
    user, system = Path(f"/proc/{client.pid}/stat").read_text().rsplit(")", 1)[1].split()[11:13]
    client.terminate()
    client.communicate(timeout=10)
    print(f"{resident_kb / 1024:.1f} MB, {(int(user) + int(system)) / 100:.2f} s")
    assert resident_kb < 110 * 1024
    assert (int(user) + int(system)) / 100 < 1.0


@pytest.mark.parametrize(
    ("num_envs", "groups", "expected"),
    [(5, "2", [[7, 8, 9], [10, 11]]), (1, "2", [[7]]), (2, "2", [[7], [8]]), (3, "1", [[7, 8, 9]])],
)
def test_groups_share_the_environments(num_envs: int, groups: str, expected: list[list[int]]) -> None:
    config = EnvConfig(num_envs=num_envs, groups=groups, first_index=7)  # type: ignore[arg-type]
    assert [list(indices) for indices in config.group_indices] == expected


def test_client_id_is_the_same_after_a_restart() -> None:
    assert EnvConfig(first_index=8).effective_client_id == EnvConfig(first_index=8).effective_client_id
    assert EnvConfig(first_index=8).effective_client_id != EnvConfig(first_index=9).effective_client_id
    assert EnvConfig(client_id="mine").effective_client_id == "mine"


def test_clients_that_leave_their_indices_to_the_server_have_a_name_of_their_own() -> None:
    """Also in containers, where all have the same process id, and perhaps the same host's name."""
    name = EnvConfig().effective_client_id
    assert re.fullmatch(re.escape(socket.gethostname()) + r"-\d{8}", name)
    assert EnvConfig().effective_client_id == name, "the same for as long as the process lives"
    program = "from seedbed.env_client.config import EnvConfig\nprint(EnvConfig().effective_client_id)"
    others = {subprocess.check_output([sys.executable, "-c", program], text=True).strip() for _ in range(2)}
    assert len(others | {name}) == 3
    assert EnvConfig(client_id="mine").effective_client_id == "mine"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--server", "127.0.0.1:1,"], "a list with an empty part"),
        (["--server", "127.0.0.1:1,127.0.0.1:1"], "127.0.0.1:1 twice"),
        (["--server", "dns:servers"], "got 'dns:servers'"),
        (["--server", "127.0.0.1:1,127.0.0.1:2", "--first-index", "3"], "--first-index with one server"),
        (["--server", "dns:servers:7777", "--first-index", "3"], "--first-index with one server"),
    ],
)
def test_servers_that_make_no_list_are_refused(options: list[str], words: str) -> None:
    with pytest.raises(UsageError) as caught:
        client_main.main(options)
    assert words in str(caught.value)
