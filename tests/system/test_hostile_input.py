"""What reaches an open port: floods, silence, bytes that are no gRPC. Each costs its sender only.

Single wrong messages are in tests/conformance, random ones in test_fuzz.py.
"""

from __future__ import annotations

import itertools
import multiprocessing
import queue
import resource
import socket
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress

import grpc
import psutil
import pytest

from seedbed.common.echo import echo_action
from tests.conformance.wire import Ended, RawClient, ServerUnderTest
from tests.system.echo import ECHO_SPEC, EchoServer
from tests.system.processes import eventually

pytestmark = pytest.mark.system

NUM_SLOTS, GRACE_S = 512, 1.0
HEALTHY_WITHIN_S = 1.0
NEWCOMER_WITHIN_S = 4.0
HANDSHAKE_S = 10.0
FLOOD_OVER_S = 60.0
MAX_GROWTH_BYTES = 24 << 20
"""Of a frontend's resident memory in one of these tests: the allocator's own ups and downs are a few megabytes."""

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
SETTINGS, PING, RST_STREAM, HEADERS, CONTINUATION = 4, 6, 3, 1, 9


def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    """One HTTP/2 frame (RFC 9113, section 4.1)."""
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


OPENING = PREFACE + frame(SETTINGS, 0, 0, b"")
GARBAGE = {
    "nothing": b"",
    "HTTP/1": b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(range(256)) * 2,
    "noise": bytes((7 * number * number) % 251 for number in range(100_000)),
    "zeros": bytes(100_000),
    "half a preface": PREFACE[:12],
    "preface, then noise": OPENING + bytes((11 * number * number) % 251 for number in range(50_000)),
    "a frame of 16 MB announced": OPENING + b"\xff\xff\xff\0\0\0\0\0\1",
    "headers that never end": OPENING + frame(HEADERS, 0, 1, bytes(100)) + frame(CONTINUATION, 0, 1, bytes(16000)) * 40,
    "a flood of settings": OPENING + frame(SETTINGS, 0, 0, struct.pack(">HI", 3, 100) * 10) * 5000,
    "a flood of pings": OPENING + frame(PING, 0, 0, bytes(8)) * 20_000,
    "a flood of resets": OPENING
    + b"".join(
        frame(HEADERS, 5, number, b"\x82\x87\x84\x41\x01a") + frame(RST_STREAM, 0, number, bytes(4))
        for number in range(1, 20_001, 2)
    ),
}


class Scene:
    """A server with one frontend, so that attackers and the healthy client share it.

    Attributes:
        server: to call.
        frontend: its process.
    """

    def __init__(self, echo: EchoServer) -> None:
        self.echo = echo
        self.server = ServerUnderTest(
            address=echo.address,
            spec=ECHO_SPEC,
            num_slots=NUM_SLOTS,
            grace_s=GRACE_S,
            policy=lambda observations: [echo_action(observations[0])],
        )
        name = "seedbed-frontend-0"
        self.frontend = psutil.Process(
            next(process.pid or 0 for process in multiprocessing.active_children() if process.name == name)
        )

    def connect(self) -> socket.socket:
        """A connection that says nothing yet."""
        host, _, port = self.server.address.rpartition(":")
        return socket.create_connection((host, int(port)), timeout=10.0)

    @property
    def used_rows(self) -> int:
        """Rows that are leased."""
        return self.echo.server.service.leases.used_rows


@contextmanager
def file_limit(soft: int) -> Iterator[None]:
    """Another soft limit of open files, for this process and those it starts meanwhile."""
    before, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if 0 <= hard < soft:
        pytest.skip(f"needs {soft} open files, the hard limit is {hard}")
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (before, hard))


@pytest.fixture(scope="module")
def scene() -> Iterator[Scene]:
    """Started under the soft limit of open files that is usual."""
    with ExitStack() as stack:
        with file_limit(1024):
            echo = stack.enter_context(EchoServer(num_slots=NUM_SLOTS, grace_s=GRACE_S, frontends=1))
        echo.audit.sound = ()
        yield Scene(echo)


@pytest.fixture(autouse=True)
def witness(scene: Scene) -> Iterator[RawClient]:
    """A healthy client from before the deed gets right answers after it and soon; so does a newcomer."""
    with RawClient(scene.server, num_envs=2) as healthy:
        healthy.exchange()
        yield healthy
        for _ in range(5):
            healthy.exchange(HEALTHY_WITHIN_S)
        with RawClient(scene.server, num_envs=2) as newcomer:
            newcomer.exchange(HEALTHY_WITHIN_S)
    eventually(lambda: scene.used_rows == 0, "all rows to be free", GRACE_S + 5)


@pytest.fixture
def bounded(scene: Scene) -> Iterator[None]:
    """Afterwards the frontend has no more files open, and hardly more memory."""
    files, before = scene.frontend.num_fds(), scene.frontend.memory_info().rss
    yield
    eventually(lambda: scene.frontend.num_fds() <= files + 2, "files to be closed", HANDSHAKE_S + 10)
    assert scene.frontend.memory_info().rss - before < MAX_GROWTH_BYTES


@pytest.mark.slow
@pytest.mark.usefixtures("bounded")
def test_bytes_that_are_no_grpc(scene: Scene, witness: RawClient) -> None:
    """Every one is hung up on, the silent ones after the time for a handshake. Meanwhile others are answered."""
    with ExitStack() as stack:
        ends = {name: stack.enter_context(scene.connect()) for name in GARBAGE}
        for name, data in GARBAGE.items():
            with suppress(ConnectionError, TimeoutError):  # it may be hung up on in the midst of this
                ends[name].sendall(data)
            witness.exchange(HEALTHY_WITHIN_S)
        for name in ("noise", "zeros", "HTTP/1", "TLS", "half a preface", "nothing"):
            assert is_hung_up_on(ends[name], HANDSHAKE_S + 5), name
            witness.exchange(HEALTHY_WITHIN_S)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["headers that never end", "a flood of pings"])
def test_sustained_floods_cost_time_and_nothing_else(kind: str, scene: Scene, witness: RawClient) -> None:
    """Five seconds of them hold everybody up, as SECURITY.md says, and when they are over all is as before."""
    opening, piece = GARBAGE[kind][: len(OPENING)], GARBAGE[kind][len(OPENING) :]
    until_s = time.monotonic() + 5.0
    longest_s = 0.0

    def flood() -> None:
        while time.monotonic() < until_s:
            with scene.connect() as end, suppress(OSError):
                end.settimeout(1.0)
                end.sendall(opening)
                while time.monotonic() < until_s:
                    end.sendall(piece)

    attackers = [threading.Thread(target=flood, daemon=True) for _ in range(4)]
    for attacker in attackers:
        attacker.start()
    while time.monotonic() < until_s:
        began_s = time.monotonic()
        witness.exchange(FLOOD_OVER_S)
        longest_s = max(longest_s, time.monotonic() - began_s)
    for attacker in attackers:
        attacker.join()
    eventually(lambda: scene.frontend.is_running() and scene.frontend.num_fds() < 100, "an end of it", FLOOD_OVER_S)
    assert scene.echo.server.vitals.device["frontend_restarts"] == 0
    print(f"{kind}: {longest_s:.1f} s without an action at most")


def is_hung_up_on(end: socket.socket, within_s: float) -> bool:
    """Reads until the connection ends."""
    end.settimeout(within_s)
    try:
        while end.recv(1 << 16):
            pass
    except TimeoutError:
        return False
    except ConnectionError:
        pass
    return True


@pytest.mark.slow
@pytest.mark.usefixtures("bounded")
def test_two_thousand_connections_that_say_nothing(scene: Scene, witness: RawClient) -> None:
    """More than the usual limit of open files: a frontend raises its own. They are hung up on in time."""
    with file_limit(8192), ExitStack() as stack:
        for _ in range(2000):
            stack.enter_context(scene.connect())
        witness.exchange(HEALTHY_WITHIN_S)
        newcomer = RawClient(scene.server)
        newcomer.dial().send(newcomer.hello())
        assert newcomer.stream.receive(NEWCOMER_WITHIN_S).welcome.grace_s == GRACE_S, "sooner than silence ends"
        newcomer.exchange(HEALTHY_WITHIN_S)
        newcomer.leave()
        eventually(lambda: scene.frontend.num_fds() < 100, "an end of silence", HANDSHAKE_S + 10)


@pytest.mark.slow
@pytest.mark.usefixtures("bounded")
def test_calls_that_say_nothing(scene: Scene, witness: RawClient) -> None:
    """Streams without a Hello are ended, and hold no rows meanwhile."""
    clients = [RawClient(scene.server) for _ in range(100)]
    streams = [client.dial() for client in clients]
    witness.exchange(HEALTHY_WITHIN_S)
    assert scene.used_rows == witness.num_envs
    for client, stream in zip(clients, streams, strict=True):
        ended = stream.end(HANDSHAKE_S + 5)
        assert ended.status is grpc.StatusCode.INVALID_ARGUMENT
        client.leave()


@pytest.mark.usefixtures("bounded")
def test_a_client_that_never_reads(scene: Scene, witness: RawClient) -> None:
    """What it does not take is not piled up: it is sent away when its next Steps finds the last answer unwritten."""
    options = (("grpc.use_local_subchannel_pool", 1), ("grpc.http2.bdp_probe", 0))
    with grpc.insecure_channel(scene.server.address, options=options) as channel:
        outgoing: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        act = channel.stream_stream("/seedbed.v1.Seedbed/Act")
        call = act(iter(outgoing.get, None), timeout=60.0)
        client = RawClient(scene.server, num_envs=400)
        outgoing.put(client.hello().SerializeToString())
        eventually(lambda: scene.used_rows == client.num_envs + witness.num_envs, "a lease", 5.0)
        for _ in range(500):  # 3 KB of actions each
            outgoing.put(client.steps().SerializeToString())
            time.sleep(0.002)
        eventually(lambda: scene.used_rows == witness.num_envs, "the end of its lease", GRACE_S + 5)
        witness.exchange(HEALTHY_WITHIN_S)
        with client.another(run_id=client.run_id + 1) as next_run:
            next_run.exchange()
        outgoing.put(None)
        call.cancel()


@pytest.mark.usefixtures("bounded")
def test_metadata_without_end(scene: Scene) -> None:
    with grpc.insecure_channel(scene.server.address) as channel:
        describe = channel.unary_unary("/seedbed.v1.Seedbed/Describe")
        with pytest.raises(grpc.RpcError) as refusal:
            describe(b"", metadata=(("x-long", "y" * (1 << 20)),), timeout=10.0)
    assert refusal.value.code() in (grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.UNAVAILABLE)


def test_methods_that_do_not_exist(scene: Scene) -> None:
    with grpc.insecure_channel(scene.server.address) as channel:
        for method in (
            "/seedbed.v1.Seedbed/Shutdown",
            "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
            "/",
        ):
            with pytest.raises(grpc.RpcError) as refusal:
                channel.unary_unary(method)(b"", timeout=10.0)
            assert refusal.value.code() is grpc.StatusCode.UNIMPLEMENTED


@pytest.mark.usefixtures("bounded")
def test_two_clients_that_take_turns(scene: Scene) -> None:
    """Copies of one container: the later one stays, the earlier one is refused for good."""
    earlier = RawClient(scene.server)
    earlier.connect()
    later = earlier.another(run_id=earlier.run_id + 1)
    later.connect()
    for _ in range(20):
        with pytest.raises(Ended) as refusal:
            earlier.connect()
        assert refusal.value.status is grpc.StatusCode.ABORTED
        later.exchange(HEALTHY_WITHIN_S)
    earlier.leave()
    later.leave()


@pytest.mark.usefixtures("bounded")
def test_two_streams_of_one_lease_that_take_turns(scene: Scene) -> None:
    """Both are the same incarnation, so each takes the lease from the other; nothing piles up."""
    client = RawClient(scene.server)
    for _ in range(100):
        client.connect()
    client.exchange(HEALTHY_WITHIN_S)
    client.leave()


def churn(scene: Scene, witness: RawClient, seconds: float) -> int:
    """Clients come, step, and go in every way there is, as fast as they can. The healthy one is answered throughout.

    Returns:
        How many there were.
    """
    ways = itertools.cycle(("goodbye", "broken off", "broken off in flight", "run again", "wrong message"))
    deadline_s = time.monotonic() + seconds
    num_clients = 0
    while time.monotonic() < deadline_s:
        client = RawClient(scene.server, num_envs=num_clients % 7 + 1)
        client.connect()
        client.exchange()
        match next(ways):
            case "goodbye":
                client.say_goodbye()
            case "broken off in flight":
                client.stream.send(client.steps())
                client.stream.break_off()
            case "run again":
                with client.another(run_id=client.run_id + 1) as again:
                    again.exchange()
            case "wrong message":
                client.stream.send(b"\xff")
                client.stream.end()
        client.leave()
        witness.exchange()  # with patience: in ten minutes a busy machine may well stand still for a second
        num_clients += 1
    return num_clients


def test_churn(scene: Scene, witness: RawClient) -> None:
    _churn_is_flat(scene, witness, 4.0)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_churn_for_ten_minutes(scene: Scene, witness: RawClient) -> None:
    _churn_is_flat(scene, witness, 600.0)


def _churn_is_flat(scene: Scene, witness: RawClient, seconds: float) -> None:
    """No more files, threads and leases afterwards, and hardly more memory."""
    churn(scene, witness, 1.0)  # pools and arenas have their size
    eventually(lambda: scene.used_rows == witness.num_envs, "an end of leases", GRACE_S + 5)
    files, threads = scene.frontend.num_fds(), scene.frontend.num_threads()
    before = scene.frontend.memory_info().rss
    num_clients = churn(scene, witness, seconds)
    print(f"{num_clients} clients, {(scene.frontend.memory_info().rss - before) / 2**20:.1f} MiB more")
    assert num_clients > 4 * seconds
    eventually(lambda: scene.used_rows == witness.num_envs, "an end of leases", GRACE_S + 5)
    scene.echo.server.service.leases.check_valid()
    eventually(lambda: scene.frontend.num_fds() <= files + 2, "files to be closed", 10.0)
    assert scene.frontend.num_threads() <= threads + 2
    assert scene.frontend.memory_info().rss - before < MAX_GROWTH_BYTES
