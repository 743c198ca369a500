"""The dashboard's routes without sockets: what they say, and to whom."""

from __future__ import annotations

import io
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.server.dashboard.scene import Scene

pytest.importorskip("starlette")

from starlette.testclient import TestClient

from seedbed.common.credentials import Tokens
from seedbed.server.dashboard.app import make_app
from seedbed.server.dashboard.guard import HEADERS, Hosts

TOKEN = "0123456789abcdef0123"
API = ("/api/state", "/api/mosaic.png", "/api/bars", "/api/watch?slot=0", "/api/fleet", "/api/curves")


def client_of(scene: Scene, *tokens: str, listening: str = "127.0.0.1") -> TestClient:
    app = make_app(scene.facts, Hosts(listening), lambda: Tokens(tokens))
    return TestClient(app, base_url="http://127.0.0.1:7780")


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    """Three environments of one client and two of another, the second with a name like a script."""
    scene = Scene(tmp_path)
    first, second = scene.join("a", 5, 3, 4), scene.join("<img src=x onerror=alert(1)>", 100, 1)
    scene.look.take()
    for lease in (first, second):
        scene.send(lease, _images(lease.environment_indices), step_type=0)
        scene.answer(lease, torch.tensor([0.1, 0.7, 0.2]), -2.5, time.monotonic())
        scene.send(lease, _images(lease.environment_indices), reward=1.5)
        scene.answer(lease, torch.tensor([0.5, 0.25, 0.25]), float("nan"), time.monotonic())
    return scene


def _images(indices: tuple[int, ...]) -> np.ndarray[Any, Any]:
    """Every pixel is the environment's index."""
    return np.broadcast_to(np.array(indices, np.uint8)[:, None, None, None], (len(indices), 40, 36, 1))


def picture_of(png: bytes) -> np.ndarray[Any, Any]:
    """0 .. 255, by a reader that is not ours."""
    from matplotlib.image import imread

    return (imread(io.BytesIO(png), "png") * 255).round().astype(np.uint8)


def test_state_names_tiles_in_the_order_of_environments(scene: Scene) -> None:
    scene.metrics.write_text('{"agent_steps": 5, "entropy": 1.5, "episodes": 3, "episode_return_mean": null}\n')
    state = client_of(scene).get("/api/state").json()
    assert state["run"] == "scene"
    assert state["phase"] == "serving"
    assert state["gauges"]["entropy"] == 1.5
    assert state["gauges"]["return"] is None
    assert state["totals"]["agent_steps"] == 1000
    tiles = state["tiles"]
    assert (tiles["kind"], tiles["width"], tiles["height"], tiles["columns"]) == ("image", 36, 40, 3)
    assert tiles["environments"] == [1, 3, 4, 5, 100]
    assert tiles["slots"] == [4, 1, 2, 0, 3]
    assert tiles["clients"][1:4] == ["a"] * 3
    assert tiles["greedy"] == [False] * 4 + [True]


def test_mosaic_shows_each_environment_where_its_header_says(scene: Scene) -> None:
    response = client_of(scene).get("/api/mosaic.png?slots=all")
    layout = json.loads(response.headers["X-Seedbed-Tiles"])
    pixels = picture_of(response.content)
    for place, slot in enumerate(layout["slots"]):
        row, column = divmod(place, layout["columns"])
        tile = pixels[row * layout["height"] :, column * layout["width"] :][: layout["height"], : layout["width"]]
        assert np.unique(tile).tolist() == [scene.insight.environment[slot]]


def test_mosaic_of_chosen_slots_twice_as_large(scene: Scene) -> None:
    response = client_of(scene).get("/api/mosaic.png?slots=2,0&scale=2")
    assert json.loads(response.headers["X-Seedbed-Tiles"]) == {"columns": 2, "width": 72, "height": 80, "slots": [2, 0]}
    pixels = picture_of(response.content)
    assert pixels.shape[:2] == (80, 72 * 2)
    assert (pixels[0, 0].max(), pixels[0, 72].max()) == (4, 5)


def test_watch_tells_all_about_one_slot(scene: Scene) -> None:
    found = client_of(scene).get("/api/watch?slot=1").json()
    assert found["environment"] == 3
    assert found["client"] == "a"
    assert found["kind"] == "probabilities"
    assert found["policy"] == [0.5, 0.25, 0.25]
    assert found["value"] is None  # NaN: browsers refuse it
    assert (found["return"], found["step"], found["since_look"], found["version"]) == (1.5, 1, False, 7)
    assert found["trail"] == {"value": [-2.5, None], "reward": [0.0, 1.5]}


def test_fleet_has_a_row_for_each_client(scene: Scene) -> None:
    rows = client_of(scene).get("/api/fleet").json()
    assert [row["client"] for row in rows] == ["a", "<img src=x onerror=alert(1)>"]
    assert [row["environments"] for row in rows] == [3, 2]
    assert rows[0]["host"] == "192.0.2.7"


@pytest.mark.parametrize("path", API)
def test_every_route_of_the_api_wants_the_token(scene: Scene, path: str) -> None:
    client = client_of(scene, TOKEN)
    for headers in ({}, {"Authorization": "Bearer wrong-wrong-wrong-wrong"}, {"Authorization": TOKEN}):
        response = client.get(path, headers=headers)
        assert response.status_code == 401
        assert response.headers["WWW-Authenticate"] == "Bearer"
    assert client.get(path, headers={"Authorization": f"Bearer {TOKEN}"}).status_code in (200, 400)


def test_the_page_itself_needs_no_token(scene: Scene) -> None:
    client = client_of(scene, TOKEN)
    assert client.get("/").status_code == 200
    assert client.get("/favicon.ico").status_code == 204
    assert client.get("/static/index.html").status_code == 200


@pytest.mark.parametrize("path", ["/", *API, "/static/index.html", "/nothing"])
def test_every_answer_has_the_headers(scene: Scene, path: str) -> None:
    for client in (client_of(scene), client_of(scene, TOKEN)):
        response = client.get(path)
        assert {name: response.headers.get(name) for name in HEADERS} == HEADERS
        assert not [name for name in response.headers if name.startswith("access-control")]
