"""Minutes of training: does it stay as fast, and does any process grow?

Every few seconds the run's metrics, CPU and memory are read. Drift is the mean throughput of the last third over that
of the first, less 1, and the same of the CPU time of a step, which other work beside hardly touches; growth is the
least-squares slope of a process's resident memory, from its third sample on. Every option of `seedbed train` is
understood too.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from tests.bench.accounting import role
from tests.bench.statistics import drift, slope
from tests.bench.system import Moment, Training, between

_SKIPPED_SAMPLES = 2  # of a process: what it imports and allocates at its start


def watch(options: Sequence[str], *, minutes: float, interval_s: float) -> list[Moment]:
    """Samples of a run, from when it is steady on."""
    with tempfile.TemporaryDirectory() as folder, Training(options, Path(folder) / "run") as training:
        moments = [training.steady()]
        while moments[-1].metrics["wall_s"] - moments[0].metrics["wall_s"] < 60 * minutes:
            moments.append(training.later(moments[-1], interval_s))
        return moments


def summarise(moments: Sequence[Moment]) -> dict[str, Any]:
    """Throughput and CPU time of a step, their drift, and the growth of every process in MiB per minute."""
    walls = [moment.metrics["wall_s"] for moment in moments]
    windows = [between(*pair) for pair in pairwise(moments)]
    rates = [window["agent_steps_per_s"] for window in windows]
    costs_us = [sum(window["cpu_us_per_step"].values()) for window in windows]
    return {
        "minutes": (walls[-1] - walls[0]) / 60,
        "steps_per_s": sum(rates) / len(rates),
        "steps_per_s_drift": drift(rates),
        "cpu_us_per_step": sum(costs_us) / len(costs_us),
        "cpu_us_per_step_drift": drift(costs_us),
        "processes": _growth(moments, walls),
    }


def _growth(moments: Sequence[Moment], walls: Sequence[float]) -> Mapping[str, Mapping[str, float]]:
    """Memory of each process that lived to the end: "role pid" -> first, last and growth."""
    found = {}
    for pid in moments[-1].rss_bytes:
        samples = [
            (wall_s / 60, moment.rss_bytes[pid] / 2**20)
            for wall_s, moment in zip(walls, moments, strict=True)
            if pid in moment.rss_bytes
        ][_SKIPPED_SAMPLES:]
        if samples:
            minutes, sizes = zip(*samples, strict=True)
            found[f"{role(moments[-1].commands[pid])} {pid}"] = {
                "first_mib": sizes[0],
                "last_mib": sizes[-1],
                "mib_per_minute": slope(minutes, sizes),
            }
    return found


def main(argv: Sequence[str] | None = None) -> None:
    """Runs it, prints a table and writes the JSON file."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.steady", description=__doc__, allow_abbrev=False)
    parser.add_argument("--minutes", type=float, default=10.0, help="of training once it is steady (default: 10)")
    parser.add_argument("--interval-s", type=float, default=5.0, help="between samples (default: 5)")
    parser.add_argument("--out", type=Path, default=Path("build/steady.json"))
    options, training = parser.parse_known_args(argv)
    moments = watch(training or ["--preset", "pong"], minutes=options.minutes, interval_s=options.interval_s)
    figures = summarise(moments)
    print(
        f"{figures['minutes']:.1f} minutes, {figures['steps_per_s']:,.0f} agent steps/s, "
        f"drift {figures['steps_per_s_drift']:+.1%}; {figures['cpu_us_per_step']:,.0f} us of CPU a step, "
        f"drift {figures['cpu_us_per_step_drift']:+.1%}"
    )
    for name, growth in figures["processes"].items():
        print(
            f"{name:<20} {growth['first_mib']:7.1f} -> {growth['last_mib']:7.1f} MiB, "
            f"{growth['mib_per_minute']:+.2f} MiB a minute"
        )
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
