"""Prints and records what the client weighs and how fast Pong is: `python -m tests.bench --seconds 60`.

Wants the machine for itself. Figures drift by a third with the machine's mood; compare runs made one after the other.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import numpy as np
import psutil

GAME = "ALE/Pong-v5"
PRESET = "paper"  # of Atari, as in the training preset "pong"
WARM_UP_SHARE = 0.25
START_TIMEOUT_S = 120.0
SEEDBED = (sys.executable, "-c", "import sys; from seedbed.common.cli import main; sys.exit(main())")


def main() -> None:
    """Runs all and writes the JSON file."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0, help="of training (default: 60)")
    parser.add_argument("--out", type=Path, default=Path("build/bench.json"), help="(default: build/bench.json)")
    options = parser.parse_args()
    figures: dict[str, float | int | str] = {"cpu": cpu_model(), "cores": os.cpu_count() or 1}
    figures |= measure_imports()
    figures |= measure_client()
    figures["ale_steps_per_s_one_core"] = measure_ale()
    figures |= measure_training(options.seconds)
    figures["system_to_ale_one_core"] = figures["system_steps_per_s"] / figures["ale_steps_per_s_one_core"]  # type: ignore[operator]
    width = max(map(len, figures))
    for name, value in figures.items():
        print(f"{name:<{width}}  {value if isinstance(value, (str, int)) else format(value, ',.2f')}")
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(figures, indent=2) + "\n")
    print(options.out)


def cpu_model() -> str:
    """As Linux calls it."""
    match = re.search(r"^model name\s*: (.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    return match[1] if match else "unknown"


def measure_imports(repeats: int = 5) -> dict[str, float]:
    """Seconds until the client's modules are loaded, best of several interpreters."""
    program = "import time; t = time.perf_counter(); import seedbed.env_client.__main__; print(time.perf_counter() - t)"
    command = [sys.executable, "-c", program]
    times = [float(subprocess.run(command, capture_output=True, text=True, check=True).stdout) for _ in range(repeats)]
    return {"client_import_s": min(times)}


def measure_client() -> dict[str, float]:
    """CPU seconds and memory of a client with one Atari environment, at the moment at which it is connected."""
    with tempfile.TemporaryDirectory() as folder:
        server = ["server", "--preset", "pong", "--num-envs", "1", "--run-dir", folder, "--max-seconds", "60"]
        with running([*server, "--device", "cpu"]) as (_, server_log):
            address = wait_for(server_log, r"serving on (\S+)")
            with running(["env", "--server", address, "--num-envs", "1"]) as (client, client_log):
                wait_for(client_log, r"connected to")
                process = psutil.Process(client.pid)
                cpu, memory = process.cpu_times(), process.memory_info()
                return {"client_start_cpu_s": cpu.user + cpu.system, "client_rss_mib": memory.rss / 2**20}


def measure_ale(seconds: float = 5.0) -> float:
    """Agent steps per second of the emulator and its preprocessing alone, in one thread."""
    from seedbed.env_client.atari import AtariEnvironment
    from seedbed.env_client.environment import Status

    environment = AtariEnvironment(GAME, PRESET, seed=0)
    observation = (np.zeros(environment.spec.observations[0].shape, np.uint8),)
    actions = np.random.default_rng(0).integers(environment.spec.num_actions, size=1 << 16)
    environment.reset(observation)
    num_steps, start_s = 0, time.perf_counter()
    while time.perf_counter() - start_s < seconds:
        _, status = environment.step((actions[num_steps % len(actions)],), observation)
        num_steps += 1
        if status is not Status.RUNNING:
            environment.reset(observation)
    return num_steps / (time.perf_counter() - start_s)


def measure_training(seconds: float) -> dict[str, float]:
    """Agent steps per second of the whole system while it learns, without the start."""
    with tempfile.TemporaryDirectory() as folder:
        options = ["--run-dir", folder, "--max-seconds", str(seconds), "--log-interval-s", "1"]
        subprocess.run([*SEEDBED, "train", "--preset", "pong", *options], check=True)
        lines = [json.loads(line) for line in (Path(folder) / "metrics.jsonl").read_text().splitlines()]
    steady = [line for line in lines if line["wall_s"] >= WARM_UP_SHARE * seconds]
    first, last = steady[0], steady[-1]
    elapsed_s = last["wall_s"] - first["wall_s"]
    return {
        "system_steps_per_s": (last["agent_steps"] - first["agent_steps"]) / elapsed_s,
        "system_updates_per_s": (last["updates"] - first["updates"]) / elapsed_s,
        "policy_lag_mean": float(np.mean([line["policy_lag_mean"] for line in steady if line["policy_lag_mean"]])),
    }


@contextmanager
def running(arguments: list[str]) -> Iterator[tuple[subprocess.Popen[str], IO[str]]]:
    """A `seedbed` process and its log, ended with the block."""
    with tempfile.NamedTemporaryFile("w+") as log:
        process = subprocess.Popen([*SEEDBED, *arguments], stderr=log, text=True)
        try:
            with open(log.name) as reader:
                yield process, reader
        finally:
            process.terminate()
            process.wait(START_TIMEOUT_S)


def wait_for(log: IO[str], pattern: str) -> str:
    """The first group (or all) of the first match of a pattern in a log that is being written."""
    deadline_s, text = time.monotonic() + START_TIMEOUT_S, ""
    while time.monotonic() < deadline_s:
        text += log.read()
        if match := re.search(pattern, text):
            return match.group(match.lastindex or 0)
        time.sleep(0.01)
    raise TimeoutError(f"expected {pattern!r} within {START_TIMEOUT_S:g} s, got {text[-2000:]!r}")


if __name__ == "__main__":
    main()
