"""The moving picture of the dashboard in the README: `python -m tests.browser.picture`, minutes.

It trains Pong from pixels with `--seed 0` for a while, or takes a run that goes on already (`--url`), opens the
dashboard in Chromium, marks environments as a person would, and writes what the page shows as an animated GIF.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.browser.conftest import CHROMIUM

_SIZE = (1180, 800)  # of the window; the picture ends below the mosaic
_WIDTH = 900  # of the picture
_COLOURS = 96
_START_S = 300.0
_MARKS = ("ArrowRight", "ArrowDown", "ArrowRight")  # spread over the time


def main() -> int:
    """Makes the picture."""
    parser = argparse.ArgumentParser(prog="python -m tests.browser.picture", description=__doc__)
    parser.add_argument("--url", help="dashboard of a run that goes on already; without, one is started")
    parser.add_argument("--minutes", type=float, default=20.0, help="of training before (20)")
    parser.add_argument("--seconds", type=float, default=8.0, help="of the picture (8)")
    parser.add_argument("--per-second", type=float, default=6.0, help="frames (6)")
    parser.add_argument("--out", type=Path, default=Path("docs/images/dashboard.gif"))
    options = parser.parse_args()
    with contextlib.nullcontext(options.url) if options.url else _training(options.minutes) as url:
        frames = _record(url, options.seconds, options.per_second)
    _write(frames, options.per_second, options.out)
    print(f"{options.out}: {len(frames)} frames, {options.out.stat().st_size / 1e6:.2f} MB")
    return 0


@contextlib.contextmanager
def _training(minutes: float) -> Iterator[str]:
    """Pong, trained for so long; gives the address of its dashboard."""
    command = [
        sys.executable,
        "-m",
        "seedbed.server",
        "train",
        "--preset",
        "pong",
        "--seed",
        "0",
        "--dashboard-port",
        "0",
    ]
    process = subprocess.Popen(
        [*command, "--run-dir", "build/picture"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    try:
        assert process.stdout is not None
        deadline_s, url = time.monotonic() + _START_S, None
        while url is None:
            assert time.monotonic() < deadline_s, "expected the run to start in time"
            assert process.poll() is None, "expected the run to go on"
            found = re.search(r"dashboard\s+(http\S+)", process.stdout.readline().decode())
            url = found and found[1]
        end_s = time.monotonic() + 60 * minutes
        while time.monotonic() < end_s:  # what it says must be read, or it waits
            process.stdout.readline()
        yield url
    finally:
        process.terminate()
        process.communicate()


def _record(url: str, seconds: float, per_second: float) -> list[Any]:
    """Pictures of the page, as Pillow has them."""
    from PIL import Image
    from playwright.sync_api import sync_playwright

    frames = []
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=str(CHROMIUM), args=["--no-sandbox"])
        context = browser.new_context(viewport={"width": _SIZE[0], "height": _SIZE[1]}, color_scheme="dark")
        page: Any = context.new_page()
        page.set_default_timeout(_START_S * 1000)
        page.goto(url)
        page.wait_for_selector("#policy li")
        for _ in range(40):
            _wait_for_a_picture(page, 0.15)  # meanwhile the trail fills
        count = round(seconds * per_second)
        stage = page.locator("#stage").bounding_box()
        clip = {"x": 0, "y": 0, "width": _SIZE[0], "height": round(stage["y"] + stage["height"]) + 12}
        marks = {count * (i + 1) // (len(_MARKS) + 1): key for i, key in enumerate(_MARKS)}
        for number in range(count):
            if number in marks:
                page.keyboard.press(marks[number])
            _wait_for_a_picture(page, 1 / per_second)
            picture = Image.open(io.BytesIO(page.screenshot(clip=clip))).convert("RGB")
            size = (_WIDTH, round(_WIDTH * clip["height"] / clip["width"]))
            frames.append(picture.resize(size, Image.Resampling.LANCZOS))
        browser.close()
    return frames


def _wait_for_a_picture(page: Any, at_least_s: float) -> None:
    """Until the mosaic shows another one: on a busy machine that takes longer than it shall."""
    painted, begun_s = page.get_attribute("#mosaic", "data-painted"), time.monotonic()
    while time.monotonic() - begun_s < _START_S:
        page.wait_for_timeout(20)
        if page.get_attribute("#mosaic", "data-painted") != painted and time.monotonic() - begun_s >= at_least_s:
            return
    raise TimeoutError(f"expected another picture within {_START_S:g} s")


def _write(frames: list[Any], per_second: float, out: Path) -> None:
    """One palette for all frames, so that what stands still is equal in them and costs nothing."""
    from PIL import Image

    palette = frames[len(frames) // 2].quantize(_COLOURS, Image.Quantize.MAXCOVERAGE)  # few pixels have the colours
    first, *others = [frame.quantize(palette=palette, dither=Image.Dither.NONE) for frame in frames]
    out.parent.mkdir(parents=True, exist_ok=True)
    first.save(out, save_all=True, append_images=others, duration=round(1000 / per_second), loop=0, optimize=True)


if __name__ == "__main__":
    sys.exit(main())
