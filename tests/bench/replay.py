"""What a replay costs: inserting, drawing and new priorities, beside the update that they serve.

A replay of the algorithm's real layout is filled with copies of open unrolls; then each operation runs alone, on train
batches of the real size. Every option of `seedbed train` is understood too. `make bench` says the same of its preset.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from seedbed.env_client.environments.building import describe
from seedbed.server.experience.replay import Replay
from seedbed.server.shared.allocator import keep_freed_memory
from seedbed.server.training.command_line import read_command_line
from seedbed.server.training.opening import open_run
from tests.bench.components import Stopwatch
from tests.bench.policy import PolicyAlone


def measure_replay(policy: PolicyAlone, seconds: float) -> dict[str, float]:
    """Microseconds of CPU for each operation.

    Args:
        policy: of an algorithm that learns from a replay.
        seconds: of each operation.
    """
    replay, learner, size = policy.queue, policy.learner, policy.batch_size
    assert isinstance(replay, Replay), "expected an algorithm that learns from a replay"
    policy.measure(0)  # every open unroll is full of real rows
    unrolls = policy.store.provenance(np.arange(min(8, policy.store.position.size)))
    while len(replay) < replay.capacity:
        replay.insert(policy.store, unrolls)
    batch = replay.sample(size)
    update = learner.update(batch, 0.0)
    insert = _repeat(lambda: replay.insert(policy.store, unrolls), seconds)
    sample = _repeat(lambda: replay.sample(size), seconds)
    prioritise = 0.0  # of one that has priorities
    if (priorities := update.priorities) is not None:
        prioritise = _repeat(lambda: replay.update_priorities(batch, priorities), seconds)
    learn = _repeat(lambda: learner.update(batch, 0.0), seconds)
    return {
        "capacity": replay.capacity,
        "batch_size": size,
        "insert_us_per_unroll": insert / len(unrolls),
        "sample_us_per_batch": sample,
        "update_priorities_us_per_batch": prioritise,
        "learner_update_us_per_batch": learn,
        "replay_share_of_update": (sample + prioritise) / learn,
        "inserts_per_s": len(unrolls) / insert * 1e6,
        "samples_per_s": size / sample * 1e6,
    }


def _repeat(operation: Callable[[], object], seconds: float) -> float:
    """CPU microseconds of one call."""
    watch, calls = Stopwatch(), 0
    deadline_s = time.monotonic() + seconds
    while calls < 2 or time.monotonic() < deadline_s:
        with watch.running():
            operation()
        calls += 1
    return watch.per_step(calls).cpu_us


def main(argv: Sequence[str] | None = None) -> None:
    """Runs it, prints a table and writes the JSON file."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.replay", description=__doc__, allow_abbrev=False)
    parser.add_argument("--seconds", type=float, default=3.0, help="of each operation (default: 3)")
    parser.add_argument("--out", type=Path, default=Path("build/replay.json"))
    options, training = parser.parse_known_args(argv)
    keep_freed_memory()  # as a server does
    training = training or ["--preset", "pong", "--algorithm", "r2d2"]
    with tempfile.TemporaryDirectory() as folder:
        config = open_run(
            read_command_line([*training, "--run-dir", f"{folder}/none"], prog="python -m tests.bench.replay")
        ).config
    policy = PolicyAlone(config, describe(config.environment.env_id, config.environment.atari_preset))
    figures = measure_replay(policy, options.seconds)
    width = max(map(len, figures))
    for name, value in figures.items():
        print(f"{name:<{width}} {value:12,.2f}")
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
