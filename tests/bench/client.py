"""What an environment client weighs when its first step is answered, beside the least that such a process can weigh.

The bare process imports numpy, gRPC, OpenCV and ale-py, loads one game and connects a channel. Both talk to a server
whose policy costs nothing. Medians over rounds that alternate between the two.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import psutil

from seedbed.env_client.environments.building import describe
from seedbed.server.options.serving import ServingConfig
from tests.bench.programs import TIMEOUT_S, Program
from tests.bench.statistics import medians
from tests.bench.zero_server import ZeroServer

_BARE = """
import asyncio, sys
import ale_py, cv2, grpc.aio, numpy
from ale_py import roms

async def main():
    emulator = ale_py.ALEInterface()
    emulator.loadROM(roms.get_rom_path(sys.argv[2]))
    async with grpc.aio.insecure_channel(sys.argv[1]) as channel:
        await channel.channel_ready()
        print("ready", flush=True)
        await asyncio.sleep(3600)

asyncio.run(main())
"""


def weigh(command: Sequence[str], ready: Callable[[Program], bool]) -> dict[str, float]:
    """CPU seconds and memory of a process at the moment at which it is ready.

    Args:
        command: how it is started.
        ready: asked until it is true.
    """
    with Program(command) as program:
        deadline_s, began_s = time.monotonic() + TIMEOUT_S, time.monotonic()
        while not ready(program):
            program.check("it was ready")
            assert time.monotonic() < deadline_s, f"expected {command[0]} to be ready within {TIMEOUT_S:g} s"
            time.sleep(0.005)
        wall_s = time.monotonic() - began_s
        process = psutil.Process(program.pid)
        cpu, memory = process.cpu_times(), process.memory_full_info()
        return {
            "cpu_s": cpu.user + cpu.system,
            "wall_s": wall_s,
            "rss_mib": memory.rss / 2**20,
            "pss_mib": memory.pss / 2**20,
        }


def compare(game: str, num_envs: int, rounds: int) -> dict[str, dict[str, float]]:
    """ "client", "bare", and "ratio" of the two."""
    samples: dict[str, list[dict[str, float]]] = {"client": [], "bare": []}
    rom = game.removeprefix("ALE/").partition("-")[0].lower()
    with ZeroServer(describe(game, "paper"), ServingConfig(), 2 * rounds * num_envs) as server:
        for number in range(rounds):
            options = ["--server", server.address, "--num-envs", str(num_envs), "--client-id", f"bench-{number}"]
            options += ["--first-index", str(number * num_envs)]
            answered = server.inference.num_steps
            command = (sys.executable, "-m", "seedbed.env_client", *options)
            samples["client"].append(
                weigh(command, lambda _, answered=answered: server.inference.num_steps > answered)  # type: ignore[misc]
            )
            command = (sys.executable, "-c", _BARE, server.address, rom)
            samples["bare"].append(weigh(command, _says_ready))
    found = {name: medians(rows) for name, rows in samples.items()}
    found["ratio"] = {name: found["client"][name] / found["bare"][name] for name in found["bare"]}
    return found


def _says_ready(program: Program) -> bool:
    assert program.process.stdout is not None
    return program.process.stdout.readline() == "ready\n"


def main(argv: Sequence[str] | None = None) -> None:
    """Runs it, prints a table and writes the JSON file."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.client", description=__doc__)
    parser.add_argument("--env", default="ALE/Pong-v5", help="an Atari game (default: ALE/Pong-v5)")
    parser.add_argument("--num-envs", type=int, default=1, help="of the client (default: 1)")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path, default=Path("build/client.json"))
    options = parser.parse_args(argv)
    figures = compare(options.env, options.num_envs, options.rounds)
    print("            CPU s   wall s  RSS MiB  PSS MiB")
    for name, row in figures.items():
        print(f"{name:<8} {row['cpu_s']:8.2f} {row['wall_s']:8.2f} {row['rss_mib']:8.1f} {row['pss_mib']:8.1f}")
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
