"""Clients behind a bad network: their lease lives through it, and nobody else notices."""

from __future__ import annotations

import signal
import subprocess
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from seedbed.common.credentials import ServerCredentials
from tests.pki import Authority
from tests.system.echo import EchoServer
from tests.system.processes import Program, eventually
from tests.system.proxy import Proxy

pytestmark = pytest.mark.system

DETECTION_S = 15.0
"""10 s until a silent peer is pinged, 5 s until the answer is missed."""

NAME_S = 25.0
"""Back-off, and 5 s at least between two looks at a name; the rest is for a busy machine."""

FAR, NEAR = range(4), range(4, 8)


class Scene:
    """A server with TLS and a token, one client near it and one behind the proxy.

    Attributes:
        echo, proxy, near, far: what there is.
    """

    def __init__(self, echo: EchoServer, proxy: Proxy, near: Program, far: Program) -> None:
        self.echo, self.proxy, self.near, self.far = echo, proxy, near, far

    def await_episodes(self, indices: range, within_s: float = 60.0) -> None:
        """Every environment ends another two, with right actions throughout."""
        seen = len(self.echo.episodes)

        def all_moved() -> bool:
            ended = Counter(index for index, _ in self.echo.episodes[seen:])
            return all(ended[index] >= 2 for index in indices)

        eventually(all_moved, f"episodes of {indices}", within_s)
        for client in (self.near, self.far):
            assert client.process.poll() is None, client.stderr

    def num_resumed(self) -> float:
        """Leases that went on with another stream, so far."""
        return self.echo.server.vitals.total("leases_resumed")


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    folder = tmp_path_factory.mktemp("pki")
    authority = Authority(folder)
    pair, token = authority.sign("server"), folder / "token"
    token.write_text("token-of-the-bad-network")
    credentials = ServerCredentials(token_file=token, tls_cert=pair.certificate, tls_key=pair.key)

    def start(address: str, indices: range) -> Program:
        environments = ("--env", "seedbed/Echo-v0,check=1,step_ms=0.5", "--num-envs", len(indices))
        let_in = ("--tls-ca", authority.certificate, "--token-file", token)
        return Program("env", "--server", address, *environments, "--first-index", indices[0], *let_in)

    with EchoServer(num_slots=16, grace_s=60.0, credentials=credentials) as echo, Proxy(echo.address) as proxy:
        with start(echo.address, NEAR) as near, start(proxy.address, FAR) as far:
            scene = Scene(echo, proxy, near, far)
            scene.await_episodes(FAR)
            yield scene
            for client in (near, far):
                client.send(signal.SIGTERM)
                assert client.wait() == 0, client.stderr
            assert near.stderr.count("connected to") == 1, "the near client had to reconnect"
            assert "lease lost" not in far.stderr
        assert echo.server.vitals.total("leases_opened") == 4
    assert echo.audit.problems == []
    echo.check_account()


@contextmanager
def unchanged(scene: Scene) -> Iterator[None]:
    """Nobody loses a lease, and not even a connection."""
    before = scene.num_resumed()
    yield
    assert scene.num_resumed() == before


def test_latency_jitter_loss_and_slices(scene: Scene) -> None:
    """A bad line is slow, and nothing else."""
    with unchanged(scene):
        for direction in (scene.proxy.to_server, scene.proxy.to_client):
            direction.latency_s, direction.jitter_s, direction.loss, direction.slice_bytes = 0.01, 0.01, 0.02, 60
        scene.await_episodes(FAR)
        for direction in (scene.proxy.to_server, scene.proxy.to_client):
            direction.latency_s = direction.jitter_s = direction.loss = 0.0
            direction.slice_bytes = None
        scene.await_episodes(NEAR, 5.0)


def test_a_pause(scene: Scene) -> None:
    """Shorter than the detection of dead peers: what was held comes late, and that is all."""
    with unchanged(scene), scene.proxy.to_client.holding(), scene.proxy.to_server.holding():
        scene.await_episodes(NEAR, 5.0)
    scene.await_episodes(FAR)


@pytest.mark.parametrize("how", ["reset", "cut"])
def test_broken_connections(scene: Scene, how: str) -> None:
    """Both groups of the client come back, to the same leases."""
    for _ in range(3):
        before = scene.num_resumed()
        getattr(scene.proxy, how)()
        scene.await_episodes(FAR)
        assert scene.num_resumed() == before + 2
    scene.await_episodes(NEAR, 5.0)


def test_a_server_that_cannot_be_reached_for_a_while(scene: Scene) -> None:
    before, accepted = scene.num_resumed(), scene.proxy.accepted
    scene.proxy.refusing = True
    scene.proxy.reset()
    eventually(lambda: scene.proxy.accepted >= accepted + 4, "attempts")
    scene.await_episodes(NEAR, 5.0)
    scene.proxy.refusing = False
    scene.await_episodes(FAR)
    assert scene.num_resumed() == before + 2


@pytest.mark.parametrize("direction", ["to_server", pytest.param("to_client", marks=pytest.mark.slow)])
def test_a_black_hole_in_one_direction(scene: Scene, direction: str) -> None:
    """Both sides find out, and the client comes back over a new connection; see test_half_open.py."""
    before, accepted = scene.num_resumed(), scene.proxy.accepted
    with getattr(scene.proxy, direction).holding():
        eventually(lambda: scene.proxy.accepted > accepted, "the client to notice", DETECTION_S + 5)
        scene.await_episodes(NEAR, 5.0)
    scene.await_episodes(FAR)
    assert scene.num_resumed() >= before + 2


def test_a_name_that_gets_another_address(tmp_path: Path) -> None:
    """The server moves. The client sees its own /etc/hosts, in a mount namespace, and looks again when it must."""
    if subprocess.run(["unshare", "--mount", "true"], capture_output=True, check=False).returncode != 0:
        pytest.skip("no right to make mount namespaces")
    hosts = tmp_path / "hosts"
    hosts.write_text("127.0.0.2 moving.test\n")
    prefix = ("unshare", "--mount", "sh", "-c", f'mount --bind "{hosts}" /etc/hosts && exec "$@"', "sh")
    with EchoServer(num_slots=8, grace_s=60.0, frontends=1) as echo, Proxy(echo.address, host="127.0.0.2") as before:
        port = int(before.address.rpartition(":")[2])
        options = ("--env", "seedbed/Echo-v0,check=1,step_ms=5", "--groups", 1)
        with (
            Proxy(echo.address, host="127.0.0.3", port=port) as after,
            Program("env", "--server", f"moving.test:{port}", *options, prefix=prefix) as client,
        ):
            client.eventually(lambda: echo.episodes, "an episode")
            hosts.write_text("127.0.0.3 moving.test\n")  # in place: the mount is of this file
            before.refusing = True
            before.reset()
            client.eventually(lambda: after.accepted, "the new address to be found", NAME_S)
            steps = echo.num_steps
            client.eventually(lambda: echo.num_steps > steps, "steps")
            assert echo.server.vitals.total("leases_opened") == 1
            client.send(signal.SIGTERM)
            assert client.wait() == 0
    assert echo.audit.problems == []
