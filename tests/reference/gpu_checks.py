"""Checks of a real GPU, each of which says what is wrong: waits, numbers, order, graphs.

They run on the CPU too, where they show that the checks themselves are sound; the streams of a CPU are always in order.
"""

from __future__ import annotations

import copy
import threading
import time
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from seedbed.common.options import override
from seedbed.server.experience.batch import TrainBatch
from seedbed.server.inference.graphs import CudaCapture, Graphs
from seedbed.server.learning.learner import Learner
from seedbed.server.training.assemble import assemble
from seedbed.server.training.recording import record
from tests.reference.device import Device, place, taking_turns
from tests.reference.device_cases import CASES, THREADED
from tests.reference.device_world import DeviceWorld, make_config

_TOLERANCE = 1e-3  # relative, of a gradient; float32 without TF32
_DRAWS = ("sac", "td3")  # whose losses draw on the device: other numbers than on a CPU


def check_parity(device: torch.device, cases: Sequence[str] = tuple(CASES)) -> list[str]:
    """The gradients of an update against the CPU's, for every algorithm, network and memory; what differs."""
    torch.backends.cudnn.allow_tf32 = False
    found = []
    for case in cases:
        if CASES[case]["algorithm"] in _DRAWS or "graphs" in case:
            continue
        config, spec = make_config(**CASES[case] | {"network__frame_stack": 1, "network__precision": "float32"})
        algorithm = assemble(_on(config, "cpu"), spec).algorithm
        learners = [Learner(algorithm, config.optimiser, there) for there in (torch.device("cpu"), device)]
        learners[1].set_state(copy.deepcopy(learners[0].get_state()))
        batch = record(algorithm, learners[0].network, spec, num_unrolls=6)
        gradients = []
        for learner, there in zip(learners, (torch.device("cpu"), device), strict=True):
            torch.manual_seed(3)
            learner.update(batch_on(batch, there), 0.1)
            grads = [p.grad for p in learner.learnt.parameters() if p.grad is not None]
            gradients.append(torch.cat([grad.flatten().cpu().double() for grad in grads]))
        error = float((gradients[0] - gradients[1]).norm() / gradients[0].norm().clamp(min=1e-12))
        if not error < _TOLERANCE * (
            10 if CASES[case]["algorithm"] in ("ppo", "pqn") else 1
        ):  # those make several steps
            found.append(f"{case}: gradients differ by {error:.1e}")
    return found


def check_waits(device: torch.device, cases: Sequence[str]) -> list[str]:
    """Places where torch sees a host wait for the device, but for the actions."""
    seen: Counter[str] = Counter()
    for case in cases:
        config, spec = make_config(**CASES[case])
        turns = Device()
        with taking_turns(turns, *THREADED):
            world = DeviceWorld(turns, _on(config, str(device)), spec)
            with _seeing_waits(device, seen, case, turns):
                world.run(20)
    return [f"{where}: waits {count} times" for where, count in sorted(seen.items()) if "Inference.act" not in where]


@contextmanager
def _seeing_waits(device: torch.device, seen: Counter[str], case: str, turns: Device) -> Iterator[None]:
    if device.type != "cuda":
        yield
        return

    def note(*_: Any, **__: Any) -> None:
        seen[f"{case}: {turns.phase}: {place()}"] += 1

    show, warnings.showwarning = warnings.showwarning, note
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.showwarning = note
        torch.cuda.set_sync_debug_mode("warn")
        try:
            yield
        finally:
            torch.cuda.set_sync_debug_mode("default")
            warnings.showwarning = show


def check_staging(device: torch.device) -> list[str]:
    """Two leases that end their unrolls one right after the other, on a stream that is late: whose rows are stored."""
    config, spec = make_config("a2c", image=True)
    parts = assemble(_on(config, str(device)), spec)
    inference, unrolls, slots = parts.inference, parts.unrolls, parts.slots
    half = slots.num_slots // 2
    groups = np.arange(half), np.arange(half, slots.num_slots)
    for number, group in enumerate(groups, start=1):
        inference.begin(group, number, group.tolist())
        slots.observations[0][group] = number
    wrong = 0
    with _own_stream(device):
        for _ in range(20):
            unrolls.position[:] = 0
            _sleep(device, 5.0)
            for group in groups:
                inference.bootstrap(group)
            _synchronise(device)
            history = unrolls.layout.histories[0]
            for number, group in enumerate(groups, start=1):
                rows = unrolls.rows.observations[0][torch.from_numpy(group).to(device), history]
                wrong += int((rows != number).any())
    return [f"staging was overwritten while it was copied, {wrong} times of 40"] if wrong else []


def check_parameters(device: torch.device, seconds: float = 3.0) -> list[str]:
    """Versions whose tensors all hold one number, read twice while the next ones are written."""
    config, spec = make_config("vtrace", image=False, core="lstm")
    parts = assemble(_on(config, str(device)), spec)
    network, stop, torn, reads = parts.learner.network, threading.Event(), 0, 0

    def publish() -> None:
        version = 0
        while not stop.is_set():
            version += 1
            with torch.no_grad():
                for parameter in network.parameters():
                    parameter.fill_(float(version % 250))
            _sleep(device, 0.3)
            parts.parameters.publish(network, version)

    thread = threading.Thread(target=publish, daemon=True)
    thread.start()
    end_s = time.monotonic() + seconds
    with _own_stream(device), torch.inference_mode():
        while time.monotonic() < end_s:
            acting, version = parts.parameters.acquire()
            reads += 1
            first = _ends(acting)
            _sleep(device, 0.2)
            numbers = torch.stack((first, _ends(acting))).cpu()
            torn += int(version > 0 and bool((numbers != version % 250).any()))
    stop.set()
    thread.join()
    return [f"published parameters were torn in {torn} of {reads} reads"] if torn else []


def check_graphs(device: torch.device) -> list[str]:
    """Recorded steps of every batch size against plain ones, in bfloat16."""
    if device.type != "cuda":
        return []
    config, spec = make_config("vtrace", image=True, core="lstm", fleet__num_envs=100, serving__num_slots=100)
    parts = assemble(_on(config, str(device)), spec)
    plain, _ = parts.parameters.acquire()
    graphs = Graphs(100, CudaCapture())
    worst = 0.0
    with _own_stream(device), torch.inference_mode():
        for count in (3, 16, 40, 64, 100, 17, 3):
            slots = np.arange(count)
            arrived = parts.inference._arrive(slots)
            state = tuple(part.index_select(0, arrived.slot) for part in parts.inference._state)
            ours, theirs = (step.step(arrived.inputs, state)[0].policy for step in (graphs.of(plain), plain))
            worst = max(worst, float((ours - theirs).abs().max()))
    return [f"a replayed graph differs from its network by {worst:.1e}"] if worst > 1e-2 else []


def batch_on(batch: TrainBatch, device: torch.device) -> TrainBatch:
    """A train batch on another device."""
    sample = None if batch.sample is None else replace(batch.sample, weights=batch.sample.weights.to(device))
    return replace(
        batch,
        observations=tuple(array.to(device) for array in batch.observations),
        fields={name: array.to(device) for name, array in batch.fields.items()},
        state=tuple(part.to(device) for part in batch.state),
        valid=batch.valid.to(device),
        sample=sample,
    )


def _on(config: Any, device: str) -> Any:
    changes: dict[str, Any] = {"run.device": device}
    replay = getattr(config.algorithm_options, "replay", None)
    if replay is not None:
        changes["algorithm_options.replay.replay_device"] = torch.device(device).type
    return override(config, changes)


def _own_stream(device: torch.device) -> Any:
    return torch.cuda.stream(torch.cuda.Stream(device)) if device.type == "cuda" else nullcontext()


def _sleep(device: torch.device, milliseconds: float) -> None:
    """Makes the current stream late."""
    if device.type == "cuda":
        torch.cuda._sleep(int(milliseconds * 1.7e6))


def _synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _ends(network: Any) -> Tensor:
    return torch.stack([parameter.float().flatten()[[0, -1]] for parameter in network.parameters()])
