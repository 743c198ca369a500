"""The dashboard's page in a browser, over a made-up run."""

from __future__ import annotations

import time
from itertools import pairwise
from typing import Any

import pytest

from tests.browser.conftest import NARROW, WIDE, Open, Opened
from tests.browser.fake_run import SCRIPT_CLIENT, FakeRun, tile_grey

pytestmark = pytest.mark.browser

TOKEN = "0123456789abcdef"


def test_it_is_quiet_and_stays_at_home(open_page: Open) -> None:
    """No message in the console, no request elsewhere; strangers' text is text."""
    opened = open_page()
    opened.is_alive()
    opened.page.select_option("#filter", label=SCRIPT_CLIENT)
    opened.until(f"document.getElementById('watch-client').textContent.includes({SCRIPT_CLIENT!r})")
    names = opened.page.eval_on_selector_all("#fleet td:first-child", "cells => cells.map(cell => cell.textContent)")
    assert SCRIPT_CLIENT in names
    assert opened.page.locator("main img, td *:not(button)").count() == 0
    assert opened.text("#run") == "pong"
    assert "inference is busy 71 %" in opened.text("#verdict")
    assert all(url.startswith((opened.url, "blob:")) for url in opened.asked)
    assert opened.said == []


def test_a_click_marks_the_environment_under_it(open_page: Open) -> None:
    opened = open_page(FakeRun(num_environments=13))
    opened.is_alive()
    for slot in (12, 0, 7, 3):
        click_tile(opened, slot)
        opened.until(f"document.getElementById('watch-title').textContent === 'Environment {100 + slot}'")
        opened.until("document.querySelector('#watch-figures dd')")
        assert opened.grey() == tile_grey(100 + slot)
        assert opened.text("#watch-client") == opened.run.clients[slot]


def test_keys(open_page: Open) -> None:
    opened = open_page()
    opened.is_alive()
    columns = columns_of(opened)
    for key, slot in (("ArrowRight", 1), ("ArrowDown", 1 + columns), ("ArrowLeft", columns), ("ArrowUp", 0)):
        opened.page.keyboard.press(key)
        assert opened.text("#watch-title") == f"Environment {100 + slot}"
    opened.page.keyboard.press("Space")
    assert opened.text("#phase") == "paused"
    time.sleep(0.3)  # what is under way may come
    paused_s = time.monotonic()
    time.sleep(1.2)
    assert opened.asked_since(paused_s, "/api/state")
    assert not opened.asked_since(paused_s, "/api/mosaic")
    opened.page.keyboard.press("Space")
    opened.page.keyboard.press("2")
    assert opened.page.get_attribute("[data-size='2']", "aria-pressed") == "true"
    opened.page.keyboard.press("?")
    assert opened.page.is_visible("#help")
    opened.page.keyboard.press("Escape")
    opened.page.keyboard.press("f")
    opened.until("document.fullscreenElement?.id === 'stage'")
    opened.page.keyboard.press("f")
    opened.until("!document.fullscreenElement")
    assert opened.asked_since(paused_s + 1.2, "/api/mosaic")


def test_nothing_is_asked_while_the_page_is_hidden(open_page: Open) -> None:
    opened = open_page()
    opened.is_alive()
    hide(opened, True)
    time.sleep(0.4)  # what is under way may come
    hidden_s = time.monotonic()
    time.sleep(3)
    assert opened.asked_since(hidden_s) == []
    hide(opened, False)
    time.sleep(0.5)
    assert opened.asked_since(hidden_s, "/api/mosaic")


def test_a_server_that_is_away_is_asked_ever_less_often(open_page: Open) -> None:
    opened = open_page()
    opened.is_alive()
    opened.run.away = "/"
    away_s = time.monotonic()
    opened.page.wait_for_selector("#notice:not([hidden])")
    assert "The server does not answer. Trying again" in opened.text("#notice")
    assert opened.text("#phase") == "no answer"
    time.sleep(4)
    asked = [when_s for when_s, path in opened.run.asked if when_s > away_s + 1.2 and path == "/api/state"]
    others = [path for when_s, path in opened.run.asked if when_s > away_s + 1.2 and path != "/api/state"]
    assert 1 <= len(asked) <= 6  # the browser itself tries a broken connection twice
    assert others == []
    gaps = [later - earlier for earlier, later in pairwise(asked) if later - earlier > 0.2]
    assert gaps == sorted(gaps)
    opened.run.away = None
    opened.until("document.getElementById('notice').hidden && document.getElementById('phase').textContent === 'live'")
    back_s = time.monotonic()
    time.sleep(0.6)
    assert opened.asked_since(back_s, "/api/mosaic")


def test_pictures_that_are_late_are_told(open_page: Open) -> None:
    """While numbers come: a server may be too busy for pictures alone."""
    opened = open_page()
    opened.is_alive()
    opened.run.away = "/api/mosaic"
    opened.until("document.getElementById('phase').textContent === 'pictures are late'")
    opened.run.away = None
    opened.until("document.getElementById('phase').textContent === 'live'")


def test_a_token_in_the_fragment_goes_to_the_server_in_a_header_alone(open_page: Open) -> None:
    opened = open_page(FakeRun(token=TOKEN), fragment=f"#token={TOKEN}")
    opened.is_alive()
    assert opened.page.url == opened.url
    assert not any(TOKEN in url for url in opened.asked[1:])  # the first is what was typed
    assert not any(TOKEN in path for _, path in opened.run.asked)
    kept = opened.page.evaluate("JSON.stringify([localStorage, sessionStorage, document.cookie, history.state])")
    assert TOKEN not in kept
    assert opened.said == []


def test_a_token_is_asked_for(open_page: Open) -> None:
    opened = open_page(FakeRun(token=TOKEN))
    for token, expected in (("wrong", "The server refused that token."), (TOKEN, "")):
        opened.page.wait_for_selector("#login[open]")
        asked_s = time.monotonic()
        time.sleep(1.2)
        assert opened.asked_since(asked_s, "/api") == []  # it waits for people
        opened.page.fill("#token", token)
        opened.page.click("#login button")
        if expected:
            opened.until(f"document.getElementById('login-error').textContent === {expected!r}")
    opened.is_alive()
    assert not opened.page.is_visible("#login")


@pytest.mark.parametrize(("size", "scheme"), [(NARROW, "dark"), (NARROW, "light"), (WIDE, "light")])
def test_it_fits_the_window_and_can_be_read(open_page: Open, size: tuple[int, int], scheme: str) -> None:
    opened = open_page(FakeRun(num_environments=36), size, scheme)
    opened.is_alive()
    assert opened.page.evaluate("document.documentElement.scrollWidth") == size[0]
    for text in ("text", "quiet", "mark", "bad", "data"):
        for ground in ("panel", "back"):
            assert contrast(opened, text, ground) >= 4.5, (text, ground)  # WCAG 2.2, 1.4.3
    nameless = """[...document.querySelectorAll("button, select, input, canvas")].filter(one =>
        !(one.textContent.trim() || one.getAttribute("aria-label") || one.labels?.length)).map(one => one.outerHTML)"""
    assert opened.page.evaluate(nameless) == []
    assert opened.page.locator("#mosaic").bounding_box()["width"] > 0.8 * min(size[0], 800)


def test_tiles_fill_the_room(open_page: Open) -> None:
    """As large as they can be: none could be a tenth larger, whatever the number of columns."""
    opened = open_page()
    opened.is_alive()
    wide = opened.page.evaluate("document.getElementById('view').clientWidth")
    tall = max(260, min(WIDE[1] * 0.62, 720))
    for count in (1, 2, 5, 36, 64, 100):
        opened.run.num_environments = count
        opened.until(f"document.getElementById('shown').textContent === '{count}'")
        columns = columns_of(opened)
        tile = (opened.page.locator("#mosaic").bounding_box()["width"] - 4) / columns - 4
        sides = [min((wide - 4) / n, (tall - 4) / -(-count // n)) - 4 for n in range(1, count + 1)]
        assert tile >= min(460, 0.92 * max(sides)) - 1, count
        assert opened.page.evaluate("document.querySelector('#view').scrollHeight") <= tall + 2
    assert opened.said == []


def test_filters(open_page: Open) -> None:
    opened = open_page()
    opened.is_alive()
    opened.page.select_option("#filter", "greedy")
    opened.until("document.getElementById('shown').textContent === '3 of 12'")
    chosen_s = time.monotonic()
    opened.page.wait_for_timeout(600)
    assert opened.asked_since(chosen_s, "/api/mosaic.png?slots=0,4,8&")
    click_tile(opened, 2)
    opened.until("document.getElementById('watch-title').textContent === 'Environment 108'")
    opened.page.wait_for_timeout(400)
    assert opened.grey() == tile_grey(108)
    opened.page.click("#fleet td button >> text=robot-lab-2")
    opened.until("document.getElementById('shown').textContent === '3 of 12'")
    assert opened.page.input_value("#filter") == "client robot-lab-2"
    assert opened.text("#watch-title") == "Environment 109"


def test_fleet_is_sorted_by_any_column(open_page: Open) -> None:
    opened = open_page()
    opened.is_alive()
    opened.page.click("#fleet th[data-key='think_ms'] button")
    assert opened.page.get_attribute("#fleet th[data-key='think_ms']", "aria-sort") == "descending"
    think = "cells => cells.map(cell => cell.textContent)"
    assert opened.page.eval_on_selector_all("#fleet td.think", think) == ["61.0 ms", "14.5 ms", "12.0 ms", "9.25 ms"]
    assert opened.page.eval_on_selector_all("#fleet tr.slow td.think", think) == ["61.0 ms"]
    opened.page.click("#fleet th[data-key='think_ms'] button")
    assert opened.page.eval_on_selector_all("#fleet td.think", think) == ["9.25 ms", "12.0 ms", "14.5 ms", "61.0 ms"]


@pytest.mark.parametrize(
    ("kind", "policy", "bars"),
    [("vector", "normal", 2), ("summary", "mixed", 5), ("both", "q_values", 4), ("image", "q_values", 4)],
)
def test_other_observations_and_actions(open_page: Open, kind: str, policy: str, bars: int) -> None:
    opened = open_page(FakeRun(kind=kind, policy=policy))
    opened.is_alive()
    opened.until("document.querySelector('#policy li')")
    assert opened.page.locator("#policy li").count() == bars
    assert opened.page.locator("#others li").count() == (kind == "both")
    opened.page.wait_for_timeout(300)
    assert bool(opened.asked_since(0, "/api/mosaic")) == (kind in ("image", "both"))
    assert bool(opened.asked_since(0, "/api/bars")) == (kind in ("vector", "summary"))
    assert opened.said == []


def test_one_of_several_arrays_is_looked_at(open_page: Open) -> None:
    opened = open_page(FakeRun(kind="both"))
    opened.is_alive()
    opened.page.select_option("#part", label="/vector")
    chosen_s = time.monotonic()
    opened.page.wait_for_timeout(800)
    assert opened.asked_since(chosen_s + 0.3, "/api/bars?slots=all&part=1")
    assert not opened.asked_since(chosen_s + 0.3, "/api/mosaic")
    opened.page.select_option("#part", label="/image")
    opened.page.wait_for_timeout(500)
    assert opened.grey() == tile_grey(100)
    assert opened.said == []


def test_numbers_alone(open_page: Open) -> None:
    """What a server shows that keeps observations private."""
    opened = open_page(FakeRun(frames=False))
    opened.is_alive()
    assert "numbers alone" in opened.text("#empty")
    assert not opened.asked_since(0, "/api/mosaic")
    assert opened.page.locator("#policy li").count() == 6
    assert opened.said == []


def test_nobody_is_connected_yet(open_page: Open) -> None:
    opened = open_page(FakeRun(num_environments=0))
    opened.until("document.getElementById('fleet-count').textContent === 'nobody yet'")
    opened.until("!document.getElementById('empty').hidden")
    assert opened.text("#empty") == "No environment is connected yet."
    assert opened.said == []


def columns_of(opened: Opened) -> int:
    """Columns of the mosaic."""
    return int(opened.page.get_attribute("#mosaic", "data-columns"))


def click_tile(opened: Opened, number: int) -> None:
    """Clicks into a tile, counted row by row."""
    columns, shown = columns_of(opened), int(opened.text("#shown").split()[0])
    rows = -(-shown // columns)
    box = opened.page.locator("#mosaic").bounding_box()
    row, column = divmod(number, columns)
    opened.page.mouse.click(
        box["x"] + (column + 0.5) / columns * box["width"], box["y"] + (row + 0.5) / rows * box["height"]
    )


def hide(opened: Opened, hidden: bool) -> None:
    """What a browser does when another tab comes to the front."""
    script = """hidden => {
        Object.defineProperty(document, "hidden", { configurable: true, get: () => hidden });
        document.dispatchEvent(new Event("visibilitychange"));
    }"""
    opened.page.evaluate(script, hidden)


def contrast(opened: Opened, text: str, ground: str) -> float:
    """Ratio of two colours' luminances by WCAG."""
    script = """names => names.map(name => getComputedStyle(document.documentElement).getPropertyValue("--" + name))"""
    light, dark = sorted(map(luminance, opened.page.evaluate(script, [text, ground])), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def luminance(colour: Any) -> float:
    channels = [int(colour.strip()[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
