"""What `make bench` prints and writes: medians over rounds, each a system run between two measurements of its parts."""

from __future__ import annotations

import platform
import re
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

from seedbed.server.options.config import ServerConfig
from tests.bench.bound import IN_BOUND, Costs, bound_of
from tests.bench.statistics import medians

_PARTS = {
    "environment": "one process steps {rows} environments with random actions, resets included",
    "inference": "gather, stack, policy, sample, actions out, state and unrolls stored; {batch} rows a batch",
    "training": "loss, gradient, optimiser step, publish; {train_batch}",
    "transport": "client, gRPC, frontend, slots, ids, leases, batching; {rows} rows a message, environments subtracted",
    "hand_over": "complete unrolls into the learner's queue and out as a train batch",
}


def machine() -> dict[str, str]:
    """What this runs on."""
    match = re.search(r"^model name\s*: (.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    return {"cpu": match[1] if match else platform.machine(), "python": platform.python_version()}


def summarise(
    rounds: Sequence[tuple[Costs, Mapping[str, Any], Costs]],
    *,
    cores: int,
    device: str,
    frontends: int,
    torch_threads: int,
) -> dict[str, Any]:
    """The figures of a benchmark.

    Args:
        rounds: parts before, the system, parts after.
        cores, device, frontends, torch_threads: see `bound_of`.
    """
    bound = partial(bound_of, cores=cores, device=device, frontends=frontends, torch_threads=torch_threads)
    efficiencies, cpu_efficiencies, ratios, stages = [], [], [], []
    for before, system, after in rounds:
        pair = [bound(costs) for costs in (before, after)]
        bound_steps_per_s = sum(item.agent_steps_per_s for item in pair) / 2
        environment_us = sum(costs.parts["environment"].cpu_us for costs in (before, after)) / 2
        efficiencies.append(system["agent_steps_per_s"] / bound_steps_per_s)
        ratios.append(system["agent_steps_per_s"] * environment_us / 1e6)
        needed_us = sum(sum(costs.cpu_us()[name] for name in IN_BOUND) for costs in (before, after)) / 2
        cpu_efficiencies.append(needed_us / sum(system["cpu_us_per_step"].values()))
        stages.append(pair[0].stage)
    every = [costs for before, _, after in rounds for costs in (before, after)]
    transport = medians(
        {"client": item.client, "frontend": item.frontend, "device": item.device}
        for item in (costs.transport for costs in every)
    )
    components = medians(costs.cpu_us() for costs in every)
    wall = medians({name: cost.wall_us for name, cost in costs.parts.items()} for costs in every)
    return {
        "efficiency": median(efficiencies),
        "agent_steps_per_s": median(system["agent_steps_per_s"] for _, system, _ in rounds),
        "bound_agent_steps_per_s": median(bound(costs).agent_steps_per_s for costs in every),
        "bound_by": stages[-1],
        "times_one_core_environment": median(ratios),
        "one_core_environment_steps_per_s": 1e6 / components["environment"],
        "components_cpu_us": components,
        "components_wall_us": wall,
        "transport_cpu_us": transport,
        "system": _merge([system for _, system, _ in rounds]),
        "cpu_efficiency": median(cpu_efficiencies),
        "efficiencies": efficiencies,
        "cores": cores,
        "device": device,
    }


def _merge(samples: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The median of every number, in nested mappings too."""
    names = dict.fromkeys(name for sample in samples for name in sample)
    merged: dict[str, Any] = {}
    for name in names:
        values = [sample[name] for sample in samples if sample.get(name) is not None]
        if values:
            merged[name] = _merge(values) if isinstance(values[0], Mapping) else median(values)
    return merged


def table(figures: Mapping[str, Any], config: ServerConfig, *, rows: int, batch: int, train_batch: str) -> str:
    """The figures for a person."""
    components, system = figures["components_cpu_us"], figures["system"]
    lines = ["alone, CPU us per agent step"]
    for name in (*IN_BOUND, "hand_over"):
        what = _PARTS[name].format(rows=rows, batch=batch, train_batch=train_batch)
        note = "" if name in IN_BOUND else " (not in the bound)"
        lines.append(f"  {name:<12} {components[name]:8.1f}  {what}{note}")
    split = ", ".join(f"{name} {value:.1f}" for name, value in figures["transport_cpu_us"].items())
    lines.append(f"    transport: {split}")
    if "replay" in figures:
        lines.append(_replay_line(figures["replay"]))
    lines.append(f"system, {config.environment.env}, training on, CPU us per agent step")
    for name, value in sorted(system["cpu_us_per_step"].items(), key=lambda item: -item[1]):
        lines.append(f"  {name:<12} {value:8.1f}  {system['memory_mib'].get(name, 0):,.0f} MiB")
    threads = ", ".join(
        f"{name} {value:.1f}"
        for name, value in sorted(system["threads_cpu_us_per_step"]["device"].items(), key=lambda item: -item[1])
        if value >= 0.5
    )
    lines += [
        f"    device: {threads}",
        f"  cores used {system['cores_used']:.2f} of {figures['cores']}, by other programs "
        f"{system['cores_used_by_others']:.2f}; inference batch {system.get('inference_batch_mean', 0):.0f}, "
        f"policy lag {system.get('policy_lag_mean', 0):.1f}",
        f"achieved   {figures['agent_steps_per_s']:10,.0f} agent steps/s",
        f"bound      {figures['bound_agent_steps_per_s']:10,.0f} agent steps/s, set by {figures['bound_by']}",
        f"efficiency {figures['efficiency']:10.2f} = achieved / bound",
        f"           {figures['cpu_efficiency']:10.2f} of the system's CPU time is what the bound's parts cost alone",
        f"           {figures['times_one_core_environment']:10.2f} x the rate at which one core steps the environment "
        f"alone ({figures['one_core_environment_steps_per_s']:,.0f}/s)",
    ]
    if system["cores_used_by_others"] > 0.1:
        lines.append("other programs were busy meanwhile: what was achieved, and so the efficiency, is too low")
    return "\n".join(lines)


def _replay_line(replay: Mapping[str, float]) -> str:
    throughput = f"{replay['inserts_per_s']:,.0f} inserts/s, {replay['samples_per_s']:,.0f} unrolls drawn/s"
    share = f"{replay['replay_share_of_update']:.1%} of an update"
    return f"    replay: {throughput}; draws and new priorities take {share}"
