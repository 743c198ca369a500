"""Any environment, no option: `seedbed train --env X` beside Stable-Baselines3 with its defaults.

    python -m tests.bench.anything --rows cartpole pendulum --seeds 0 1 2 --out build/anything

Both sides take the same number of agent steps in the same environment on this machine, with one torch thread. Every
finished cell (a row, a side, a seed) is a JSON file in --out and is never run again: a call that was interrupted goes
on with the next, and several calls with different rows can share a folder. At the end tables.md and anything.png show
all cells that are there, of this call or others.

Stable-Baselines3 and the environments have to be installed beside seedbed, without touching torch:

    pip install --no-deps stable-baselines3
    pip install cloudpickle pandas minigrid minatar "gymnasium[box2d,mujoco]"
"""

from __future__ import annotations

import argparse
import sys
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.bench.anything.cells import SIDES, CellFailedError, Side, path_of, read_cells, run_cell
from tests.bench.anything.pictures import draw
from tests.bench.anything.rows import ROW_BY_NAME, ROWS, Row
from tests.bench.anything.tables import number, tables

_say = threading.Lock()


def cells_wanted(rows: Sequence[Row], sides: Sequence[Side], seeds: Sequence[int]) -> list[tuple[Row, Side, int]]:
    """All cells, the cheapest rows first, a row's sides one after the other, so that they meet the same machine."""
    cheapest = sorted(rows, key=lambda row: row.steps * (20 if row.peer == "SAC" else 1) * (5 if row.atari else 1))
    return [(row, side, seed) for row in cheapest for seed in seeds[: row.seeds] for side in sides]


def run_all(wanted: Sequence[tuple[Row, Side, int]], out: Path, jobs: int) -> list[str]:
    """Runs the cells that are missing, so many at a time; returns a line for each that failed."""

    def run(cell: tuple[Row, Side, int]) -> str | None:
        row, side, seed = cell
        known = path_of(out, row.name, side, seed).exists()
        try:
            result = run_cell(row, side, seed, out)
        except CellFailedError as error:
            return f"{row.name}, {side}, seed {seed}: {error}"
        if not known:
            cost = f"{result.wall_s / 60:.1f} minutes, {result.cpu_s / 60:.1f} of CPU"
            with _say:
                print(
                    f"{row.name}, {side}, seed {seed}: {number(result.mean)} by {result.algorithm}; {cost}", flush=True
                )
        return None

    with ThreadPoolExecutor(jobs) as pool:
        return [line for line in pool.map(run, wanted) if line is not None]


def write_report(rows: Sequence[Row], out: Path, failures: Sequence[str] = ()) -> str:
    """Writes tables.md and anything.png of all cells in the folder; returns the text."""
    cells = read_cells(out, [row.name for row in rows])
    text = tables(rows, cells)
    if failures:
        text += "\nFailed:\n\n" + "".join(f"- {line}\n" for line in failures)
    (out / "tables.md").write_text(text + "\n![curves](anything.png)\n")
    draw(rows, cells, out / "anything.png")
    return text


def main() -> int:
    """Runs what was asked for; returns 1 if a cell failed."""
    parser = argparse.ArgumentParser(
        "python -m tests.bench.anything",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--rows", nargs="*", choices=ROW_BY_NAME, default=list(ROW_BY_NAME))
    parser.add_argument("--seeds", type=int, nargs="*", default=[0, 1, 2], help="Atari takes the first alone")
    parser.add_argument("--sides", nargs="*", choices=SIDES, default=list(SIDES))
    parser.add_argument("--out", type=Path, default=Path("build/anything"))
    parser.add_argument("--jobs", type=int, default=2, help="cells at a time (default: %(default)d)")
    arguments = parser.parse_args()
    out = arguments.out.absolute()
    out.mkdir(parents=True, exist_ok=True)
    wanted = cells_wanted([ROW_BY_NAME[name] for name in arguments.rows], arguments.sides, arguments.seeds)
    failures = run_all(wanted, out, arguments.jobs)
    print(write_report(ROWS, out, failures))
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
