"""A sweep with Optuna: every trial is a run of its own, and one that lags behind the others is ended early.

    pip install optuna
    python examples/optuna_sweep.py

Each run can be looked at, resumed and evaluated like any other: runs/sweep/NUMBER.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import optuna

import seedbed


def objective(trial: optuna.Trial, folder: Path, **options: Any) -> float:
    """Trains once. Returns the mean return of its last 100 episodes."""

    def on_log(metrics: dict[str, Any]) -> None:
        if metrics["episode_return_mean"] is None:
            return
        trial.report(metrics["episode_return_mean"], metrics["agent_steps"])
        if trial.should_prune():
            raise optuna.TrialPruned  # ends the run in order

    result = seedbed.train(
        preset="cartpole",
        run_dir=folder / str(trial.number),
        on_log=on_log,
        learning_rate=trial.suggest_float("learning_rate", 1e-4, 1e-2, log=True),
        entropy_cost=trial.suggest_float("entropy_cost", 1e-4, 1e-1, log=True),
        **options,
    )
    return result.episode_return_mean or 0.0


def sweep(folder: Path, num_trials: int, **options: Any) -> optuna.Study:
    """Trials one after another."""
    study = optuna.create_study(direction="maximize", pruner=optuna.pruners.MedianPruner(n_startup_trials=3))
    study.optimize(lambda trial: objective(trial, folder, **options), n_trials=num_trials)
    return study


if __name__ == "__main__":
    best = sweep(Path("runs/sweep"), num_trials=20, max_steps=100_000, log_interval_s=1).best_trial
    print(f"{best.value:.1f} with {best.params}, in runs/sweep/{best.number}")
