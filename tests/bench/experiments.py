"""Experiments of memory and of several tasks, each row with several seeds: `python -m tests.bench.experiments NAME`.

    imaze, fetch      LSTM, GTrXL and actor-learner distillation with 1, 4 and 16 steps: curves over steps and over CPU
    chain             GTrXL and LSTM on a memory chain of 30 with unrolls of 16
    transfer          memory chains of 4, 8 and 16 jointly beside 16 alone: steps of length 16 until 0.8
    interference      two Catches, one mirrored, whose policy is told which it plays, and is not

What is in `--out` already is not run again, and a run that was interrupted goes on: several calls can share the work.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from seedbed.server.monitoring.metrics import Metrics, read_metrics
from tests.bench.learning import SEEDBED, is_finished

CPU_FILE = "cpu.json"
"""Beside a seed's log: CPU seconds of all its starts, server and clients together."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One row of a table.

    Attributes:
        name: of the row, and of the folder of its runs.
        options: of `seedbed train`.
        task: of several the one whose steps and returns are looked at.
    """

    name: str
    options: tuple[str, ...]
    task: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Experiment:
    """Rows that belong together.

    Attributes:
        threshold: return of a cohort, whose first time is noted.
        max_steps: of every run.
        rows: of the table.
    """

    threshold: float
    max_steps: int
    rows: tuple[Row, ...]


def _memories(env: str) -> tuple[Row, ...]:
    common = ("--preset", "memory", "--env", env)
    learnt = (*common, "--algorithm", "vtrace", "--core")
    return (
        Row(name="lstm", options=(*learnt, "lstm")),
        Row(name="gtrxl", options=(*learnt, "gtrxl")),
        *(
            Row(name=f"ald-{steps}", options=(*common, "--algorithm", "ald", "--distillation-steps", str(steps)))
            for steps in (1, 4, 16)
        ),
    )


_CHAINS = tuple(f"--env=seedbed/MemoryChain-v0,length={length}" for length in (4, 8, 16))
_LONG = ("--preset", "memory", "--env", "seedbed/MemoryChain-v0,length=30", "--core")
_MIRRORED = ("--env", "seedbed/Catch-v0", "--env", "seedbed/Catch-v0,mirrored=1", "--algorithm", "ppo")

EXPERIMENTS: Mapping[str, Experiment] = {
    "imaze": Experiment(threshold=0.8, max_steps=500_000, rows=_memories("seedbed/IMaze-v0,height=9")),
    "fetch": Experiment(
        threshold=12.1, max_steps=500_000, rows=_memories("seedbed/MetaFetch-v0,size=4,objects=2,steps=40")
    ),
    "chain": Experiment(
        threshold=0.9,
        max_steps=200_000,
        rows=tuple(Row(name=core, options=(*_LONG, core)) for core in ("gtrxl", "lstm")),
    ),
    "transfer": Experiment(
        threshold=0.8,
        max_steps=600_000,
        rows=(
            Row(name="alone", options=("--preset", "memory", _CHAINS[-1])),
            Row(name="jointly", options=("--preset", "memory", *_CHAINS), task="MemoryChain,length=16"),
        ),
    ),
    "interference": Experiment(
        threshold=0.9,
        max_steps=200_000,
        rows=(
            Row(name="not-told", options=_MIRRORED, task="Catch,mirrored=1"),
            Row(name="told", options=(*_MIRRORED, "--task-input"), task="Catch,mirrored=1"),
        ),
    ),
}


def train(experiment: Experiment, row: Row, seed: int, seconds: int, out: Path) -> Path:
    """Runs one seed to its end, unless that has been done, and returns its run directory."""
    run = out / row.name / f"seed-{seed}"
    if is_finished(run, seconds):
        return run
    run.parent.mkdir(parents=True, exist_ok=True)
    limits = ("--max-steps", str(experiment.max_steps), "--max-seconds", str(seconds), "--target-return", "inf")
    command = [SEEDBED, "train", *row.options, *limits, "--seed", str(seed), "--run-dir", str(run)]
    before = _cpu_s()
    with run.with_suffix(".log").open("a") as log:
        subprocess.run(command, check=True, stdout=log, stderr=subprocess.STDOUT, timeout=seconds + 300)
    spent = run / CPU_FILE
    earlier = json.loads(spent.read_text()) if spent.exists() else 0.0
    spent.write_text(json.dumps(earlier + _cpu_s() - before))
    return run


def _cpu_s() -> float:
    """Of all children that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What came of one seed.

    Attributes:
        steps: of the row's task until its first cohort at the threshold; None: there was none.
        all_steps: of the whole run by then, or in all.
        share: of the run's steps that `all_steps` are.
        newest: return of the newest cohort.
        best: return of the best one.
        cpu_s: of the whole run.
    """

    steps: float | None
    all_steps: float
    share: float
    newest: float | None
    best: float | None
    cpu_s: float

    def __str__(self) -> str:
        """As a cell of the table."""
        best = "-" if self.best is None else f"{self.best:.2f}"
        newest = "-" if self.newest is None else f"{self.newest:.2f}"
        said = f"best {best}, last {newest}"
        if self.steps is None:
            return f"**not within {self.all_steps:,.0f}** ({self.cpu_s:.0f} s), {said}"
        return f"{self.steps:,.0f} ({self.cpu_s * self.share:.0f} s), {said}"


def outcome_of(lines: Sequence[Metrics], row: Row, threshold: float, cpu_s: float) -> Outcome:
    """What a run's metrics say."""
    prefix = "" if row.task is None else f"task/{row.task}/"
    cohorts = [line.get(f"{prefix}cohort_return_mean") for line in lines]
    known = [value for value in cohorts if value is not None]
    first = next((n for n, value in enumerate(cohorts) if value is not None and value >= threshold), None)
    at, last = lines[-1 if first is None else first], lines[-1]
    total = float(last["agent_steps"] or 0)
    return Outcome(
        steps=None if first is None else float(at[f"{prefix}agent_steps"] or 0),
        all_steps=float(at["agent_steps"] or 0),
        share=float(at["agent_steps"] or 0) / total if total else 0.0,
        newest=known[-1] if known else None,
        best=max(known, default=None),
        cpu_s=cpu_s,
    )


def write_report(name: str, experiment: Experiment, out: Path) -> None:
    """Table and picture of all runs in `out`."""
    table = [
        f"Steps until a cohort returns {experiment.threshold:g} (CPU seconds by then, clients included), of each seed",
        "",
        f"| {name} | seeds |",
        "|---|---|",
    ]
    drawn: list[Path] = []
    for row in experiment.rows:
        runs = sorted(path for path in (out / row.name).glob("seed-*/") if (path / CPU_FILE).exists())
        outcomes = [
            outcome_of(read_metrics(run), row, experiment.threshold, json.loads((run / CPU_FILE).read_text()))
            for run in runs
        ]
        if outcomes:
            table.append(f"| `{row.name}` | {'; '.join(map(str, outcomes))} |")
            drawn += runs
    if drawn and all(row.task is None for row in experiment.rows):
        picture = ["--out", str(out / f"{name}.png"), "--title", name, "--group", "parent"]
        subprocess.run([SEEDBED, "plot", *map(str, drawn), *picture], check=True)
    out.mkdir(parents=True, exist_ok=True)
    (out / "table.md").write_text("\n".join(table) + "\n")
    print("\n".join(table))


def main() -> int:
    """Runs what was asked for; returns 0."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=EXPERIMENTS)
    parser.add_argument("--out", type=Path, default=Path("build/experiments"))
    parser.add_argument("--seeds", type=int, nargs="*", default=[0, 1, 2])
    parser.add_argument("--rows", nargs="*", metavar="ROW", help="(default: all)")
    parser.add_argument("--seconds", type=int, default=3600, help="longest run (default: %(default)d)")
    parser.add_argument("--max-steps", type=int, help="of every run (default: the experiment's)")
    arguments = parser.parse_args()
    experiment = EXPERIMENTS[arguments.name]
    if arguments.max_steps is not None:
        experiment = Experiment(threshold=experiment.threshold, max_steps=arguments.max_steps, rows=experiment.rows)
    out = arguments.out / arguments.name
    for seed in arguments.seeds:  # so that an early look has every row
        for row in experiment.rows:
            if arguments.rows is None or row.name in arguments.rows:
                train(experiment, row, seed, arguments.seconds, out)
    write_report(arguments.name, experiment, out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
