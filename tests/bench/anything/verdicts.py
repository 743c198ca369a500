"""Verdict of a row: is the mean return over seeds below the other side's by more than the pooled standard error?"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from tests.bench.anything.cells import Cell
from tests.bench.anything.rows import Row

Word = Literal["above", "level", "below"]


@dataclass(frozen=True, slots=True)
class Score:
    """Mean return of one side of a row.

    Attributes:
        mean: over seeds, of each seed's greedy episodes.
        error: its standard error: between the seeds, or between the episodes of the only one.
        num_seeds: that were run.
    """

    mean: float
    error: float
    num_seeds: int


def score_of(cells: Sequence[Cell]) -> Score:
    """Of the cells of one side, at least one."""
    means = [cell.mean for cell in cells]
    values = means if len(cells) > 1 else cells[0].returns
    error = statistics.stdev(values) / math.sqrt(len(values)) if len(values) > 1 else 0.0
    return Score(statistics.fmean(means), error, len(means))


def compare(own: Score, peer: Score) -> Word:
    """Above or below by more than the pooled standard error, the root of the sum of both squares; level otherwise."""
    pooled = math.hypot(own.error, peer.error)
    difference = own.mean - peer.mean
    if abs(difference) <= pooled:
        return "level"
    return "above" if difference > 0 else "below"


def is_complete(row: Row, own: Sequence[Cell], peer: Sequence[Cell], seeds: int) -> bool:
    """Whether both sides have all the seeds that the row is judged by."""
    wanted = min(seeds, row.seeds or seeds)
    return len(own) >= wanted and len(peer) >= wanted
