"""Trains the small presets with several seeds and writes what came out: `python -m tests.bench.learning`.

For every seed of every task: whether, when and after how many agent steps the target was reached, on a table for
docs/results.md, and a picture of the curves with all seeds. The feed-forward control of the memory task must fail.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from seedbed.server.operations.metrics import read_metrics

SEEDBED = str(Path(sys.executable).with_name("seedbed"))


@dataclass(frozen=True, slots=True)
class Task:
    """One line of the table: a preset, how it is changed, and how long it may take."""

    name: str
    preset: str
    seconds: int
    options: tuple[str, ...] = ()


TASKS = (
    Task("cartpole", "cartpole", 120),
    Task("catch", "catch", 60),
    Task("memory", "memory", 60),
    Task("memory-feed-forward", "memory", 30, ("--core", "none")),
    *(
        Task(f"{preset}-{algorithm}", preset, seconds, ("--algorithm", algorithm))
        for algorithm in ("a2c", "a3c", "ppo")
        for preset, seconds in (("cartpole", 180), ("catch", 60), ("memory", 60))
    ),
    *(
        Task(f"{preset}-{algorithm}", preset, seconds, ("--algorithm", algorithm))
        for algorithm in ("n_step_q", "one_step_q", "one_step_sarsa")
        for preset, seconds in (("cartpole", 300), ("catch", 90))
    ),
)


def train(task: Task, seed: int, out: Path) -> Path:
    """Runs one seed to its end and returns its run directory."""
    run = out / task.name / f"seed-{seed}"
    command = [SEEDBED, "train", "--preset", task.preset, "--seed", str(seed)]
    command += ["--run-dir", str(run), "--resume", "never", "--max-seconds", str(task.seconds), *task.options]
    subprocess.run(command, check=True, stderr=subprocess.DEVNULL, timeout=task.seconds + 120)
    return run


def report(task: Task, runs: list[Path]) -> list[str]:
    """A markdown row for each seed."""
    rows = []
    for seed, run in enumerate(runs):
        last = read_metrics(run)[-1]
        rows.append(
            f"| {task.name} | {seed} | {last['episode_return_mean']:.2f} | {last['wall_s']:.0f} "
            f"| {last['agent_steps']:,} | {last['updates']:,} |"
        )
    return rows


def main() -> int:
    """Runs all tasks; returns 0."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("build/learning"))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--tasks", nargs="*", default=[task.name for task in TASKS])
    arguments = parser.parse_args()
    table = [
        "| task | seed | mean return (last 100 episodes) | wall s | agent steps | updates |",
        "|---|---|---|---|---|---|",
    ]
    for task in TASKS:
        if task.name not in arguments.tasks:
            continue
        runs = [train(task, seed, arguments.out) for seed in range(arguments.seeds)]
        table += report(task, runs)
        print("\n".join(table[-len(runs) :]), flush=True)
        picture = ["--out", str(arguments.out / f"{task.name}.png"), "--title", task.name]
        subprocess.run([SEEDBED, "plot", *map(str, runs), *picture], check=True)
    (arguments.out / "table.md").write_text("\n".join(table) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
