"""The gate before every route: whose name is in `Host`, what may be asked, and who may ask."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.server.dashboard.scene import Scene

pytest.importorskip("starlette")

from starlette.testclient import TestClient

from seedbed.common.credentials import Tokens, watch_tokens
from seedbed.common.errors import UsageError
from seedbed.server.dashboard.app import make_app
from seedbed.server.dashboard.guard import HEADERS, Hosts, hosts_of
from tests.pki import Authority

TOKEN, OTHER = "0123456789abcdef0123", "abcdef0123456789abcd"


def client_of(scene: Scene, hosts: Hosts | None = None) -> TestClient:
    return TestClient(make_app(scene.facts, hosts or Hosts("127.0.0.1"), lambda: Tokens(())))


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"])
@pytest.mark.parametrize("path", ["/", "/api/state", "/static/index.html", "/nothing"])
def test_nothing_can_be_changed(tmp_path: Path, method: str, path: str) -> None:
    response = client_of(Scene(tmp_path)).request(method, path, headers={"Host": "localhost"})
    assert response.status_code == 405
    assert response.headers["Allow"] == "GET, HEAD"


def test_head_has_no_body(tmp_path: Path) -> None:
    response = client_of(Scene(tmp_path)).head("/api/fleet", headers={"Host": "localhost"})
    assert (response.status_code, response.content) == (200, b"")


LISTENING = {
    ("127.0.0.1", "127.0.0.1:7780"): True,
    ("127.0.0.1", "localhost"): True,
    ("127.0.0.1", "LOCALHOST:7780"): True,
    ("127.0.0.1", "[::1]:7780"): True,
    ("127.0.0.1", "evil.example"): False,
    ("127.0.0.1", "evil.example:7780"): False,
    ("127.0.0.1", "localhost.evil.example"): False,
    ("127.0.0.1", "127.0.0.1.evil.example"): False,
    ("127.0.0.1", "192.0.2.9"): False,
    ("127.0.0.1", ""): False,
    ("gpu.example", "gpu.example:7780"): True,
    ("gpu.example", "10.0.0.5:7780"): True,  # where the connection came to
    ("gpu.example", "10.0.0.6:7780"): False,
    ("0.0.0.0", "192.0.2.9:7780"): True,  # perhaps translated on the way; an address is no trick
    ("0.0.0.0", "evil.example"): False,
    ("::", "[2001:db8::7]:7780"): True,
}


@pytest.mark.parametrize(("listening", "host"), LISTENING)
def test_host(listening: str, host: str) -> None:
    assert Hosts(listening).accept(host, "10.0.0.5") is LISTENING[listening, host]


def test_a_page_elsewhere_gets_nothing_by_rebinding_a_name(tmp_path: Path) -> None:
    client = client_of(Scene(tmp_path))
    for path in ("/", "/api/state", "/api/mosaic.png", "/static/index.html"):
        response = client.get(path, headers={"Host": "evil.example"})
        assert response.status_code == 421
        assert response.headers["Content-Security-Policy"] == HEADERS["Content-Security-Policy"]


def test_names_of_the_certificate_are_the_servers(tmp_path: Path) -> None:
    pair = Authority(tmp_path).sign("server", "DNS:gpu.example,DNS:*.lab.example")
    hosts = hosts_of("0.0.0.0", pair.certificate, pair.key)
    assert hosts.accept("gpu.example:7780", "10.0.0.5")
    assert hosts.accept("a.lab.example", "10.0.0.5")
    assert not hosts.accept("a.b.lab.example", "10.0.0.5")
    assert not hosts.accept("lab.example", "10.0.0.5")
    assert not hosts.accept("evil.example", "10.0.0.5")


def test_a_token_can_be_replaced_while_the_dashboard_runs(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text(TOKEN)
    app = make_app(Scene(tmp_path).facts, Hosts("127.0.0.1"), watch_tokens(file).get)
    client = TestClient(app, base_url="http://localhost")
    assert client.get("/api/fleet", headers={"Authorization": f"Bearer {TOKEN}"}).status_code == 200
    file.write_text(OTHER + "\n")
    assert client.get("/api/fleet", headers={"Authorization": f"Bearer {TOKEN}"}).status_code == 401
    assert client.get("/api/fleet", headers={"Authorization": f"Bearer {OTHER}"}).status_code == 200


def test_a_token_in_the_address_is_none(tmp_path: Path) -> None:
    app = make_app(Scene(tmp_path).facts, Hosts("127.0.0.1"), lambda: Tokens((TOKEN,)))
    client = TestClient(app, base_url="http://localhost")
    for path in (f"/api/fleet?token={TOKEN}", f"/api/fleet?authorization=Bearer%20{TOKEN}"):
        assert client.get(path).status_code == 401
    assert client.get("/api/fleet", headers=[("Authorization", f"Bearer {TOKEN}")] * 2).status_code == 401


def test_observations_can_be_kept_private(tmp_path: Path) -> None:
    scene = Scene(tmp_path, frames=False)
    scene.join("a", 1, 2)
    client = TestClient(make_app(scene.facts, Hosts("127.0.0.1"), lambda: Tokens(())), base_url="http://localhost")
    for path in ("/api/mosaic.png", "/api/mosaic.png?slots=0", "/api/bars", "/api/bars?slots=0&part=0"):
        assert client.get(path).status_code == 403
    assert client.get("/api/watch?slot=0").json()["parts"] == []
    assert client.get("/api/state").json()["frames_shown"] is False


@pytest.mark.parametrize(
    "path",
    [
        "/api/mosaic.png?slots=12",
        "/api/mosaic.png?slots=-1",
        "/api/mosaic.png?slots=a",
        "/api/mosaic.png?slots=1,,2",
        "/api/mosaic.png?slots=" + ",".join(["1"] * 13),
        "/api/mosaic.png?scale=3",
        "/api/mosaic.png?scale=0",
        "/api/mosaic.png?part=1",
        "/api/bars",
        "/api/watch",
        "/api/watch?slot=99",
        "/api/watch?slot=1e3",
        "/api/curves?since=x",
    ],
)
def test_what_there_is_not_is_refused_with_a_sentence(tmp_path: Path, path: str) -> None:
    response = TestClient(
        make_app(Scene(tmp_path).facts, Hosts("127.0.0.1"), lambda: Tokens(())), base_url="http://localhost"
    ).get(path)
    assert response.status_code == 400
    assert response.text.startswith("expected ")


@pytest.mark.parametrize("path", ["/static/../app.py", "/static/%2e%2e/app.py", "/static//etc/passwd", "/static/"])
def test_files_beside_the_page_are_not_there(tmp_path: Path, path: str) -> None:
    client = TestClient(
        make_app(Scene(tmp_path).facts, Hosts("127.0.0.1"), lambda: Tokens(())), base_url="http://localhost"
    )
    assert client.get(path).status_code == 404


def test_beyond_loopback_only_with_protection(tmp_path: Path) -> None:
    from seedbed.common.credentials import ServerCredentials
    from seedbed.server.dashboard.process import Dashboard

    with pytest.raises(UsageError, match=r"TLS.*token.*could see this run"):
        Dashboard("0.0.0.0", 0, ServerCredentials(), Scene(tmp_path).facts)
    dashboard = Dashboard("0.0.0.0", 0, ServerCredentials(insecure=True), Scene(tmp_path).facts)
    dashboard.stop()
