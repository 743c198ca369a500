"""Trains every algorithm on every small task with several seeds: `python -m tests.bench.learning`.

For each task a table for docs/results.md, one row an algorithm, with every seed that was run and whether it reached the
target; and a picture of the curves. The controls of the memory task have no memory and must stay near 0.

What is in `--out` already is not run again, and a run that was interrupted goes on: several calls can share the work.
"""

from __future__ import annotations

import argparse
import math
import re
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from seedbed.server.monitoring.metrics import Metrics, read_metrics
from seedbed.server.presets.registry import PRESETS, preset_values
from seedbed.server.run.directory import METRICS_FILE

SEEDBED = str(Path(sys.executable).with_name("seedbed"))

ALGORITHMS = ("vtrace", "a2c", "a3c", "ppo", "r2d2", "apex", "pqn", "n_step_q", "one_step_q", "one_step_sarsa")
CONTINUOUS = ("sac", "td3")
RECURRENT = ("vtrace", "a2c", "a3c", "ppo", "ald", "r2d2", "pqn", "n_step_q")
CONTROL_STEPS = 60_000  # eight times what R2D2 needs with a memory, and half a minute or more


@dataclass(frozen=True, slots=True)
class Entry:
    """One row of a table: a preset, an algorithm, and what is changed.

    Attributes:
        name: of the row, and of the folder of its runs.
    """

    preset: str
    algorithm: str
    name: str
    options: tuple[str, ...] = ()


def _control(algorithm: str) -> Entry:
    options = ("--core", "none", "--max-steps", str(CONTROL_STEPS))
    return Entry("memory", algorithm, f"{algorithm}-without-memory", options)


ENTRIES = (
    *(Entry(preset, algorithm, algorithm) for preset in ("cartpole", "catch") for algorithm in ALGORITHMS),
    *(Entry("memory", algorithm, algorithm) for algorithm in RECURRENT),
    *(Entry("pendulum", algorithm, algorithm) for algorithm in CONTINUOUS),
    *map(_control, ("vtrace", "r2d2", "apex")),
)
HEADER = (
    "| algorithm | return of each seed | agent steps (1000) | updates | draws of an unroll | minutes |",
    "|---|---|---|---|---|---|",
)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of one seed.

    Attributes:
        seed: of the run.
        reached: whether its newest cohort had the preset's target when it ended.
        last: its last line of metrics.
    """

    seed: int
    reached: bool
    last: Metrics


def train(entry: Entry, seed: int, seconds: int, out: Path) -> Path:
    """Runs one seed to its end, unless that has been done, and returns its run directory."""
    run = out / entry.preset / entry.name / f"seed-{seed}"
    if is_finished(run, seconds):
        return run
    command = [SEEDBED, "train", "--preset", entry.preset, "--algorithm", entry.algorithm, "--seed", str(seed)]
    command += ["--run-dir", str(run), "--max-seconds", str(seconds), *entry.options]
    run.parent.mkdir(parents=True, exist_ok=True)
    with run.with_suffix(".log").open("a") as log:
        subprocess.run(command, check=True, stdout=log, stderr=subprocess.STDOUT, timeout=seconds + 300)
    return run


def is_finished(run: Path, seconds: int) -> bool:
    """Whether the run's log says last that it came to an end of its own, or has had its time."""
    log = run.with_suffix(".log")
    if not ((run / METRICS_FILE).exists() and log.exists()):
        return False
    ends = re.findall(r"^(?:reached|stopped).*", log.read_text(), re.MULTILINE)
    said = ends[-1] if ends else ""
    limit = re.match(r"reached (\d+) s;", said)
    return said.startswith("reached") and (limit is None or int(limit[1]) >= seconds)


def read_outcome(run: Path, target: float) -> Outcome:
    """Reads what a run measured."""
    last = read_metrics(run)[-1]
    scores = [last[f"cohort_return_{name}"] for name in ("mean", "median")]
    return Outcome(int(run.name.removeprefix("seed-")), all(x is not None and x >= target for x in scores), last)


def row(name: str, outcomes: Sequence[Outcome]) -> str:
    """A markdown row: seeds in order, one that missed the target in bold."""

    def each(key: str, form: str, scale: float = 1.0) -> str:
        values = [outcome.last.get(key) for outcome in outcomes]
        return ", ".join("-" if value is None else format(value / scale, form) for value in values)

    scores = each("cohort_return_mean", ".2f" if _is_small(outcomes) else ".0f").split(", ")
    marked = [
        f"{outcome.seed}: {score if outcome.reached else f'**{score}**'}"
        for outcome, score in zip(outcomes, scores, strict=True)
    ]
    samples = each("replay_samples_per_insert", ".1f") if "replay_samples_per_insert" in outcomes[0].last else "-"
    cells = (f"`{name}`", "; ".join(marked), each("agent_steps", ".0f", 1000), each("updates", ".0f"), samples)
    return "| " + " | ".join((*cells, each("wall_s", ".1f", 60))) + " |"


def _is_small(outcomes: Sequence[Outcome]) -> bool:
    return all(abs(outcome.last["cohort_return_mean"] or 0) < 10 for outcome in outcomes)


def write_report(entries: Sequence[Entry], out: Path) -> None:
    """Tables and pictures of all runs in `out` that belong to these entries."""
    tables = []
    for preset in dict.fromkeys(entry.preset for entry in entries):
        tables += [f"## {preset}", "", *HEADER]
        drawn = []
        for entry in entries:
            runs = sorted((out / preset / entry.name).glob("seed-*/")) if entry.preset == preset else []
            if runs:
                target = preset_values(preset, entry.algorithm).get("run.target_return", -math.inf)
                tables.append(row(entry.name, [read_outcome(run, target) for run in runs]))
                drawn += runs
        if drawn:
            picture = ["--out", str(out / f"{preset}.png"), "--title", preset, "--group", "parent"]
            subprocess.run([SEEDBED, "plot", *map(str, drawn), *picture], check=True)
        tables.append("")
    (out / "tables.md").write_text("\n".join(tables))
    print("\n".join(tables))


def main() -> int:
    """Runs what was asked for; returns 0."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("build/learning"))
    parser.add_argument("--seeds", type=int, nargs="*", default=[0, 1, 2])
    parser.add_argument("--seconds", type=int, default=1200, help="longest run (default: %(default)d)")
    parser.add_argument("--tasks", nargs="*", choices=PRESETS, default=["cartpole", "catch", "memory"])
    parser.add_argument("--algorithms", nargs="*", metavar="ROW", default=[entry.name for entry in ENTRIES])
    arguments = parser.parse_args()
    entries = [entry for entry in ENTRIES if entry.preset in arguments.tasks and entry.name in arguments.algorithms]
    for entry in entries:
        for seed in arguments.seeds:
            train(entry, seed, arguments.seconds, arguments.out)
    write_report(entries, arguments.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
