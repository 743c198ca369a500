"""What a person reads: a row for each load, and all about the best of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from seedbed.common.specs import EnvironmentSpec
from seedbed.common.verdict import Verdict
from seedbed.env_client.loadtest.measurement import Measurement

_BAR_WIDTH = 30

_STAGES: Mapping[str, str] = {
    "behind": "behind schedule",
    "client": "client",
    "network": "frontend, network",
    "wait": "wait for a batch",
    "inference": "inference",
    "reply": "reply",
}


@dataclass(frozen=True, slots=True)
class LoadPoint:
    """A measurement and what it means."""

    measurement: Measurement
    verdict: Verdict


_COLUMNS: Mapping[str, Callable[[Measurement], str]] = {
    "clients": lambda found: f"{found.load.clients:,}",
    "envs": lambda found: f"{found.load.envs_per_client:,}",
    "asked/s": lambda found: "-" if found.load.rate is None else f"{found.load.rate:,}",
    "steps/s": lambda found: f"{found.agent_steps_per_s:,.0f}",
    "frames/s": lambda found: f"{found.frames_per_s:,.0f}",
    "p50 ms": lambda found: f"{found.latency_ms.p50:.2f}",
    "p90": lambda found: f"{found.latency_ms.p90:.2f}",
    "p95": lambda found: f"{found.latency_ms.p95:.2f}",
    "p99": lambda found: f"{found.latency_ms.p99:.2f}",
    "batch": lambda found: "-" if found.batch_rows_mean is None else f"{found.batch_rows_mean:.1f}",
    "MB/s out": lambda found: f"{found.sent_bytes_per_s / 1e6:.1f}",
    "errors": lambda found: f"{sum(found.errors.values()):,}",
    "stable": lambda found: "yes" if found.stable else "no",
}
_WIDTH = 9


def describe_test(spec: EnvironmentSpec, address: str, *, open_loop: bool) -> str:
    """What is tested, in one line."""
    observations = ", ".join(f"{array.dtype}{list(array.shape)}" for array in spec.observations)
    loop = "open loop" if open_loop else "closed loop"
    return f"{loop} against {address}, which serves {spec.environment}: {observations}"


def header() -> str:
    """Names of the columns, to stand over `row`."""
    return "".join(f"{name:>{_WIDTH}}" for name in (*_COLUMNS, "  bottleneck")).rstrip()


def row(point: LoadPoint) -> str:
    """One load."""
    cells = "".join(f"{cell(point.measurement):>{_WIDTH}}" for cell in _COLUMNS.values())
    return f"{cells}  {point.verdict.stage}"


def best_of(points: Sequence[LoadPoint]) -> LoadPoint:
    """The load with the most agent steps/s."""
    return max(points, key=lambda point: point.measurement.agent_steps_per_s)


def details(point: LoadPoint) -> str:
    """All about one load, and the verdict."""
    found = point.measurement
    asked = "" if found.load.rate is None else f", {found.load.rate:,} agent steps/s asked"
    blocks = [
        f"best load: {found.load.clients} clients of {found.load.envs_per_client} environments{asked}; "
        f"{found.seconds:.1f} s in {found.windows} windows",
        _round_trip(found),
        _batches(found),
        _processes(found),
        f"bottleneck: {point.verdict}",
    ]
    return "\n\n".join(block for block in blocks if block)


def _round_trip(found: Measurement) -> str:
    total_ms = sum(found.round_trip_ms.values()) or 1.0
    lines = [f"where a round trip goes            ms   of {total_ms:.2f}"]
    for stage, value_ms in found.round_trip_ms.items():
        share = value_ms / total_ms
        lines.append(f"  {_STAGES[stage]:<26}{value_ms:>9.3f} {share:>6.0%}  {_bar(share)}".rstrip())
    return "\n".join(lines)


def _batches(found: Measurement) -> str:
    """The histogram. Empty when the server does not tell."""
    total = sum(found.batch_sizes.values())
    if not total:
        return ""
    lines = [f"rows in an inference batch    batches   of {total:,}"]
    for largest, count in found.batch_sizes.items():
        smallest = int(largest) // 2 + 1
        rows = largest if smallest == int(largest) else f"{smallest} to {largest}"
        lines.append(f"  {rows:<26}{count:>9,} {count / total:>6.0%}  {_bar(count / total)}".rstrip())
    return "\n".join(lines)


def _processes(found: Measurement) -> str:
    lines = ["process                         cores  CPU us/step      MiB"]
    for name, use in found.processes.items():
        lines.append(f"  {name:<26}{use.cores:>9.2f}{use.cpu_us_per_step:>13.1f}{use.rss_mib:>9.0f}")
    lines.append(f"  {'this machine, of 1':<26}{found.machine_busy:>9.2f}")
    return "\n".join(lines)


def _bar(share: float) -> str:
    return "#" * round(share * _BAR_WIDTH)
