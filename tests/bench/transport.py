"""What the server spends on a message, beside the least that gRPC costs in Python, and how many messages it takes.

Cost: server CPU per environment step (frontend, and the device process's share with a policy that costs nothing) and
that of a bare asyncio gRPC echo, in turn, for few and many environments in a message. Throughput: closed loops of ever
more streams, held by few processes, against one and more frontends.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from seedbed.common.specs import EnvironmentSpec
from seedbed.env_client.environments.building import describe
from seedbed.server.options.serving import ServingConfig
from tests.bench.accounting import Snapshot
from tests.bench.programs import Program, StreamHolder, all_of
from tests.bench.statistics import medians
from tests.bench.zero_server import ZeroServer

_WARM_UP_S = 0.5
_STREAMS = {1: 64, 32: 8}  # environments in a message -> streams that keep a server busy

GOALS = {32: "<= 12 us", 1: "<= 1.3 x the echo"}
"""Server CPU per environment step, by environments in a message."""


def measure_server(
    spec: EnvironmentSpec, *, streams: int, rows: int, seconds: float, frontends: int = 1, processes: int = 1
) -> dict[str, float]:
    """Our server under closed loops: CPU per environment step by part, and throughput.

    Args:
        spec: of the environments.
        streams: in all processes together, a multiple of their number.
        rows: environments in a message.
        seconds: of the window.
        frontends: gRPC processes of the server.
        processes: that hold the streams.
    """
    config = ServingConfig(frontends=frontends)
    with ZeroServer(spec, config, streams * rows) as server:
        holders = [
            StreamHolder(server.address, streams=streams // processes, rows=rows, number=number)
            for number in range(processes)
        ]
        with all_of(holders):
            _settle(holders)
            before, steps = server.snapshot(), server.inference.num_steps
            time.sleep(seconds)
            after, steps = server.snapshot(), server.inference.num_steps - steps
            windows = [holder.mark() for holder in holders]
    frontend, device = (b.cpu_s_since(a) / steps * 1e6 for a, b in zip(before, after, strict=True))
    return {
        "frontend_us": frontend,
        "device_us": device,
        "server_us": frontend + device,
        "messages_per_s": sum(window["messages"] / window["seconds"] for window in windows),
        "steps_per_s": sum(window["steps"] / window["seconds"] for window in windows),
        "round_trip_p50_ms": max(window["round_trip_p50_ms"] for window in windows),
        "round_trip_p99_ms": max(window["round_trip_p99_ms"] for window in windows),
    }


def measure_echo(environment_id: str, *, streams: int, rows: int, seconds: float) -> dict[str, float]:
    """The bare echo under the same load: CPU per environment step."""
    with Program((sys.executable, "-m", "tests.bench.echo", "--env", environment_id)) as echo:
        assert echo.process.stdout is not None
        port = echo.process.stdout.readline().strip()
        echo.check("it served")
        with StreamHolder(f"127.0.0.1:{port}", streams=streams, rows=rows) as holder:
            _settle([holder])
            before = Snapshot.of([echo.pid])
            time.sleep(seconds)
            after = Snapshot.of([echo.pid])
            window = holder.mark()
            steps = window["steps"] * seconds / window["seconds"]
    return {"echo_us": after.cpu_s_since(before) / steps * 1e6}


def compare(environment_id: str, rows: int, seconds: float, rounds: int) -> dict[str, float]:
    """Medians over rounds that alternate between the two servers, and their ratio."""
    spec, streams = describe(environment_id, ""), _STREAMS.get(rows, 16)
    samples, ratios = [], []
    for _ in range(rounds):
        ours = measure_server(spec, streams=streams, rows=rows, seconds=seconds)
        samples.append(ours | measure_echo(environment_id, streams=streams, rows=rows, seconds=seconds))
        ratios.append({"server_to_echo": samples[-1]["server_us"] / samples[-1]["echo_us"]})
    return {"rows": rows, "streams": streams, **medians(samples), **medians(ratios)}


def sweep(
    environment_id: str, counts: Sequence[int], rows: int, seconds: float, frontends: Sequence[int]
) -> list[dict[str, float]]:
    """Throughput for every number of streams and of frontends."""
    spec, points = describe(environment_id, ""), []
    for count in counts:
        for number in frontends:
            processes = min(2, count)
            found = measure_server(
                spec, streams=count, rows=rows, seconds=seconds, frontends=number, processes=processes
            )
            points.append({"streams": count, "frontends": number, "rows": rows, **found})
            print(
                f"{count:6} streams, {number} frontend(s): {found['messages_per_s']:8,.0f} messages/s, "
                f"round trip p50 {found['round_trip_p50_ms']:.1f} ms, p99 {found['round_trip_p99_ms']:.1f} ms, "
                f"frontend {found['frontend_us'] * rows:.0f} + device {found['device_us'] * rows:.0f} us a message",
                flush=True,
            )
    return points


def _settle(holders: Sequence[StreamHolder]) -> None:
    """Every stream is open, all have started together, the first windows are over."""
    for holder in holders:
        holder.ready()
    for holder in holders:
        holder.begin()
    time.sleep(_WARM_UP_S)
    for holder in holders:
        holder.mark()


def main(argv: Sequence[str] | None = None) -> None:
    """Runs all, prints a table and writes the JSON file."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.transport", description=__doc__)
    parser.add_argument("--env", default="seedbed/Synthetic-v0", help="a synthetic environment (default: 84x84 uint8)")
    parser.add_argument("--rows", type=int, nargs="*", default=[1, 32], help="environments in a message")
    parser.add_argument("--streams", type=int, nargs="*", default=[16, 64, 256, 1024], help="of the throughput part")
    parser.add_argument("--frontends", type=int, nargs="*", default=[1, 2], help="of the throughput part")
    parser.add_argument("--seconds", type=float, default=3.0, help="of each window (default: 3)")
    parser.add_argument("--rounds", type=int, default=3, help="of the comparison (default: 3)")
    parser.add_argument("--out", type=Path, default=Path("build/transport.json"))
    options = parser.parse_args(argv)
    costs = []
    for rows in options.rows:
        costs.append(compare(options.env, rows, options.seconds, options.rounds))
        print(
            f"{rows:3} environments a message: server {costs[-1]['server_us']:.1f} us per environment step "
            f"(frontend {costs[-1]['frontend_us']:.1f}, device {costs[-1]['device_us']:.1f}), bare echo "
            f"{costs[-1]['echo_us']:.1f} us, ratio {costs[-1]['server_to_echo']:.2f}"
            + (f"; goal {GOALS[rows]}" if rows in GOALS else ""),
            flush=True,
        )
    points = sweep(options.env, options.streams, 1, options.seconds, options.frontends)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps({"costs": costs, "throughput": points}, indent=2) + "\n")
    print(options.out)


if __name__ == "__main__":
    main()
