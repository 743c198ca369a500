"""`seedbed loadtest`: how many environments does a server carry, and what holds it up?"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
from collections.abc import Iterator, Sequence

from seedbed.common.logs import run_main, setup_logging
from seedbed.common.options import parse
from seedbed.common.output_file import check_output, writing
from seedbed.common.stop_signals import on_stop
from seedbed.env_client.loadtest import files, plot, report
from seedbed.env_client.loadtest.options import LoadTestOptions
from seedbed.env_client.loadtest.points import Load, make_loads
from seedbed.env_client.loadtest.report import LoadPoint
from seedbed.env_client.loadtest.session import Session
from seedbed.env_client.loadtest.spawn import spawned_server

_LOAD_ALLOWANCE_S = 120.0  # for clients to connect, and to leave
_DESCRIPTION = (
    "Load a server with synthetic clients; tell throughput, latency and the bottleneck. See docs/load-testing.md."
)


def main(argv: Sequence[str]) -> int:
    """Runs the test.

    Args:
        argv: without the program's name.

    Returns:
        0, or 1 when `--min-fps` was not reached.

    Raises:
        SeedbedError: wrong options, or a server that cannot be tested.
    """
    options = parse(LoadTestOptions(), argv, prog="seedbed loadtest", description=_DESCRIPTION)
    options.validate()
    loads = make_loads(options.clients, options.envs_per_client, options.rate)
    for flag, file in (("--json", options.json), ("--csv", options.csv), ("--plot", options.plot)):
        if file is not None:
            check_output(flag, file)
    if options.plot is not None:
        plot.require_matplotlib()
    setup_logging("loadtest")
    # All end what was started on their way out. (A shell starts background jobs with SIGINT ignored.)
    on_stop(_interrupt)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    points: list[LoadPoint] = []
    with _server(options, loads) as address:
        asyncio.run(_run(options, address, loads, points))
    return _check_frames(options, report.best_of(points))


def _interrupt(_signal: int, _frame: object) -> None:
    signal.raise_signal(signal.SIGINT)


@contextlib.contextmanager
def _server(options: LoadTestOptions, loads: Sequence[Load]) -> Iterator[str]:
    """HOST:PORT of the server under test."""
    if options.server is not None:
        yield options.server
        return
    max_seconds = len(loads) * (2 * options.seconds + _LOAD_ALLOWANCE_S)
    print("starting a server", file=sys.stderr)
    with spawned_server(options.spawned, max(load.num_envs for load in loads), max_seconds) as address:
        yield address


async def _run(options: LoadTestOptions, address: str, loads: Sequence[Load], points: list[LoadPoint]) -> None:
    """Measures, printing and writing as it goes: what a test that is interrupted has found is not lost."""
    session = Session(options, address)
    title = report.describe_test(await session.connect(), address, open_loop=options.rate is not None)
    print(f"{title}\n\n{report.header()}", flush=True)
    async with contextlib.aclosing(session.run(loads)) as measured:
        async for point in measured:
            points.append(point)
            print(report.row(point), flush=True)
            if options.json is not None:
                with writing("--json", options.json):
                    files.write_json(options.json, points)
            if options.csv is not None:
                with writing("--csv", options.csv):
                    files.write_csv(options.csv, points)
    if options.plot is not None:
        with writing("--plot", options.plot):
            plot.write_plot(options.plot, points, title)
    print(f"\n{report.details(report.best_of(points))}")


def _check_frames(options: LoadTestOptions, best: LoadPoint) -> int:
    reached = best.measurement.frames_per_s
    if options.min_fps is None or reached >= options.min_fps:
        return 0
    print(f"seedbed: expected at least {options.min_fps:,.0f} frames/s, got {reached:,.0f}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(run_main(main))
