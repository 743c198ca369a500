"""`seedbed plot RUN...`: learning curves of runs as a PNG, return against agent steps and against time.

Runs of one group are drawn as their mean within the band from the worst to the best of them. So is the folder of
several seeds (`seedbed train --seeds`), which is named like a run.
"""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from seedbed.common.cli import naming_extras
from seedbed.common.counting import count
from seedbed.common.errors import ConfigError
from seedbed.common.options import OptionParser, add_options, explicit, option, override
from seedbed.common.output_file import writing
from seedbed.server.run.directory import METRICS_FILE
from seedbed.server.verbs.curves import Curve, NothingToDraw, dots_of, read_curve, tasks_of
from seedbed.server.verbs.seeds import FOLDER

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_GRID_POINTS = 500
_AXES = {
    "episodes": "episode return, mean of the last 100",
    "cohorts": "episode return, mean of a cohort",
    "scores": "human-normalised score, 1 for people",
}
_WIDTH_INCHES, _HEIGHT_INCHES, _DOTS_PER_INCH = 6.5, 4.2, 150
_MAX_COLUMNS, _LEGEND_ROW_INCHES = 4, 0.22


@dataclass(frozen=True, slots=True, kw_only=True)
class PlotOptions:
    """plot"""

    out: Path | None = option(
        None,
        "the picture (default: learning_curve.png in the run, or in the folder that all runs share)",
        metavar="FILE.png",
    )
    x: Literal["steps", "time", "both"] = option("both", "against agent steps, wall-clock time, or one plot of each")
    returns: Literal["episodes", "cohorts", "scores"] = option(
        "episodes",
        "means of the last 100 episodes that ended, or of the newest cohort, which favours no short ones; of several "
        "tasks also human-normalised scores, their capped mean",
    )
    task: str | None = option(
        None, "curves of single tasks of a run of several: their names, commas between, or all", metavar="NAME,..."
    )
    smooth: int = option(1, "each point is the mean of so many log intervals", minimum=1)
    group: Literal["run", "parent", "env"] = option(
        "run", "what is drawn as one curve: every run, all runs of a parent folder, or of an environment"
    )
    dots: bool = option(False, "a dot for each episode of episodes.jsonl too")
    title: str | None = option(None, "over the picture")


def main(argv: Sequence[str]) -> int:
    """Draws the runs named in `argv`.

    Raises:
        ConfigError: one of them is no run, or none has anything to draw.
        MissingExtraError: matplotlib is not installed.
    """
    parser = OptionParser("seedbed plot", "Draw the learning curves of runs.", operands="RUN...")
    parser.add_argument("runs", metavar="RUN", nargs="+", type=Path, help="folder of a run")
    add_options(parser, PlotOptions())
    namespace = parser.parse(argv)
    options = override(PlotOptions(), explicit(namespace, PlotOptions()))
    folders = [run for run in namespace.runs if len(namespace.runs) == 1 or not run.is_file()]
    for file in set(namespace.runs).difference(folders):  # runs/*: the picture of last time lies among them
        print(f"left out {file}: a file, no folder of a run", file=sys.stderr)
    found = [(run, folder) for folder in folders for run in _runs_in(folder)]
    curves: list[Curve] = []
    drawn: list[Path] = []
    wanted = [(run, folder, task) for run, folder in found for task in tasks_of(run, options.task)]
    for run, folder, task in wanted:
        try:
            group = options.group if run == folder else "parent"
            curves.append(read_curve(run, group, options.smooth, options.returns, task))
            drawn.append(run)
        except NothingToDraw as error:
            if len(wanted) == 1:
                raise
            print(f"left out {run if task is None else f'{task} of {run}'}: {error}", file=sys.stderr)
    if not curves:
        raise ConfigError(f"expected a run with something to draw, got {count(len(found), 'run')} without")
    if options.dots:
        pairs = zip(curves, drawn, strict=True)
        curves = [replace(curve, episodes=dots_of(run, curve.task)) for curve, run in pairs]
    figure = draw(curves, options)
    out = options.out or _beside(folders) / "learning_curve.png"
    with writing("--out", out):
        out.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(out, dpi=_DOTS_PER_INCH, format="png")
    print(out)
    return 0


def _runs_in(folder: Path) -> list[Path]:
    """The run itself, or those of several seeds in a folder."""
    seeds = [] if (folder / METRICS_FILE).exists() else sorted(folder.glob(f"{FOLDER}*"))
    return [run for run in seeds if (run / METRICS_FILE).exists()] or [folder]


def _beside(runs: Sequence[Path]) -> Path:
    """The run itself, or the innermost folder that all of several are in; as typed where that is possible."""
    if len(runs) == 1:
        return runs[0]
    return Path(os.path.relpath(os.path.commonpath([run.resolve() for run in runs])))


def average(
    xs: Sequence[NDArray[np.float64]], ys: Sequence[NDArray[np.float64]]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Brings curves to a common grid over the part that all of them cover.

    Args:
        xs, ys: one pair for each curve, of lengths of their own; x ascending.

    Returns:
        Grid, mean, minimum and maximum, each `[_GRID_POINTS]`; empty if the curves have no x in common.
    """
    start, end = max(x[0] for x in xs), min(x[-1] for x in xs)
    grid = np.linspace(start, end, _GRID_POINTS) if start <= end else np.empty(0)
    values = np.stack([np.interp(grid, x, y) for x, y in zip(xs, ys, strict=True)])
    return grid, values.mean(0), values.min(0), values.max(0)


def draw(curves: Sequence[Curve], options: PlotOptions) -> Figure:
    """A figure with one or two plots.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    with naming_extras():
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

    axes_of = {"steps": ("steps",), "time": ("time",), "both": ("steps", "time")}[options.x]
    figure = Figure(figsize=(_WIDTH_INCHES * len(axes_of), _HEIGHT_INCHES), layout="constrained")
    FigureCanvasAgg(figure)
    all_axes = figure.subplots(1, len(axes_of), sharey=True, squeeze=False)[0]
    for axes, kind in zip(all_axes, axes_of, strict=True):
        _draw_curves(axes, curves, kind)
    all_axes[0].set_ylabel(_AXES[options.returns])
    if options.title:
        figure.suptitle(options.title)
    _add_legend(figure, *all_axes[0].get_legend_handles_labels())
    return figure


def _add_legend(figure: Figure, handles: list[Any], labels: list[str]) -> None:
    """Below the plots, in as many columns as fit; the picture grows by its rows."""
    height = figure.get_figheight()
    for columns in range(min(len(labels), _MAX_COLUMNS), 0, -1):
        legend = figure.legend(handles, labels, loc="outside lower center", ncols=columns, frameon=False)
        figure.set_figheight(height + _LEGEND_ROW_INCHES * (math.ceil(len(labels) / columns) - 1))
        figure.draw_without_rendering()  # only then it knows its size
        if columns == 1 or legend.get_window_extent().width <= figure.bbox.width:
            return
        legend.remove()


def _draw_curves(axes: Axes, curves: Sequence[Curve], kind: str) -> None:
    from matplotlib.ticker import EngFormatter

    for number, label in enumerate(dict.fromkeys(curve.label for curve in curves)):
        colour = f"C{number % 10}"
        members = [curve for curve in curves if curve.label == label]
        xs = [member.agent_steps if kind == "steps" else member.minutes for member in members]
        ys = [member.returns for member in members]
        axis = 0 if kind == "steps" else 1
        for member in members:
            if member.episodes.size:
                dots = member.episodes[axis], member.episodes[2]
                axes.plot(*dots, ".", color=colour, markersize=2, alpha=0.25, zorder=1)
            if member.best is not None:
                axes.plot(member.best[axis], member.best[2], "*", color=colour, markersize=11, markeredgecolor="white")
        if len(members) == 1:
            axes.plot(xs[0], ys[0], color=colour, linewidth=1.8, label=label)
            continue
        for x, y in zip(xs, ys, strict=True):
            axes.plot(x, y, color=colour, linewidth=0.6, alpha=0.45)
        grid, mean, low, high = average(xs, ys)
        axes.fill_between(grid, low, high, color=colour, alpha=0.18, linewidth=0)
        axes.plot(grid, mean, color=colour, linewidth=2.0, label=f"{label}, mean of {len(members)}")
    axes.set_xlabel("agent steps" if kind == "steps" else "minutes")
    if kind == "steps":
        axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    axes.grid(alpha=0.3, linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)
    axes.margins(x=0.02)
