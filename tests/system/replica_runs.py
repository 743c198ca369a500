"""Runs of several learners as processes: what tests and chaos ask of them."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import psutil

from seedbed.server.run.checkpoint import load_newest
from seedbed.server.run.state import RunState
from tests.system.processes import FAST, Program, read_metrics

CATCH = ("train", "--preset", "catch", *FAST, "--dashboard-port", "off", "--target-return", "none")
LONG = (*CATCH, "--max-steps", 10_000_000)


def replicas(program: Program) -> dict[int, psutil.Process]:
    """By rank."""
    found: dict[int, psutil.Process] = {}
    for child in program.children():
        with contextlib.suppress(psutil.Error):
            if "seedbed.server" in child.cmdline() and (rank := child.environ().get("RANK")) is not None:
                found[int(rank)] = child
    return found


def clients_of(replica: psutil.Process) -> list[psutil.Process]:
    """Its local environment clients."""
    return [child for child in replica.children() if "seedbed.env_client" in child.cmdline()]


def state_of(run_dir: Path) -> RunState:
    """Of the newest checkpoint."""
    checkpoint = load_newest(run_dir / "checkpoints")
    assert checkpoint is not None
    return RunState.from_checkpoint(checkpoint)


def newest(run_dir: Path) -> dict[str, Any]:
    """Of the run's metrics; nothing before the first line."""
    lines = read_metrics(run_dir)
    return lines[-1] if lines else {}


def trains(program: Program, run_dir: Path, updates: int, learners: int) -> None:
    """Waits until so many updates are made, and all of them have taken part in some from now on."""
    known = len(read_metrics(run_dir))

    def holds() -> bool:
        lines = read_metrics(run_dir)[known:]  # on a busy machine there is not an update in each interval
        shares = [any(line.get(f"replica/{rank}/batch_share") for line in lines) for rank in range(learners)]
        return all(shares) and lines[-1]["updates"] > updates

    program.eventually(holds, f"more than {updates} updates")
