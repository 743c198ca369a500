"""Markdown of the comparison: returns with their verdicts, and what they cost."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence

from tests.bench.anything.cells import Cell, Side
from tests.bench.anything.rows import Row
from tests.bench.anything.verdicts import compare, is_complete, score_of

WANTED_SEEDS = 3
_RETURNS = (
    "| environment | steps (1000) | seedbed: each seed | mean | Stable-Baselines3: each seed | mean | seedbed is |",
    "|---|---|---|---|---|---|---|",
)
_COSTS = (
    "| environment | threshold | steps to it (1000): seedbed | SB3 | minutes: seedbed | SB3 | ratio "
    "| CPU minutes: seedbed | SB3 | ratio | minibatches (1000): seedbed | SB3 |",
    "|---|---|---|---|---|---|---|---|---|---|---|---|",
)


def tables(rows: Sequence[Row], cells: Sequence[Cell]) -> str:
    """Both tables and the tally, of the rows that have a cell."""
    begun = [(row, _of(cells, row, "seedbed"), _of(cells, row, "sb3")) for row in rows]
    begun = [entry for entry in begun if entry[1] or entry[2]]
    lines = [*_RETURNS, *(return_row(*entry) for entry in begun), ""]
    lines += [tally([entry for entry in begun if entry[1] and entry[2]], len(rows)), ""]
    lines += [*_COSTS, *(cost_row(*entry) for entry in begun), ""]
    return "\n".join(lines)


def return_row(row: Row, own: Sequence[Cell], peer: Sequence[Cell]) -> str:
    """Every seed's return; a verdict, in brackets as long as seeds are missing."""
    verdict = "-"
    if own and peer:
        word = compare(score_of(own), score_of(peer))
        verdict = _marked(word) if is_complete(row, own, peer, WANTED_SEEDS) else f"({word})"
    columns = [row.title, f"{row.steps / 1000:.0f}"]
    for side in (own, peer):
        columns += [_named(side, lambda cell: number(cell.mean)), _mean(side)]
    return _line(*columns, verdict)


def cost_row(row: Row, own: Sequence[Cell], peer: Sequence[Cell]) -> str:
    """Steps to the threshold, time and minibatches of every seed; ratios of mean times: below 1 seedbed takes less."""
    columns = [number(row.threshold)]
    columns += [_each(side, _to_threshold) for side in (own, peer)]
    for cost in ("wall_s", "cpu_s"):
        columns += [_minutes(own, cost), _minutes(peer, cost), _ratio(own, peer, cost)]
    columns += [_each(side, lambda cell: number(cell.minibatches / 1000)) for side in (own, peer)]
    return _line(row.title, *columns)


def tally(entries: Sequence[tuple[Row, Sequence[Cell], Sequence[Cell]]], num_rows: int) -> str:
    """How many rows are not below, and how many of them have all their seeds."""
    good = [compare(score_of(own), score_of(peer)) != "below" for _, own, peer in entries]
    complete = [is_complete(*entry, WANTED_SEEDS) for entry in entries]
    both = sum(map(min, good, complete))
    return (
        f"Not below by more than the pooled standard error: {both} of {sum(complete)} rows with all seeds, "
        f"{sum(good)} of {len(entries)} with any, of {num_rows} in all."
    )


def number(value: float) -> str:
    """Three or more digits: what a table needs to tell 0.74 from 0.7 and 475 from 500."""
    return f"{value:.2f}" if abs(value) < 10 else f"{value:.1f}" if abs(value) < 100 else f"{value:.0f}"


def _marked(word: str) -> str:
    return f"**{word}**" if word == "below" else word


def _of(cells: Sequence[Cell], row: Row, side: Side) -> list[Cell]:
    return [cell for cell in cells if cell.row == row.name and cell.side == side]


def _mean(cells: Sequence[Cell]) -> str:
    if not cells:
        return "-"
    score = score_of(cells)
    return f"{number(score.mean)} ± {number(score.error)}"


def _named(cells: Sequence[Cell], reading: Callable[[Cell], str]) -> str:
    if not cells:
        return "-"
    algorithms = ", ".join(dict.fromkeys(cell.algorithm for cell in cells))
    return f"`{algorithms}` " + "; ".join(f"{cell.seed}: {reading(cell)}" for cell in cells)


def _each(cells: Sequence[Cell], reading: Callable[[Cell], str]) -> str:
    return ", ".join(map(reading, cells)) or "-"


def _to_threshold(cell: Cell) -> str:
    return "-" if cell.steps_to_threshold is None else f"{cell.steps_to_threshold / 1000:.0f}"


def _minutes(cells: Sequence[Cell], cost: str) -> str:
    return _each(cells, lambda cell: f"{getattr(cell, cost) / 60:.1f}")


def _ratio(own: Sequence[Cell], peer: Sequence[Cell], cost: str) -> str:
    if not (own and peer):
        return "-"
    means = [statistics.fmean(getattr(cell, cost) for cell in side) for side in (own, peer)]
    return f"{means[0] / means[1]:.2f}"


def _line(*columns: str) -> str:
    return "| " + " | ".join(columns) + " |"
