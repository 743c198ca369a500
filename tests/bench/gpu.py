"""What only a GPU shows, in under 15 minutes: `make gpu`, or `python -m tests.bench.gpu`; writes build/gpu.json.

    parity      gradients of every algorithm against the CPU's
    waits       places where a host waits for the device
    order       staging, published parameters and graphs, with streams made late on purpose
    learns      Catch, trained on the device until it is solved
    figures     host and wall-clock time of a batch and of an update, device memory

With `--device cpu` the same code runs without a GPU: a rehearsal, whose figures say nothing.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from seedbed.common.timestep import StepType
from seedbed.server.training.assemble import assemble
from seedbed.server.training.recording import record
from tests.reference import gpu_checks as checks
from tests.reference.device_world import make_config

OUT = Path("build/gpu.json")
_WAITS = ("vtrace conv lstm", "ppo conv none", "r2d2 conv lstm", "sac vector none", "one_step_q conv none")
_LEARNS_S = 120


def parity(device: torch.device) -> dict[str, Any]:
    """Gradients."""
    return {"wrong": checks.check_parity(device)}


def waits(device: torch.device) -> dict[str, Any]:
    """Of hosts."""
    return {"wrong": checks.check_waits(device, _WAITS)}


def order(device: torch.device) -> dict[str, Any]:
    """Of streams."""
    found = [*checks.check_staging(device), *checks.check_parameters(device), *checks.check_graphs(device)]
    return {"wrong": found}


def learns(device: torch.device) -> dict[str, Any]:
    """A small task, to its target."""
    with tempfile.TemporaryDirectory() as folder:
        command = [
            str(Path(sys.executable).with_name("seedbed")),
            "train",
            "--preset",
            "catch",
            "--device",
            str(device),
        ]
        command += ["--run-dir", f"{folder}/run", "--max-seconds", str(_LEARNS_S)]
        began_s = time.monotonic()
        done = subprocess.run(command, capture_output=True, text=True, timeout=_LEARNS_S + 120, check=False)
        said = done.stdout.strip().splitlines()[-1:] or ["nothing"]
    good = done.returncode == 0 and "mean return" in said[0]
    wrong = [] if good else [f"Catch ended with {done.returncode}: {said[0]} {done.stderr[-500:]}"]
    return {"wrong": wrong, "seconds": round(time.monotonic() - began_s, 1), "said": said[0]}


def figures(device: torch.device) -> dict[str, Any]:
    """Milliseconds: of the wall clock until the device is done, of it on the host, of the host's CPU."""
    found: dict[str, Any] = {"wrong": []}
    small = device.type != "cuda"
    for core in ("none", "lstm"):
        for graphs in (False, True):
            for rows in (16,) if small else (256, 1024, 4096):
                found[f"act and remember, {core}, graphs {graphs}, {rows} rows"] = _acting(device, core, graphs, rows)
        for batch in (4,) if small else (32, 128, 512):
            found[f"update and publish, {core}, {batch} unrolls"] = _learning(device, core, batch)
    if not small:
        found["memory"] = {key: value for key, value in torch.cuda.memory_stats().items() if key in _MEMORY}
    return found


_MEMORY = ("reserved_bytes.all.peak", "allocated_bytes.all.peak")


def _real_size(core: str, device: torch.device, rows: int, **more: Any) -> Any:
    common = {"learning__unroll_length": 20, "network__core_size": 256, "network__frame_stack": 4}
    sizes = {"fleet__num_envs": rows, "serving__num_slots": rows, "serving__max_inference_batch": rows}
    config, spec = make_config("vtrace", image=True, core=core, **{**common, **sizes, **more})
    return checks._on(config, str(device)), spec


def _acting(device: torch.device, core: str, graphs: bool, rows: int) -> dict[str, float]:
    config, spec = _real_size(core, device, rows, serving__cuda_graphs=graphs)
    parts = assemble(config, spec)
    slots = np.arange(rows)
    parts.inference.begin(slots, 1, slots.tolist())
    parts.slots.step_type[:] = StepType.MID

    def turn() -> None:
        done = parts.inference.remember(parts.inference.act(slots))
        if len(done):
            parts.unrolls.complete(done)

    with checks._own_stream(device):
        parts.inference.record_graphs()
        return _timed(turn, device)


def _learning(device: torch.device, core: str, unrolls: int) -> dict[str, float]:
    config, spec = _real_size(core, device, 64, network__frame_stack=1, learning__batch_size=unrolls)
    parts = assemble(config, spec)
    learner = assemble(checks._on(config, "cpu"), spec).learner
    batch = checks.batch_on(record(parts.algorithm, learner.network, spec, num_unrolls=unrolls), device)

    def update() -> None:
        parts.learner.update(batch, 0.1)
        parts.parameters.publish(parts.learner.network, parts.learner.num_updates)

    return _timed(update, device)


def _timed(work: Callable[[], None], device: torch.device, times: int = 40) -> dict[str, float]:
    for _ in range(5):
        work()
    checks._synchronise(device)
    wall_s, cpu_s = time.perf_counter(), time.thread_time()
    for _ in range(times):
        work()
    host_s, cpu_s = time.perf_counter() - wall_s, time.thread_time() - cpu_s
    checks._synchronise(device)
    total_s = time.perf_counter() - wall_s
    return {
        name: round(seconds / times * 1e3, 3) for name, seconds in (("wall", total_s), ("host", host_s), ("cpu", cpu_s))
    }


PARTS: dict[str, Callable[[torch.device], dict[str, Any]]] = {
    part.__name__: part for part in (parity, waits, order, learns, figures)
}


def main(argv: list[str] | None = None) -> int:
    """Runs the parts; 1 if one of them found something wrong, or there is no GPU."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda:0")
    parser.add_argument("--parts", nargs="*", choices=PARTS, default=list(PARTS))
    parser.add_argument("--out", type=Path, default=OUT)
    arguments = parser.parse_args(argv)
    device = torch.device(arguments.device)
    if device.type == "cuda" and not torch.cuda.is_available():
        print(f"expected a CUDA device, torch {torch.__version__} sees none: measure on a machine that has one")
        return 1
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "none: a rehearsal on the CPU"
    found: dict[str, Any] = {"device": name, "torch": torch.__version__, "parts": {}}
    for part in arguments.parts:
        began_s = time.monotonic()
        try:
            result = PARTS[part](device)
        except Exception:
            result = {"wrong": [traceback.format_exc()]}
        found["parts"][part] = result | {"took_s": round(time.monotonic() - began_s, 1)}
        print(f"{part}: {'; '.join(result['wrong']) or 'nothing wrong'}", flush=True)
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        arguments.out.write_text(json.dumps(found, indent=1) + "\n")  # what is measured is kept, whatever comes next
    return int(any(result["wrong"] for result in found["parts"].values()))


if __name__ == "__main__":
    sys.exit(main())
