"""Chromium for the tests of the page: Debian's, driven by Playwright. Without either they are skipped."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.browser.fake_run import FakeRun
from tests.browser.fake_server import serve

CHROMIUM = Path("/usr/bin/chromium")
WIDE, NARROW = (1280, 860), (400, 800)

_PATIENCE_S = 30.0  # a loaded machine is slow, not wrong

Open = Callable[..., "Opened"]


class Opened:
    """A page that was opened, and what it did.

    Attributes:
        page: Playwright's.
        run: what the server serves.
        said: console messages, errors, dialogues: all that a sound page does not do.
        asked: URLs of its requests.
    """

    def __init__(self, page: Any, run: FakeRun, url: str) -> None:
        self.page, self.run, self.url = page, run, url
        self.said: list[str] = []
        self.asked: list[str] = []
        page.on("console", lambda message: self.said.append(f"{message.type}: {message.text}"))
        page.on("pageerror", lambda error: self.said.append(f"error: {error}"))
        page.on("dialog", self._dismiss)
        page.on("request", lambda request: self.asked.append(request.url))

    def _dismiss(self, dialog: Any) -> None:
        self.said.append(f"dialogue: {dialog.message}")
        dialog.dismiss()

    def text(self, selector: str) -> str:
        """What stands in an element."""
        return str(self.page.text_content(selector))

    def until(self, condition: str) -> None:
        """Waits until an expression is true. Playwright's own way makes code of text, which the policy forbids."""
        deadline_s = time.monotonic() + _PATIENCE_S
        while not self.page.evaluate(f"Boolean({condition})"):
            assert time.monotonic() < deadline_s, f"expected {condition}, in vain; the page said {self.said}"
            self.page.wait_for_timeout(30)

    def is_alive(self) -> None:
        """Waits until pictures and numbers stand there."""
        self.until("document.querySelector('#watch-figures dd') && document.querySelector('#fleet td')")
        self.until("document.querySelector('.u-over')")

    def grey(self) -> int:
        """The grey in the middle of the picture of the marked environment."""
        script = """() => {
            const shown = document.getElementById("picture");
            const pen = new OffscreenCanvas(1, 1).getContext("2d", { willReadFrequently: true });
            pen.drawImage(shown, shown.width / 2, shown.height / 2, 1, 1, 0, 0, 1, 1);
            return pen.getImageData(0, 0, 1, 1).data[0];
        }"""
        return int(self.page.evaluate(script))

    def asked_since(self, since_s: float, what: str = "/") -> list[str]:
        """Paths that the server was asked for after a time."""
        return [path for when_s, path in self.run.asked if when_s > since_s and path.startswith(what)]


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """Chromium without a window."""
    playwright = pytest.importorskip("playwright.sync_api", reason="needs the extra browser: pip install -e .[browser]")
    if not CHROMIUM.exists():
        pytest.skip(f"needs {CHROMIUM}: apt-get install --no-install-recommends chromium")
    with playwright.sync_playwright() as driver:
        launched = driver.chromium.launch(executable_path=str(CHROMIUM), args=["--no-sandbox"])
        yield launched
        launched.close()


@pytest.fixture
def open_page(browser: Any) -> Iterator[Open]:
    """Opens the page over a made-up run, or what `url` serves."""
    with ExitStack() as stack:

        def open_it(
            run: FakeRun | None = None,
            size: tuple[int, int] = WIDE,
            scheme: str = "dark",
            fragment: str = "",
            url: str | None = None,
        ) -> Opened:
            run = run or FakeRun()
            url = url or stack.enter_context(serve(run))
            context = browser.new_context(viewport={"width": size[0], "height": size[1]}, color_scheme=scheme)
            stack.callback(context.close)
            opened = Opened(context.new_page(), run, url)
            opened.page.goto(url + fragment)
            return opened

        yield open_it


@pytest.fixture
def now_s() -> Callable[[], float]:
    """The clock of `FakeRun.asked`."""
    return time.monotonic
