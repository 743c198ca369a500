"""The page over the dashboard's own application, and whether the test double of it says the same."""

from __future__ import annotations

import json
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.browser.conftest import Open
from tests.browser.fake_run import SCRIPT_CLIENT, FakeRun, tile_grey
from tests.browser.fake_server import HEADERS, serve
from tests.browser.real_server import CLIENTS, make_scene, serve_scene
from tests.browser.test_page import click_tile, hide

pytest.importorskip("uvicorn", reason="needs the extra dashboard")
pytest.importorskip("starlette", reason="needs the extra dashboard")

TOKEN = "0123456789abcdef"
INDICES = sorted(index for indices in CLIENTS.values() for index in indices)


@pytest.fixture
def url(tmp_path: Path) -> Iterator[str]:
    with serve_scene(make_scene(tmp_path)) as served:
        yield served


@pytest.mark.browser
def test_a_click_marks_the_environment_under_it(open_page: Open, url: str) -> None:
    opened = open_page(url=url)
    opened.is_alive()
    assert opened.text("#shown") == str(len(INDICES))
    for number in (10, 0, 8, 3):
        index = INDICES[number]
        click_tile(opened, number)
        opened.until(f"document.getElementById('watch-title').textContent === 'Environment {index}'")
        opened.until("document.querySelector('#policy li')")
        assert opened.grey() == tile_grey(index)
        client = next(name for name, indices in CLIENTS.items() if index in indices)
        assert opened.text("#watch-client") == client
    assert opened.page.locator("#policy .taken").count() <= 1
    opened.page.click("#fleet th[data-key='environments'] button")
    names = opened.page.eval_on_selector_all("#fleet td:first-child", "cells => cells.map(cell => cell.textContent)")
    assert names == ["a", SCRIPT_CLIENT]
    assert all(asked.startswith((url, "blob:")) for asked in opened.asked)
    assert opened.said == []


@pytest.mark.browser
def test_a_hidden_page_is_no_look(open_page: Open, tmp_path: Path) -> None:
    """Nothing is written for the page 2 s after it was hidden; when it is seen again everything goes on."""
    scene = make_scene(tmp_path)
    with serve_scene(scene) as url:
        opened = open_page(url=url)
        opened.is_alive()
        assert scene.look.lasts(time.monotonic())
        hide(opened, True)
        time.sleep(2)
        assert not scene.look.lasts(time.monotonic())
        length = scene.insight.trail_length.copy()
        time.sleep(0.3)
        assert (scene.insight.trail_length == length).all()
        hide(opened, False)
        deadline_s = time.monotonic() + 30
        while (scene.insight.trail_length == length).all():
            assert time.monotonic() < deadline_s
            time.sleep(0.05)


@pytest.mark.browser
def test_a_token_in_the_fragment_opens_the_server(open_page: Open, tmp_path: Path) -> None:
    with serve_scene(make_scene(tmp_path), TOKEN) as url:
        opened = open_page(url=url, fragment=f"#token={TOKEN}")
        opened.is_alive()
        assert opened.said == []


def test_the_double_says_what_the_server_says(url: str) -> None:
    """Routes, headers and keys: else tests of the page would be of another server."""
    from seedbed.server.dashboard.guard import HEADERS as SENT

    assert {**SENT, "Cache-Control": "no-store"} == HEADERS
    time.sleep(0.3)
    with serve(FakeRun()) as double:
        for path in ("api/state", "api/watch?slot=0", "api/fleet", "api/curves"):
            fetch(url + path)
            time.sleep(0.4)  # what the first look began the second one sees
            assert missing(fetch(double + path), fetch(url + path)) == [], path
        path = "api/mosaic.png?slots=all&scale=1&part=0"
        ours, theirs = (urllib.request.urlopen(where + path) for where in (double, url))
        with ours, theirs:
            layouts = [json.loads(answer.headers["X-Seedbed-Tiles"]) for answer in (ours, theirs)]
        assert layouts[0].keys() == layouts[1].keys()


def fetch(url: str) -> Any:
    with urllib.request.urlopen(url) as response:
        return json.load(response)


def missing(ours: Any, theirs: Any, path: str = "") -> list[str]:
    """Keys of the double that the server's answer has not."""
    if isinstance(ours, dict) and isinstance(theirs, dict):
        open_ended = path in ("/columns", "/busy")  # whatever there is
        lost = [] if open_ended else [f"{path}/{key}" for key in ours if key not in theirs]
        return lost + [
            line for key in ours if key in theirs for line in missing(ours[key], theirs[key], f"{path}/{key}")
        ]
    if isinstance(ours, list) and isinstance(theirs, list) and ours and theirs and isinstance(ours[0], dict):
        return missing(ours[0], theirs[0], f"{path}[0]")
    return []
