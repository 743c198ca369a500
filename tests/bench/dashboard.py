"""What viewers of the dashboard cost a training: `python -m tests.bench.dashboard`.

One training, watched in turns by nobody and by three viewers who ask for what the page asks for: a picture of all
environments eight times a second, the marked environment four times, numbers and the fleet once. A pair of windows
follows another in the order ABBA, so what drifts cancels out; the ratio of a pair is agent steps/s with viewers over
those without. Viewers run on the same machine: their own cost is told apart. On a machine that others use too, the
ratio of CPU time per agent step (the dashboard's process included, viewers not) says more. Every option of
`seedbed train` is understood too.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import json
import multiprocessing
import socket
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.sharedctypes import Synchronized
from pathlib import Path
from typing import Any

import psutil

from tests.bench.system import Training, between

_EVERY_S = {
    "/api/mosaic.png": 0.125,
    "/api/watch?slot=0": 0.25,
    "/api/state": 1.0,
    "/api/fleet": 1.0,
    "/api/curves": 5.0,
}
"""As the page asks."""

_SETTLE_S = 2.0  # a look ends 1.5 s after the last request
_TIMEOUT_S = 60.0


@dataclass(frozen=True, slots=True)
class Window:
    """What happened in one window.

    Attributes:
        viewers: who looked.
        steps_per_s: agent steps/s of the run.
        cpu_us_per_step: of all processes of the run, the dashboard's among them.
        pictures_per_s: that all viewers got.
        viewer_cores, dashboard_cores: cores that their process and the dashboard's kept busy.
    """

    viewers: int
    steps_per_s: float
    cpu_us_per_step: float
    pictures_per_s: float
    viewer_cores: float
    dashboard_cores: float


def view(port: int, viewers: int, pictures: Synchronized[int]) -> None:
    """A process of so many viewers; it goes on until it is ended."""

    def ask(path: str, every_s: float) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_TIMEOUT_S)
        while True:
            begun_s = time.monotonic()
            with contextlib.suppress(OSError, http.client.HTTPException):
                connection.request("GET", path)
                response = connection.getresponse()
                response.read()
                if path.startswith("/api/mosaic") and response.status == 200:
                    with pictures.get_lock():
                        pictures.value += 1
            time.sleep(max(0.01, every_s - (time.monotonic() - begun_s)))

    for _ in range(viewers):
        for item in _EVERY_S.items():
            threading.Thread(target=ask, args=item, daemon=True).start()
    threading.Event().wait()


@contextlib.contextmanager
def viewers_of(port: int, viewers: int) -> Iterator[Callable[[], tuple[float, int]]]:
    """Viewers for as long as the block lasts; gives what reads their CPU seconds and pictures so far."""
    if not viewers:
        yield lambda: (0.0, 0)
        return
    context = multiprocessing.get_context("spawn")
    pictures: Synchronized[int] = context.Value("q", 0)
    process = context.Process(target=view, args=(port, viewers, pictures), daemon=True)
    process.start()
    found = psutil.Process(process.pid)
    try:
        yield lambda: (sum(found.cpu_times()[:2]), pictures.value)
    finally:
        process.kill()
        process.join()


def measure(training: Training, port: int, viewers: int, seconds: float) -> Window:
    """One window."""
    with viewers_of(port, viewers) as read:
        deadline_s = time.monotonic() + _TIMEOUT_S
        while viewers and not read()[1] and time.monotonic() < deadline_s:
            time.sleep(0.05)
        time.sleep(_SETTLE_S)
        began, (cpu_before_s, pictures_before) = training.moment(lambda line: True), read()
        dashboard_before_s, begun_s = _dashboard_cpu_s(training), time.monotonic()
        ended = training.later(began, seconds)
        (cpu_s, pictures), elapsed_s = read(), time.monotonic() - begun_s
    found = between(began, ended)
    return Window(
        viewers,
        found["agent_steps_per_s"],
        sum(found["cpu_us_per_step"].values()),
        (pictures - pictures_before) / elapsed_s,
        (cpu_s - cpu_before_s) / elapsed_s,
        (_dashboard_cpu_s(training) - dashboard_before_s) / elapsed_s,
    )


def _dashboard_cpu_s(training: Training) -> float:
    """Of the process that listens for viewers beside the training: the only spawned one with a niceness of its own."""
    parent = psutil.Process(training.pid)
    for child in parent.children():
        with contextlib.suppress(psutil.Error):
            if "spawn_main" in " ".join(child.cmdline()) and child.nice() > parent.nice():
                return float(sum(child.cpu_times()[:2]))
    return 0.0


def run(options: Sequence[str], *, pairs: int, viewers: int, seconds: float) -> list[tuple[Window, Window]]:
    """Pairs of windows, without viewers and with them."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [*options, "--dashboard-port", str(port)]
    with tempfile.TemporaryDirectory() as folder, Training(command, Path(folder) / "run") as training:
        training.steady()
        found = []
        for number in range(pairs):
            order = (0, viewers) if number % 2 == 0 else (viewers, 0)
            windows = {count: measure(training, port, count, seconds) for count in order}
            found.append((windows[0], windows[viewers]))
            print(_line(*found[-1]), flush=True)
        return found


def summarise(pairs: Sequence[tuple[Window, Window]]) -> dict[str, Any]:
    """Medians over the pairs."""
    ratios = [watched.steps_per_s / alone.steps_per_s for alone, watched in pairs]
    return {
        "pairs": len(pairs),
        "ratio": statistics.median(ratios),
        "ratios": ratios,
        "cpu_ratio": statistics.median(alone.cpu_us_per_step / watched.cpu_us_per_step for alone, watched in pairs),
        "cpu_us_per_step": statistics.median(alone.cpu_us_per_step for alone, _ in pairs),
        "steps_per_s": statistics.median(alone.steps_per_s for alone, _ in pairs),
        "pictures_per_s": statistics.median(watched.pictures_per_s for _, watched in pairs),
        "viewer_cores": statistics.median(watched.viewer_cores for _, watched in pairs),
        "dashboard_cores": statistics.median(watched.dashboard_cores for _, watched in pairs),
    }


def _line(alone: Window, watched: Window) -> str:
    return (
        f"alone {alone.steps_per_s:8.0f} steps/s   {watched.viewers} viewers {watched.steps_per_s:8.0f} "
        f"({watched.steps_per_s / alone.steps_per_s:.3f}; CPU of a step "
        f"{alone.cpu_us_per_step:.0f} and {watched.cpu_us_per_step:.0f} us)   "
        f"{watched.pictures_per_s:.1f} pictures/s, dashboard {watched.dashboard_cores:.3f} cores, "
        f"viewers {watched.viewer_cores:.3f}"
    )


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description="What viewers of the dashboard cost a training.")
    parser.add_argument("--pairs", type=int, default=6)
    parser.add_argument("--viewers", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=20.0, help="of a window")
    arguments, options = parser.parse_known_args()
    pairs = run(
        options or ["--preset", "pong", "--device", "cpu"],
        pairs=arguments.pairs,
        viewers=arguments.viewers,
        seconds=arguments.seconds,
    )
    print(json.dumps(summarise(pairs), indent=2))


if __name__ == "__main__":
    main()
