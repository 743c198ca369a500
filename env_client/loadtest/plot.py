"""Throughput and p99 against load, as a PNG."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from seedbed.common.cli import naming_extras
from seedbed.env_client.loadtest.report import LoadPoint

_SIZE_INCHES = (6.5, 6.0)
_DOTS_PER_INCH = 150


def require_matplotlib() -> None:
    """Fails before a test rather than after it.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    with naming_extras():
        import matplotlib  # noqa: F401


def write_plot(path: Path, points: Sequence[LoadPoint], title: str) -> None:
    """Draws one curve for each number of environments per client; in an open loop against the rate asked.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    with naming_extras():
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    figure = Figure(figsize=_SIZE_INCHES, layout="constrained")
    FigureCanvasAgg(figure)
    throughput, latency = figure.subplots(2, 1, sharex=True)
    for label, curve in curves(points).items():
        loads = [x for x, _, _ in curve]
        throughput.plot(loads, [steps_per_s for _, steps_per_s, _ in curve], marker="o", markersize=4, label=label)
        latency.plot(loads, [p99_ms for _, _, p99_ms in curve], marker="o", markersize=4)
    open_loop = points[0].measurement.load.rate is not None
    throughput.set_ylabel("agent steps/s")
    throughput.legend(frameon=False)
    throughput.set_title(title, fontsize="small")
    latency.set_ylabel("round trip, p99, ms")
    latency.set_xlabel("agent steps/s asked" if open_loop else "clients")
    for axes in (throughput, latency):
        axes.set_xscale("log", base=2)
        axes.xaxis.set_major_formatter("{x:,.0f}")
        axes.set_ylim(bottom=0)
        axes.grid(alpha=0.3, linewidth=0.6)
        axes.spines[["top", "right"]].set_visible(False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=_DOTS_PER_INCH, format="png")


def curves(points: Sequence[LoadPoint]) -> dict[str, list[tuple[float, float, float]]]:
    """(load, agent steps/s, p99 in ms) of each load, by the label of its curve, loads ascending."""
    found: dict[str, list[tuple[float, float, float]]] = {}
    for measurement in (point.measurement for point in points):
        load = measurement.load
        label = f"{load.envs_per_client} environments per client"
        if load.rate is not None:
            label = f"{load.clients} clients, {label}"
        x = load.clients if load.rate is None else load.rate
        found.setdefault(label, []).append((x, measurement.agent_steps_per_s, measurement.latency_ms.p99))
    return {label: sorted(curve) for label, curve in found.items()}
