"""Several learners learn: return, agent steps and time of each exchange, algorithm, task and seed, as tables.

    python -m tests.bench.replica_learning --tasks catch --seeds 0 1 2

A row has as many environments, greedy ones, unrolls of a train batch and places of a replay as one learner of the
preset, shared out. The parameter server's gradients are each of a learner's own train batch, so its batches stay whole.
Rows of `paced` have environments that sleep (`tests.bench.paced`), those of the last learner three times as long:
gossip's claim is that nobody waits for it. There a gossip's policies must stay within a bound: the largest distance of
a mix is told beside the largest step of a learner, and what a ring allows for steps of that size.

What is in `--out` is not run again, and a run that was interrupted goes on: several calls can share the work. Tables
are written anew after each run.
"""

from __future__ import annotations

import argparse
import json
import math
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from seedbed.server.monitoring.metrics import read_metrics
from seedbed.server.presets.registry import preset_values
from tests.bench.learning import SEEDBED, Outcome, is_finished, read_outcome

STEP_MS, SLOWNESS = 2.0, 3.0
PACED = "tests.bench.paced:make"
TARGETS = {"catch": 0.95, "cartpole": 475.0, "paced": 0.95}
SHARED = {
    "fleet.num_envs": "--num-envs",
    "fleet.num_greedy_envs": "--num-greedy-envs",
    "learning.batch_size": "--batch-size",
    "algorithm_options.replay.replay_capacity": "--replay-capacity",
    "algorithm_options.replay.replay_min_size": "--replay-min-size",
}
"""Options of a learner that are shared out."""

ALL_REDUCED = ("vtrace", "ppo", "r2d2", "sac")
SERVED = ("one_step_q", "n_step_q", "apex", "r2d2")
_SERVED_RATE = ("--learning-rate", "0.02")  # of AdaGrad
_SAC = {"fleet.num_envs": 16, "fleet.num_greedy_envs": 4, "learning.batch_size": 32}
_SAC_OPTIONS = (  # no preset of Catch or CartPole has it: a small network, and a policy that may become certain
    *("--hidden-size", "64", "--entropy-share", "0.2", "--learning-rate", "2e-3", "--tau", "0.02"),
    *("--random-steps", "500"),
)
HEADER = (
    "| exchange | algorithm | learners | return of each seed | agent steps (1000) | updates | minutes |",
    "|---|---|---|---|---|---|---|",
)
BOUND_HEADER = ("| run | largest step | largest distance | bound for steps of that size |", "|---|---|---|---|")


@dataclass(frozen=True, slots=True)
class Row:
    """Of a table: the same run with several seeds.

    Attributes:
        task: catch, cartpole or paced.
        num_learners: K.
    """

    task: str
    exchange: str
    algorithm: str
    num_learners: int

    @property
    def name(self) -> str:
        """Of the folder of its runs."""
        return f"{self.exchange}-{self.algorithm}-{self.num_learners}"

    @property
    def options(self) -> list[str]:
        """Of `seedbed train`."""
        preset = "catch" if self.task == "paced" else self.task
        options = ["--preset", preset, "--algorithm", self.algorithm, "--target-return", str(TARGETS[self.task])]
        if self.task == "paced":
            slow = {"step_ms": STEP_MS, "slow_rank": self.num_learners - 1, "slowness": SLOWNESS}
            options += ["--env", PACED, "--env-kwargs", json.dumps(slow)]
        if self.num_learners > 1:
            options += ["--learners", str(self.num_learners), "--exchange", self.exchange]
        if self.exchange == "parameter_server":
            options += _SERVED_RATE
        values = dict(preset_values(preset, self.algorithm))
        if self.algorithm == "sac":  # each learner counts its own steps for updates that all of them make
            values |= _SAC
            options += (*_SAC_OPTIONS, "--updates-per-step", str(self.num_learners))
        return options + list(_shared_out(values, self))


def _shared_out(values: Mapping[str, Any], row: Row) -> Iterator[str]:
    """The share of each learner."""
    for path, flag in SHARED.items():
        keeps = row.exchange == "parameter_server" and path == "learning.batch_size"
        if path in values:
            yield from (flag, str(math.ceil(values[path] / (1 if keeps else row.num_learners))))


def rows_of(tasks: Sequence[str], learners: Sequence[int]) -> list[Row]:
    """All that there are for some tasks and numbers of learners."""
    found = []
    for task in tasks:
        if task == "paced":
            found += [Row(task, exchange, "a2c", 3) for exchange in ("all_reduce", "gossip")]
            continue
        found += [Row(task, "all_reduce", name, count) for name in ALL_REDUCED for count in learners]
        found += [Row(task, "parameter_server", name, 3) for name in SERVED if task == "catch"]
    return found


def train(row: Row, seed: int, seconds: int, out: Path) -> Path:
    """Runs one seed to its end, unless that has been done, and returns its run directory."""
    run = out / row.task / row.name / f"seed-{seed}"
    if is_finished(run, seconds):
        return run
    command = [SEEDBED, "train", *row.options, "--seed", str(seed), "--run-dir", str(run), "--num-clients", "1"]
    command += ["--max-seconds", str(seconds), "--device", "cpu", "--dashboard-port", "off", "--track", "none"]
    run.parent.mkdir(parents=True, exist_ok=True)
    with run.with_suffix(".log").open("a") as log:
        code = subprocess.run(command, stdout=log, stderr=subprocess.STDOUT, timeout=seconds + 300).returncode
    if code:
        print(f"{run}: ended with {code}, see {run.with_suffix('.log')}", flush=True)
    return run


def outcomes_of(row: Row, out: Path) -> list[Outcome]:
    """Of the seeds that have come to their end."""
    runs = sorted((out / row.task / row.name).glob("seed-*/"))
    return [read_outcome(run, TARGETS[row.task]) for run in runs if is_finished(run, 0)]


def line_of(row: Row, outcomes: Sequence[Outcome]) -> str:
    """Markdown: seeds in order, one that missed the target in bold."""
    scores = []
    for outcome in outcomes:
        score = outcome.last.get("cohort_return_mean")
        text = "-" if score is None else f"{score:.0f}" if abs(score) >= 10 else f"{score:.2f}"
        scores.append(f"{outcome.seed}: {text if outcome.reached else f'**{text}**'}")

    def each(name: str, form: str, unit: float) -> str:
        return ", ".join(format((outcome.last.get(name) or 0) / unit, form) for outcome in outcomes)

    exchange = "-" if row.num_learners == 1 else row.exchange
    cells = (exchange, f"`{row.algorithm}`", str(row.num_learners), "; ".join(scores))
    numbers = (each("agent_steps", ".0f", 1000), each("updates", ".0f", 1), each("wall_s", ".1f", 60))
    return "| " + " | ".join((*cells, *numbers)) + " |"


def bound_of(num_learners: int, step: float, age: float) -> float:
    """How far a mix may move a learner of a directed ring whose steps are at most so large.

    GALA (Assran et al. 2019), proposition 1: the Frobenius norm of what parts learners from their mean is at most
    sqrt(n) L b / (1 - b), b = cos(pi / n), times b^(-(t + 1) / (t + 2)) for news of t updates ago. Two learners
    are at most sqrt(2) times that apart, and a mix is half of their way.

    Args:
        num_learners: n.
        step: L.
        age: t.
    """
    beta = math.cos(math.pi / num_learners)
    apart = math.sqrt(num_learners) * step * beta / (1 - beta) * beta ** (-(age + 1) / (age + 2))
    return apart / math.sqrt(2)


def bound_line(row: Row, run: Path) -> str:
    """Markdown: of one seed of a gossip, over all its learners."""
    lines = [line for place in (run, *run.glob("replicas/*/")) for line in read_metrics(place)]

    def largest(name: str) -> float:
        return max((line[name] for line in lines if line.get(name) is not None), default=math.nan)

    step, distance, age = (largest(f"gossip_{name}_max") for name in ("step_norm", "distance", "age"))
    bound = bound_of(row.num_learners, step, age)
    return f"| {row.task}, seed {run.name.removeprefix('seed-')} | {step:.3g} | {distance:.3g} | {bound:.3g} |"


def report(rows: Sequence[Row], out: Path) -> str:
    """Tables of all runs in `out` that have ended."""
    tables: list[str] = []
    for task in dict.fromkeys(row.task for row in rows):
        found = [(row, outcomes_of(row, out)) for row in rows if row.task == task]
        found = [(row, outcomes) for row, outcomes in found if outcomes]
        if not found:
            continue
        tables += [f"## {task}", "", *HEADER, *(line_of(row, outcomes) for row, outcomes in found), ""]
        ring = [(row, one.seed) for row, outcomes in found for one in outcomes if row.exchange == "gossip"]
        if ring:
            lines = (bound_line(row, out / task / row.name / f"seed-{seed}") for row, seed in ring)
            tables += [*BOUND_HEADER, *lines, ""]
    return "\n".join(tables)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs what was asked for; returns 0."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench.replica_learning",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--out", type=Path, default=Path("build/replica-learning"))
    parser.add_argument("--seeds", type=int, nargs="*", default=[0, 1, 2])
    parser.add_argument("--tasks", nargs="*", choices=TARGETS, default=list(TARGETS))
    parser.add_argument("--learners", type=int, nargs="*", default=[1, 2, 3], help="of all-reduced rows")
    parser.add_argument(
        "--algorithms", nargs="*", choices=sorted({*ALL_REDUCED, *SERVED, "a2c"}), help="(default: all)"
    )
    parser.add_argument("--exchanges", nargs="*", choices=("all_reduce", "gossip", "parameter_server"))
    parser.add_argument("--seconds", type=int, default=600, help="longest run (default: %(default)d)")
    given = parser.parse_args(argv)
    given.out.mkdir(parents=True, exist_ok=True)
    rows = [
        row
        for row in rows_of(given.tasks, given.learners)
        if (not given.algorithms or row.algorithm in given.algorithms)
        and (not given.exchanges or row.exchange in given.exchanges)
    ]
    for seed in given.seeds:
        for row in rows:
            train(row, seed, given.seconds, given.out)
            (given.out / "tables.md").write_text(report(rows, given.out))
    print(report(rows, given.out))
    return 0


if __name__ == "__main__":
    sys.exit(main())
