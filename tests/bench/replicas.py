"""Several learners beside one with as many environments and as large batches: throughput, and CPU time of a step.

    python -m tests.bench.replicas --learners 1 2 --preset pong

Environments and the unrolls of a train batch are shared out, so every row learns the same from as many environments. On
one machine with few cores several learners cannot be faster; what they cost shows in the CPU time of an agent step, of
all processes together: clients, frontends, devices. Rounds go through all rows in turn, since machines drift; medians
are printed. The collectives alone are measured too, in processes that do nothing else: how long a buffer of all
gradients takes when all are there (transfer), a meeting before an update, and how long a run's learners waited for one
another (wait). Every option of `seedbed train` is understood.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.bench.system import Training, between

_WARM_UP = 5
_REPEATS = 30
_COLUMNS = (
    ("learners", "{:.0f}"),
    ("agent_steps_per_s", "{:,.0f}"),
    ("updates_per_s", "{:.2f}"),
    ("update_ms", "{:.1f}"),
    ("cpu_us_per_step", "{:,.0f}"),
    ("relative_cpu", "{:.2f}"),
    ("batch_share", "{:.2f}"),
    ("wait_share", "{:.2f}"),
    ("policy_lag_mean", "{:.1f}"),
)


_LEAST_SHARE = 0.01  # of the CPU time; less is not worth a line


def measure(
    options: Sequence[str], num_learners: int, num_envs: int, batch_size: int, seconds: float, folder: Path
) -> dict[str, Any]:
    """One window of a run.

    Args:
        options: of `seedbed train`.
        num_learners: of the run.
        num_envs, batch_size: of all of them together.
        seconds: of the window.
        folder: a fresh one.
    """
    shared = ("--num-envs", str(num_envs // num_learners), "--batch-size", str(batch_size // num_learners))
    learners = ("--learners", str(num_learners)) if num_learners > 1 else ()
    with Training((*options, *shared, *learners, "--dashboard-port", "off", "--track", "none"), folder) as training:
        began = training.steady()
        ended = training.later(began, seconds)
        found = between(began, ended)
    line = ended.metrics
    ranks = range(num_learners) if num_learners > 1 else ()
    return {
        "learners": num_learners,
        "agent_steps_per_s": found["agent_steps_per_s"],
        "updates_per_s": found["updates_per_s"],
        "update_ms": line["update_ms_mean"] or 0.0,
        "cpu_us_per_step": sum(found["cpu_us_per_step"].values()),
        "batch_share": statistics.fmean(line[f"replica/{rank}/batch_share"] or 0 for rank in ranks) if ranks else 1.0,
        "wait_share": statistics.fmean(line[f"replica/{rank}/wait_share"] or 0 for rank in ranks) if ranks else 0.0,
        "policy_lag_mean": line["policy_lag_mean"] or 0.0,
        "threads": {
            f"{part} {name}": cpu_us
            for part, threads in found["threads_cpu_us_per_step"].items()
            for name, cpu_us in threads.items()
        },
    }


def collectives(num_learners: int, numel: int) -> dict[str, float]:
    """Milliseconds of an all-reduce of so many float32 numbers and of a meeting, when all are there: medians."""
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as folder:
        results = context.Queue()
        processes = [
            context.Process(target=_collect, args=(f"{folder}/store", rank, num_learners, numel, results))
            for rank in range(num_learners)
        ]
        for process in processes:
            process.start()
        found = [results.get(timeout=120) for _ in processes]
        for process in processes:
            process.join(30)
    return {name: statistics.median(one[name] for one in found) for name in found[0]}


def _collect(store: str, rank: int, world: int, numel: int, results: Any) -> None:
    import torch
    from torch import distributed as dist

    from seedbed.server.learning.exchange.link import Link
    from seedbed.server.learning.exchange.meeting import Report, Told, to_row

    torch.set_num_threads(1)
    link = Link(dist.FileStore(store, world), rank, world)
    buffer, row = torch.zeros(numel), to_row(Told(Report(), ()), 64)
    times: dict[str, list[float]] = {"transfer_ms": [], "meeting_ms": []}
    for number in range(_WARM_UP + _REPEATS):
        for name, work in (("transfer_ms", lambda: link.sum(buffer)), ("meeting_ms", lambda: link.gather(row))):
            link.wait_for_all()
            begun_s = time.perf_counter()
            work()
            if number >= _WARM_UP:
                times[name].append(1000 * (time.perf_counter() - begun_s))
    results.put({name: statistics.median(values) for name, values in times.items()})
    link.wait_for_all()


def summarise(windows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Medians of each number of learners, and CPU time relative to the first."""
    rows: list[dict[str, Any]] = []
    for num_learners in dict.fromkeys(window["learners"] for window in windows):
        ours = [window for window in windows if window["learners"] == num_learners]
        names = {name: None for window in ours for name in window["threads"]}
        threads = {name: statistics.median(window["threads"].get(name, 0.0) for window in ours) for name in names}
        medians = {name: statistics.median(window[name] for window in ours) for name in ours[0] if name != "threads"}
        rows.append({**medians, "threads": threads})
    first = rows[0]["cpu_us_per_step"]
    return [{**row, "relative_cpu": row["cpu_us_per_step"] / first} for row in rows]


def threads_table(rows: Sequence[dict[str, Any]]) -> str:
    """CPU time of a step by thread, microseconds, a column for each number of learners: where more goes to."""
    least = _LEAST_SHARE * rows[0]["cpu_us_per_step"]
    names = dict.fromkeys(name for row in rows for name, cpu_us in row["threads"].items() if cpu_us >= least)
    names = dict.fromkeys(sorted(names, key=lambda name: -rows[0]["threads"].get(name, 0.0)))
    head = f"{'CPU us per step of':>24}" + "".join(f"{row['learners']:>10}" for row in rows)
    lines = [f"{name:>24}" + "".join(f"{row['threads'].get(name, 0.0):>10,.1f}" for row in rows) for name in names]
    return "\n".join([head, *lines])


def table(rows: Sequence[dict[str, Any]]) -> str:
    """For people."""
    lines = ["  ".join(f"{name:>17}" for name, _ in _COLUMNS)]
    lines += ["  ".join(f"{form.format(row[name]):>17}" for name, form in _COLUMNS) for row in rows]
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> None:
    """Runs all, prints tables and writes the JSON file."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.replicas", description=__doc__, allow_abbrev=False)
    parser.add_argument("--learners", type=int, nargs="+", default=[1, 2], help="rows (default: 1 2)")
    parser.add_argument("--num-envs", type=int, default=32, help="of all learners together (default: 32)")
    parser.add_argument("--batch-size", type=int, default=16, help="of all learners together (default: 16)")
    parser.add_argument("--seconds", type=float, default=20.0, help="of each window (default: 20)")
    parser.add_argument("--rounds", type=int, default=3, help="windows of each row (default: 3)")
    parser.add_argument("--parameters", type=int, default=678_000, help="in a buffer of gradients (default: 678,000)")
    parser.add_argument("--out", type=Path, default=Path("build/replicas.json"), help="(default: build/replicas.json)")
    given, training = parser.parse_known_args(argv)
    if not {"--preset", "--config", "--env"} & {text.partition("=")[0] for text in training}:
        training = ["--preset", "pong", *training]
    windows = []
    with tempfile.TemporaryDirectory() as folder:
        for round_number in range(given.rounds):
            for learners in given.learners:
                place = Path(folder) / f"run-{round_number}-{learners}"
                windows.append(measure(training, learners, given.num_envs, given.batch_size, given.seconds, place))
    alone = {learners: collectives(learners, given.parameters) for learners in given.learners if learners > 1}
    rows = summarise(windows)
    print(f"{table(rows)}\n\n{threads_table(rows)}\n")
    for learners, times in alone.items():
        print(
            f"{learners} learners, {given.parameters:,} parameters: all-reduce {times['transfer_ms']:.1f} ms, "
            f"meeting {times['meeting_ms']:.2f} ms"
        )
    given.out.parent.mkdir(parents=True, exist_ok=True)
    given.out.write_text(json.dumps({"rows": rows, "windows": windows, "collectives": alone}, indent=2) + "\n")


if __name__ == "__main__":
    main()
