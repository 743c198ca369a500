"""Pictures of the comparison: curves of both sides in a panel for each row, a line for each seed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.bench.anything.cells import Cell, Side
from tests.bench.anything.rows import Row

_COLUMNS = 4
_COLOURS: dict[Side, str] = {"seedbed": "tab:blue", "sb3": "tab:orange"}
_LABELS: dict[Side, str] = {"seedbed": "seedbed", "sb3": "Stable-Baselines3"}


def draw(rows: Sequence[Row], cells: Sequence[Cell], path: Path) -> None:
    """One file with the rows that have a cell. Crosses at the end: means of the greedy episodes."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    begun = [row for row in rows if any(cell.row == row.name for cell in cells)]
    if not begun:
        return
    columns = min(_COLUMNS, len(begun))
    height = -(-len(begun) // columns)
    figure, grid = plt.subplots(height, columns, figsize=(3.6 * columns, 2.6 * height), squeeze=False)
    panels = list(grid.flat)
    for row, panel in zip(begun, panels, strict=False):
        _draw_row(panel, row, [cell for cell in cells if cell.row == row.name])
    for panel in panels[len(begun) :]:
        panel.set_axis_off()
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    plt.close(figure)


def _draw_row(panel: Any, row: Row, cells: Sequence[Cell]) -> None:
    labelled: set[Side] = set()
    for cell in cells:
        label = None if cell.side in labelled else _LABELS[cell.side]
        labelled.add(cell.side)
        colour = _COLOURS[cell.side]
        steps, values = zip(*cell.curve, strict=True) if cell.curve else ((), ())
        panel.plot([step / 1000 for step in steps], values, color=colour, label=label, linewidth=1.2, alpha=0.8)
        panel.plot([row.steps / 1000], [cell.mean], color=colour, marker="x", linestyle="")
    panel.axhline(row.threshold, color="grey", linewidth=0.7, linestyle=":")
    panel.set_title(row.title.split(" (")[0], fontsize=9)
    panel.set_xlabel("agent steps (1000)", fontsize=8)
    panel.tick_params(labelsize=8)
    panel.legend(fontsize=7)
