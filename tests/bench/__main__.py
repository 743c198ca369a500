"""Measures what each part of an agent step costs alone, then the whole system while it trains: `make bench`.

Efficiency = achieved / bound; tests/bench/bound.py says what the bound is. Every option of `seedbed train` is
understood too, so the same command measures other presets, environments, networks and devices. Speed drifts with the
machine, so the parts are measured before and after each system run; wants the machine for itself.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from seedbed.common.options import to_json
from seedbed.server.options.config import ServerConfig
from seedbed.server.training.command_line import read_command_line
from seedbed.server.training.opening import open_run


def main(argv: Sequence[str] | None = None) -> None:
    """Runs all, prints a table and writes the JSON file."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__, allow_abbrev=False)
    parser.add_argument("--seconds", type=float, default=40.0, help="of each system run (default: 40)")
    parser.add_argument("--component-seconds", type=float, default=3.0, help="of each part alone (default: 3)")
    parser.add_argument("--rounds", type=int, default=2, help="system runs (default: 2)")
    parser.add_argument("--out", type=Path, default=Path("build/bench.json"), help="(default: build/bench.json)")
    options, training = parser.parse_known_args(argv)
    if not {"--preset", "--config", "--env"} & {text.partition("=")[0] for text in training}:
        training = ["--preset", "pong", *training]
    with tempfile.TemporaryDirectory() as folder:
        config = open_run(
            read_command_line([*training, "--run-dir", f"{folder}/none"], prog="python -m tests.bench")
        ).config
        figures, text = measure(config, training, Path(folder), options)
    figures["config"] = to_json(config)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(figures, indent=2) + "\n")
    print(f"{text}\n{options.out}")


def measure(
    config: ServerConfig, training: Sequence[str], folder: Path, options: argparse.Namespace
) -> tuple[dict[str, Any], str]:
    """All rounds: the figures, and a table of them."""
    # Imported late: a spawned frontend imports this module again, and must not pay for torch.
    from seedbed.env_client.environments.building import describe
    from seedbed.server.experience.replay import Replay
    from seedbed.server.shared.allocator import keep_freed_memory
    from seedbed.server.training.assemble import choose_device
    from tests.bench.bound import Costs
    from tests.bench.components import EnvironmentAlone, inference_batch, rows_per_message
    from tests.bench.policy import PolicyAlone
    from tests.bench.replay import measure_replay
    from tests.bench.report import machine, summarise, table
    from tests.bench.system import measure_system
    from tests.bench.wire import TransportAlone

    keep_freed_memory()  # as a server does: else the parts alone cost more than within the system
    spec = describe(config.environment.env_id, config.environment.atari_preset)
    environment, transport = EnvironmentAlone(config), TransportAlone(config, spec)
    policy = PolicyAlone(config, spec)

    def components() -> Costs:
        seconds = options.component_seconds
        wire = transport.measure(seconds)
        return Costs({"environment": environment.measure(seconds), **policy.measure(seconds)}, wire)

    rounds, before = [], components()
    for number in range(options.rounds):
        system = measure_system(training, folder / f"run-{number}", options.seconds)
        after = components()
        rounds.append((before, system, after))
        print(f"round {number + 1}: {system['agent_steps_per_s']:,.0f} agent steps/s", flush=True)
        before = after
    environment.close()
    device = choose_device(config.run).type
    figures = summarise(
        rounds,
        cores=os.cpu_count() or 1,
        device=device,
        frontends=config.serving.frontends,
        torch_threads=config.run.torch_threads or 1,
    )
    figures["machine"] = machine()
    if isinstance(policy.queue, Replay):
        figures["replay"] = measure_replay(policy, options.component_seconds / 3)
    batch, rows = inference_batch(config), rows_per_message(config)
    return figures, table(figures, config, rows=rows, batch=batch, train_batch=policy.train_batch)


if __name__ == "__main__":
    main()
