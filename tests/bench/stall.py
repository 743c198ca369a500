"""Half of the clients freeze: what does that do to the others' round trips?

A real server trains on synthetic environments. Two processes hold the streams; then one of them is stopped (SIGSTOP),
later it goes on. No client may wait for another, so the p99 of those that live should not rise. It may fall, as they
have the server for themselves.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from tests.bench.programs import SEEDBED, Program, StreamHolder, all_of

_WARM_UP_S = 3.0


def measure_stall(server_options: Sequence[str], *, streams: int, rows: int, seconds: float) -> dict[str, float]:
    """Round trips of one half of the clients before, while and after the other half is frozen.

    Args:
        server_options: of `seedbed server`.
        streams: of each half.
        rows: environments in a message.
        seconds: of each of the three windows.
    """
    with tempfile.TemporaryDirectory() as folder:
        slots = ("--num-slots", str(2 * streams * rows), "--num-envs", str(2 * streams * rows))
        with Program((*SEEDBED, "server", *server_options, *slots, "--run-dir", folder)) as server:
            address = server.address()
            halves = [StreamHolder(address, streams=streams, rows=rows, number=number) for number in range(2)]
            with all_of(halves):
                for half in halves:
                    half.ready()
                for half in halves:
                    half.begin()
                time.sleep(_WARM_UP_S)
                return _windows(halves[0], halves[1], seconds)


def _windows(living: StreamHolder, frozen: StreamHolder, seconds: float) -> dict[str, float]:
    figures: dict[str, float] = {}
    living.mark()
    for name in ("before", "during", "after"):
        if name == "during":
            os.kill(frozen.pid, signal.SIGSTOP)
        if name == "after":
            os.kill(frozen.pid, signal.SIGCONT)
        time.sleep(seconds)
        window = living.mark()
        for percentile in ("p50", "p99"):
            figures[f"{percentile}_{name}_ms"] = window[f"round_trip_{percentile}_ms"]
        figures[f"messages_per_s_{name}"] = window["messages"] / window["seconds"]
    return figures


def main(argv: Sequence[str] | None = None) -> None:
    """Runs it, prints a table and writes the JSON file."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.stall", description=__doc__)
    parser.add_argument("--streams", type=int, default=4, help="of each half (default: 4)")
    parser.add_argument("--rows", type=int, default=8, help="environments in a message (default: 8)")
    parser.add_argument("--seconds", type=float, default=10.0, help="of each window (default: 10)")
    parser.add_argument("--out", type=Path, default=Path("build/stall.json"))
    options, server = parser.parse_known_args(argv)
    server = server or ["--preset", "pong", "--env", "seedbed/Synthetic-v0"]
    figures = measure_stall(server, streams=options.streams, rows=options.rows, seconds=options.seconds)
    for name in ("before", "during", "after"):
        print(
            f"{name:<7} p50 {figures[f'p50_{name}_ms']:7.1f} ms, p99 {figures[f'p99_{name}_ms']:7.1f} ms, "
            f"{figures[f'messages_per_s_{name}']:7,.0f} messages/s"
        )
    print(f"p99 during / before: {figures['p99_during_ms'] / figures['p99_before_ms']:.2f}")
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
