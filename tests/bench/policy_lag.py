"""What policy lag does to learning, with and without V-trace's correction: `python -m tests.bench.policy_lag`.

Parameters reach the actors only after every K updates (`--publish-every K`). V-trace and A3C run with the same
settings; they differ in the importance weights alone. A run ends after a number of agent steps, not of seconds.
"""

from __future__ import annotations

import argparse
import itertools
import subprocess
import sys
from pathlib import Path

import numpy as np

from seedbed.server.operations.metrics import read_metrics
from tests.bench.learning import SEEDBED

ALGORITHMS = ("vtrace", "a3c")
SETTINGS = (
    *("--preset", "cartpole", "--unroll-length", "20", "--batch-size", "8", "--reduction", "mean", "--lambda", "1"),
    *("--optimiser", "adam", "--learning-rate", "2e-3", "--epsilon", "1e-8", "--clip-norm", "40"),
    *("--baseline-cost", "0.05", "--entropy-cost", "0.001", "--target-return", "none"),
)


def train(algorithm: str, publish_every: int, seed: int, steps: int, out: Path) -> Path:
    """Runs one seed to its end and returns its run directory."""
    run = out / f"{algorithm}-{publish_every}-{seed}"
    command = [SEEDBED, "train", *SETTINGS, "--algorithm", algorithm, "--publish-every", str(publish_every)]
    command += ["--seed", str(seed), "--max-steps", str(steps), "--run-dir", str(run), "--resume", "never"]
    subprocess.run(command, check=True, stderr=subprocess.DEVNULL, timeout=900)
    return run


def row(algorithm: str, publish_every: int, runs: list[Path]) -> str:
    """A markdown row: lag, how far policies were apart, and the mean return at the end of every seed."""
    learnt = [[line for line in read_metrics(run) if line.get("policy_lag_mean") is not None] for run in runs]
    lag = np.mean([line["policy_lag_mean"] for lines in learnt for line in lines])
    apart = np.mean([line["abs_log_rho_mean"] for lines in learnt for line in lines])
    returns = ", ".join(f"{read_metrics(run)[-1]['episode_return_mean']:.0f}" for run in runs)
    return f"| {algorithm} | {publish_every} | {lag:.1f} | {apart:.3f} | {returns} |"


def main() -> int:
    """Runs all of it; returns 0."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("build/policy_lag"))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=150_000, help="agent steps of each run")
    parser.add_argument("--publish-every", type=int, nargs="*", default=[1, 10, 30, 100])
    arguments = parser.parse_args()
    table = [
        "| algorithm | published every | mean policy lag (updates) | mean abs. log rho | mean return, each seed |",
        "|---|---|---|---|---|",
    ]
    for publish_every, algorithm in itertools.product(arguments.publish_every, ALGORITHMS):
        seeds = range(arguments.seeds)
        runs = [train(algorithm, publish_every, seed, arguments.steps, arguments.out) for seed in seeds]
        table.append(row(algorithm, publish_every, runs))
        print(table[-1], flush=True)
    (arguments.out / "table.md").write_text("\n".join(table) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
