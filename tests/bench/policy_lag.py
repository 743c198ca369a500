"""What policy lag does to learning, with and without V-trace's correction: `python -m tests.bench.policy_lag`.

Catch, with parameters that reach the actors only after every K updates (`--publish-every K`): train batches were acted
by a policy that is about K / 2 updates old. V-trace and A3C have the same settings, and at lambda 1 the same advantages
but for the importance weights: the only difference. Everything runs in one thread (`lockstep.py`), so the table comes
out the same again.

Writes a table of all seeds and a picture of return against K.
"""

from __future__ import annotations

import argparse
import itertools
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from seedbed.server.options.config import ServerConfig
from seedbed.server.training.command_line import read_command_line
from seedbed.server.training.opening import open_run
from tests.bench.lockstep import Lockstep

ALGORITHMS = ("vtrace", "a3c")
SETTINGS = (
    *("--preset", "catch", "--unroll-length", "10", "--batch-size", "8", "--reduction", "mean", "--lambda", "1"),
    *("--optimiser", "adam", "--learning-rate", "5e-3", "--epsilon", "1e-8", "--clip-norm", "40"),
    *("--baseline-cost", "0.5", "--entropy-cost", "0.01", "--device", "cpu"),
)
_LABELS = {"vtrace": "V-trace", "a3c": "no correction (A3C)"}


@dataclass(frozen=True, slots=True)
class Result:
    """What came of one seed.

    Attributes:
        lag: mean policy lag, in updates.
        abs_log_rho: mean |log rho| over the run: how far the acting policy was from the learnt one.
        entropy: of the policy in the last tenth of the run, in nats; log 3 is that of a uniform one.
        episode_return: mean of the last 100 episodes.
    """

    lag: float
    abs_log_rho: float
    entropy: float
    episode_return: float


def configure(algorithm: str, publish_every: int, seed: int, steps: int, out: Path) -> ServerConfig:
    """The run of one cell and seed: the same options for both algorithms."""
    options = [*SETTINGS, "--algorithm", algorithm, "--publish-every", str(publish_every), "--seed", str(seed)]
    options += ["--max-steps", str(steps), "--run-dir", str(out / "none")]
    return open_run(read_command_line(options, prog="python -m tests.bench.policy_lag")).config


def train(config: ServerConfig) -> Result:
    """Runs one seed to its end."""
    run = Lockstep(config)
    run.run()
    lag, apart, entropy = (
        np.array([float(metrics[name]) for metrics in run.metrics])
        for name in ("policy_lag_mean", "abs_log_rho_mean", "entropy")
    )
    tail = entropy[-max(1, len(entropy) // 10) :]
    return Result(float(lag.mean()), float(apart.mean()), float(tail.mean()), float(np.mean(run.returns)))


def row(algorithm: str, publish_every: int, results: Sequence[Result]) -> str:
    """A markdown row: means over the seeds, and the return of every one."""
    lag, apart, entropy = (np.mean([getattr(x, name) for x in results]) for name in ("lag", "abs_log_rho", "entropy"))
    returns = ", ".join(f"{result.episode_return:.2f}" for result in results)
    return f"| {algorithm} | {publish_every} | {lag:.1f} | {apart:.3f} | {entropy:.2f} | {returns} |"


def draw(results: Mapping[tuple[str, int], Sequence[Result]], path: Path) -> None:
    """Return against K: every seed a point, their mean a line."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.5, 4.2), layout="constrained")
    FigureCanvasAgg(figure)
    axes: Any = figure.subplots()
    for number, algorithm in enumerate(ALGORITHMS):
        returns = {k: [x.episode_return for x in cell] for (name, k), cell in results.items() if name == algorithm}
        style = {"color": f"C{number}", "marker": "o"}
        axes.plot(list(returns), [np.mean(values) for values in returns.values()], label=_LABELS[algorithm], **style)
        for publish_every, values in returns.items():
            axes.plot([publish_every] * len(values), values, linestyle="none", markersize=4, alpha=0.45, **style)
    axes.set_xscale("log")
    ticks = sorted({publish_every for _, publish_every in results})
    axes.set_xticks(ticks, [str(tick) for tick in ticks], minor=False)
    axes.minorticks_off()
    axes.set_xlabel("updates between two sets of parameters for the actors")
    axes.set_ylabel("mean return of the last 100 episodes")
    axes.set_ylim(-1.05, 1.05)
    axes.grid(alpha=0.3, linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    figure.savefig(path, dpi=150, format="png")


def main() -> int:
    """Runs all of it; returns 0."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("build/policy_lag"))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=40_000, help="agent steps of each run")
    parser.add_argument("--publish-every", type=int, nargs="*", default=[1, 10, 50, 100])
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    table = [
        "| algorithm | published every | mean policy lag (updates) | mean abs. log rho | entropy at the end "
        "| mean return, each seed |",
        "|---|---|---|---|---|---|",
    ]
    results: dict[tuple[str, int], list[Result]] = {}
    for algorithm, publish_every in itertools.product(ALGORITHMS, arguments.publish_every):
        configs = (
            configure(algorithm, publish_every, i, arguments.steps, arguments.out) for i in range(arguments.seeds)
        )
        results[algorithm, publish_every] = list(map(train, configs))
        table.append(row(algorithm, publish_every, results[algorithm, publish_every]))
        print(table[-1], flush=True)
    (arguments.out / "table.md").write_text("\n".join(table) + "\n")
    draw(results, arguments.out / "policy-lag.png")
    return 0


if __name__ == "__main__":
    sys.exit(main())
