"""The dashboard's routes without sockets: what they say, and to whom."""

from __future__ import annotations

import io
import json
import re
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from seedbed.common.array_spec import ArraySpec, action_mask
from tests.server.dashboard.scene import ACTION, IMAGE, Scene, spec_of

pytest.importorskip("starlette")

from starlette.testclient import TestClient

from seedbed.common.credentials import Tokens
from seedbed.server.dashboard.app import make_app
from seedbed.server.dashboard.curves import Curves
from seedbed.server.dashboard.guard import HEADERS, Hosts

TOKEN = "0123456789abcdef0123"
OTHER = "test/Other-v0"
API = ("/api/state", "/api/mosaic.png", "/api/bars", "/api/watch?slot=0", "/api/fleet", "/api/curves")


def client_of(scene: Scene, *tokens: str, listening: str = "127.0.0.1", peer: str = "127.0.0.1") -> TestClient:
    app = make_app(scene.facts, Hosts(listening), lambda: Tokens(tokens))
    return TestClient(app, base_url="http://127.0.0.1:7780", client=(peer, 50_000))


def test_names_of_clients_are_told_within_this_machine_alone(scene: Scene) -> None:
    """Who knows one may take its place, and everybody with the token may look."""
    near, far = client_of(scene), client_of(scene, peer="192.0.2.9")
    for client in (near, far):
        client.get("/api/fleet")
    scene.writer.is_watched(time.monotonic())
    scene.writer.write_fleet(scene.leases, time.monotonic())
    assert {row["client"] for row in near.get("/api/fleet").json()} == {"a", "<img src=x onerror=alert(1)>"}
    names = [row["client"] for row in far.get("/api/fleet").json()]
    assert len(set(names)) == 2
    assert all(re.fullmatch(r"client-[0-9a-f]{6}", name) for name in names)
    assert set(far.get("/api/state").json()["tiles"]["clients"]) == set(names)
    assert far.get("/api/watch?slot=0").json()["client"] == names[0]


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
    assert [state["tasks"][task] for task in tiles["tasks"]] == [OTHER, *["test/Scene-v0"] * 3, OTHER]


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
    assert [row["task"] for row in rows] == ["test/Scene-v0", OTHER]
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


def test_several_arrays_are_shown_each_as_it_is(tmp_path: Path) -> None:
    camera = ArraySpec(name="/camera", dtype="uint8", shape=(40, 36, 3), low=(0,), high=(255,))
    joints = ArraySpec(name="/joints", dtype="float32", shape=(3,))
    lidar = ArraySpec(name="/lidar", dtype="float32", shape=(200,), low=(0,), high=(10,))
    scene = Scene(tmp_path, spec_of(camera, action_mask([ACTION]), joints, lidar))
    lease = scene.join("robot", 3, 4)
    images = np.full((2, 40, 36, 3), [[[[1, 2, 3]]], [[[200, 100, 50]]]], np.uint8)
    numbers = np.array([[1, 2, 3], [4, 5, -6]], np.float32)
    far = np.linspace(0, 10, 400, dtype=np.float32).reshape(2, 200)
    scene.send(lease, images, np.ones((2, 3), np.uint8), numbers, far)
    client = client_of(scene)
    assert [(part["name"], part["kind"]) for part in client.get("/api/state").json()["tiles"]["parts"]] == [
        ("/camera", "image"),
        ("/joints", "vector"),
        ("/lidar", "summary"),
    ]
    pixels = picture_of(client.get("/api/mosaic.png?part=0").content)
    assert pixels[0, 36, :3].tolist() == [200, 100, 50]
    bars = client.get("/api/bars?part=1").json()
    assert (bars["kind"], bars["values"]) == ("vector", numbers.tolist())
    assert (bars["low"], bars["high"]) == ([1, 2, -6], [4, 5, 3])  # no bounds: what was seen
    summary = client.get("/api/bars?part=2&slots=1").json()
    assert summary["values"][0] == pytest.approx([far[1].min(), far[1].mean(), 10.0], rel=1e-5)
    parts = client.get("/api/watch?slot=1").json()["parts"]
    assert parts[1]["values"] == [4, 5, -6]
    assert client.get("/api/bars?part=0").status_code == client.get("/api/mosaic.png?part=1").status_code == 400


def test_curves_are_read_as_they_grow(scene: Scene) -> None:
    client = client_of(scene)
    assert client.get("/api/curves").json() == {"columns": {}, "newest_step": None}
    lines = [json.dumps({"agent_steps": step, "loss": None if step < 10 else 0.5, "name": "x"}) for step in range(1200)]
    scene.metrics.write_text("\n".join(lines) + '\n{"agent_steps": 99')  # a line that is being written
    found = client.get("/api/curves").json()
    steps = found["columns"]["agent_steps"]
    assert (len(steps), steps[-1], found["newest_step"]) == (500, 1199, 1199)
    assert set(found["columns"]) == {"agent_steps", "loss"}
    with scene.metrics.open("a") as file:
        file.write("99}\n")
    assert client.get("/api/curves?since=1199").json()["columns"] == {"agent_steps": [9999]}
    scene.metrics.write_text('{"agent_steps": 5}\n')  # a run that goes on from an earlier point
    assert client.get("/api/curves").json()["columns"] == {"agent_steps": [5]}


def test_time_that_is_left_counts_earlier_starts(scene: Scene) -> None:
    scene.vitals.device["started_s"] = time.monotonic() - 10
    facts = replace(scene.facts, run=replace(scene.facts.run, max_seconds=1000.0))
    app = make_app(facts, Hosts("127.0.0.1"), lambda: Tokens(()))
    client = TestClient(app, base_url="http://127.0.0.1:7780", client=("127.0.0.1", 50_000))
    assert client.get("/api/state").json()["left_s"] == pytest.approx(1000 - 300 - 10, abs=5)


def test_curves_of_a_long_run_keep_their_newest_line(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text("".join(f'{{"agent_steps": {step}}}\n' for step in range(20_002)))
    curves = Curves(path)
    curves.read()
    assert curves.since(-1)["columns"]["agent_steps"][-1] == curves.newest["agent_steps"] == 20_001


def test_rates_and_the_verdict_come_with_the_first_answer(scene: Scene) -> None:
    device = scene.vitals.device
    device["started_s"] = time.monotonic() - 10
    state = client_of(scene).get("/api/state").json()
    assert state["rates"]["steps_per_s"] == 0
    assert state["verdict"]["stage"] == "idle"
    assert set(state["busy"]) >= {"inference", "learner", "machine"}
    assert state["gauges"]["loss"] is None  # zero before the first update would mean something
    assert state["stages_ms"]["update"] is None


@pytest.mark.parametrize("shows", ["policy", "q_values"])
def test_numbers_of_a_policy_are_named(tmp_path: Path, shows: Any) -> None:
    box = ArraySpec(name="/arm", dtype="float32", shape=(2,), low=(-1,), high=(1,))
    grip = ArraySpec(name="/grip", dtype="int64", shape=(2,), low=(0,), high=(2, 1), kind="discrete")
    actions = [ACTION] if shows == "q_values" else [box, grip]
    scene = Scene(tmp_path, spec_of(IMAGE, actions=actions), shows=shows)
    scene.join("a", 1)
    found = client_of(scene).get("/api/watch?slot=0").json()
    if shows == "q_values":
        assert found["kind"] == "q_values"
        assert found["policy_parts"] == [{"name": "action", "kind": "q_values", "from": 0, "sizes": [3]}]
        return
    assert found["kind"] == "mixed"
    assert found["policy_parts"] == [
        {"name": "/arm", "kind": "normal", "from": 0, "sizes": [2, 2]},
        {"name": "/grip", "kind": "probabilities", "from": 4, "sizes": [3, 2]},
    ]
    assert found["action"] == {"/arm": [0, 0], "/grip": [0, 0]}
