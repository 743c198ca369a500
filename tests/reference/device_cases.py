"""Cases of the simulated device: what each launches and waits for, beside a table that is kept.

    python -m tests.reference.device_cases          writes device_counts.json; look at what changed before committing it

A wait of a host for the device is what costs most there: see docs/performance.md.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

from seedbed.server.experience import source
from seedbed.server.inference import parameters
from seedbed.server.learning import loop
from tests.reference.device import simulated_device
from tests.reference.device_world import DeviceWorld, make_config

TABLE = Path(__file__).with_name("device_counts.json")
THREADED = (source, parameters, loop)
_ALGORITHMS = ("vtrace", "a3c", "a2c", "ppo", "pqn", "r2d2", "apex", "sac", "td3", "one_step_q", "n_step_q")
CASES: dict[str, dict[str, Any]] = {
    f"{algorithm} {'conv' if image else 'vector'} {core}": {"algorithm": algorithm, "image": image, "core": core}
    for algorithm in (*_ALGORITHMS, "one_step_sarsa")
    for image in (True, False)
    for core in ("none", "lstm")
    if (algorithm, core) != ("apex", "lstm")
} | {
    "vtrace conv lstm graphs": {"algorithm": "vtrace", "image": True, "core": "lstm", "serving__cuda_graphs": True},
    "vtrace conv lstm tasks": {"algorithm": "vtrace", "image": True, "core": "lstm", "tasks": True},
    "vtrace vector gtrxl": {"algorithm": "vtrace", "image": False, "core": "gtrxl"},
    "r2d2 vector trxl": {"algorithm": "r2d2", "image": False, "core": "trxl"},
    "ald vector lstm": {"algorithm": "ald", "image": False, "core": "lstm"},
    "ald conv none": {"algorithm": "ald", "image": True, "core": "none"},
    "ppo vector none risk": {"algorithm": "ppo", "image": False, "algorithm_options__risk__risk_variance": 1.0},
    "ppo vector lstm tasks": {"algorithm": "ppo", "image": False, "core": "lstm", "tasks": True},
}
"""By name: the arguments of `make_config`."""


def count(case: str) -> dict[str, dict[str, float]]:
    """Launches and waits of a case, once all that is done once is done."""
    with simulated_device(*THREADED) as device:
        world = DeviceWorld(device, *make_config(**CASES[case]))
        world.run(turns_of(case), warm_up=10)
        return {"launches": rounded(world.launches()), "waits": rounded(world.waits())}


def turns_of(case: str) -> int:
    """Enough for some updates; where they follow one another at every step, few."""
    return 5 if CASES[case]["algorithm"] in ("sac", "td3") else 10


def rounded(counts: dict[str, float]) -> dict[str, float]:
    """For people who read the table."""
    return {name: round(value, 2) for name, value in counts.items()}


def main() -> None:
    """Writes the table."""
    torch.set_num_threads(1)
    lines = [f"  {json.dumps(case)}: {json.dumps(count(case))}" for case in CASES]
    TABLE.write_text("{\n" + ",\n".join(lines) + "\n}\n")


if __name__ == "__main__":
    main()
