"""A cell of the comparison: one row, one side, one seed; trained, evaluated and measured by processes of its own.

Both sides are measured alike: wall-clock and CPU seconds of the training command from its start to its end, with
those of all its descendants; then 100 greedy episodes, which count for neither.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from seedbed.server.monitoring.episodes import read_episodes
from seedbed.server.monitoring.metrics import read_metrics
from seedbed.server.run import directory
from seedbed.server.run.directory import CONFIG_FILE, read_run_file
from tests.bench.anything.curves import Curve, curve_of_episodes, steps_to, thinned
from tests.bench.anything.peer import EPISODES_FILE, FACTS_FILE, RETURNS_FILE
from tests.bench.anything.rows import Row

Side = Literal["seedbed", "sb3"]
SIDES: tuple[Side, ...] = get_args(Side)
EPISODES = 100
SEEDBED = str(Path(sys.executable).with_name("seedbed"))
_ROOT = Path(__file__).parents[3]
_EVALUATION_LIMIT_S = 3600.0
_SEVERAL_OPTIMISERS = ("sac", "td3")
"""Algorithms that make several optimiser steps of one minibatch; an update is a minibatch then."""

_ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}


@dataclass(frozen=True, slots=True)
class Cell:
    """What one training was worth, and what it cost.

    Attributes:
        row, side, seed: of it.
        algorithm: that was chosen.
        version: of what was run.
        agent_steps: that it made.
        minibatches: from which a gradient of the policy was taken.
        wall_s, cpu_s: of the training command.
        load: mean number of processes that wanted a core of this machine during its last minutes.
        returns: of the greedy episodes.
        steps_to_threshold: None where it was not reached.
        curve: (agent steps, mean return of the last 100 episodes that ended).
    """

    row: str
    side: Side
    seed: int
    algorithm: str
    version: str
    agent_steps: int
    minibatches: int
    wall_s: float
    cpu_s: float
    load: float
    returns: tuple[float, ...]
    steps_to_threshold: int | None
    curve: Curve

    @property
    def mean(self) -> float:
        """Mean return of the greedy episodes."""
        return sum(self.returns) / len(self.returns)


class CellFailedError(Exception):
    """A training or evaluation ended with an error; its log says which."""


def path_of(out: Path, row: str, side: str, seed: int) -> Path:
    """The cell's file; beside it lie a folder and a log of the same name."""
    return out / row / f"{side}-{seed}.json"


def write_cell(path: Path, cell: Cell) -> None:
    """All at once: a file that exists is complete."""
    draft = path.with_suffix(".tmp")
    draft.write_text(json.dumps(asdict(cell)) + "\n")
    draft.replace(path)


def read_cell(path: Path) -> Cell:
    """The inverse."""
    values = json.loads(path.read_text())
    values["returns"] = tuple(values["returns"])
    values["curve"] = tuple((steps, value) for steps, value in values["curve"])
    return Cell(**values)


def read_cells(out: Path, rows: Sequence[str]) -> list[Cell]:
    """All finished cells of these rows, by row, side and seed."""
    cells = [read_cell(path) for row in rows for path in (out / row).glob("*.json")]
    return sorted(cells, key=lambda cell: (rows.index(cell.row), cell.side, cell.seed))


def run_cell(row: Row, side: Side, seed: int, out: Path) -> Cell:
    """The cell, run now unless its file lies there. One that was interrupted starts anew: half a cost is none.

    Raises:
        CellFailedError: its training or evaluation did.
    """
    path = path_of(out, row.name, side, seed)
    if path.exists():
        return read_cell(path)
    folder = path.with_suffix("")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    cell = (_run_own if side == "seedbed" else _run_peer)(row, seed, folder)
    write_cell(path, cell)
    return cell


def own_command(row: Row, seed: int, run: Path) -> list[str]:
    """`seedbed train` with no option but the environment's, steps, seed and directory."""
    command = [SEEDBED, "train", "--env", row.env]
    if row.kwargs:
        command += ["--env-kwargs", json.dumps(row.kwargs)]
    return [*command, "--max-steps", str(row.steps), "--seed", str(seed), "--run-dir", str(run)]


def _run_own(row: Row, seed: int, folder: Path) -> Cell:
    run, scores = folder / "run", folder / "scores.json"
    log = folder.with_suffix(".log")
    version = revision()
    cost = _measured(own_command(row, seed, run), log)
    evaluation = [SEEDBED, "eval", str(run), "--greedy", "--episodes", str(EPISODES), "--eval-envs", "20"]
    _measured([*evaluation, "--json", str(scores), *(["--allow-import"] if ":" in row.env else [])], log)
    metrics = read_metrics(run)
    curve = curve_of_episodes((each["agent_steps"], each["return"]) for each in read_episodes(run) if each["counts"])
    algorithm = read_run_file(run / CONFIG_FILE).config["algorithm"]
    return Cell(
        row=row.name,
        side="seedbed",
        seed=seed,
        algorithm=algorithm,
        version=version,
        agent_steps=metrics[-1]["agent_steps"],
        minibatches=metrics[-1]["updates" if algorithm in _SEVERAL_OPTIMISERS else "optimiser_steps"],
        returns=tuple(json.loads(scores.read_text())["returns"]),
        steps_to_threshold=steps_to(curve, row.threshold),
        curve=thinned(curve),
        **cost,
    )


def _run_peer(row: Row, seed: int, folder: Path) -> Cell:
    log = folder.with_suffix(".log")
    program = [sys.executable, "-m", "tests.bench.anything.peer"]
    options = [row.name, "--seed", str(seed), "--folder", str(folder)]
    cost = _measured([*program, "train", *options], log)
    _measured([*program, "eval", *options, "--episodes", str(EPISODES)], log)
    curve = curve_of_episodes(json.loads((folder / EPISODES_FILE).read_text()))
    return Cell(
        row=row.name,
        side="sb3",
        seed=seed,
        returns=tuple(json.loads((folder / RETURNS_FILE).read_text())),
        steps_to_threshold=steps_to(curve, row.threshold),
        curve=thinned(curve),
        **json.loads((folder / FACTS_FILE).read_text()),
        **cost,
    )


def _measured(command: Sequence[str], log: Path) -> dict[str, Any]:
    """Runs a command to its end; its wall-clock and CPU seconds, those of its descendants included.

    Raises:
        CellFailedError: it ended with an error.
    """
    start_s = time.monotonic()
    with log.open("a") as stream:
        process = subprocess.Popen(
            command, stdout=stream, stderr=subprocess.STDOUT, cwd=_ROOT, env={**os.environ, **_ONE_THREAD}
        )
        try:
            _, status, usage = os.wait4(process.pid, 0)
        except BaseException:
            process.terminate()
            process.wait()
            raise
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        lines = log.read_text(errors="replace").splitlines() or [""]
        raise CellFailedError(f"{' '.join(command)}: exit code {process.returncode}: {lines[-1]}; see {log}")
    return {
        "wall_s": time.monotonic() - start_s,
        "cpu_s": usage.ru_utime + usage.ru_stime,
        "load": os.getloadavg()[2],
    }


def revision() -> str:
    """The state of the sources: defaults change with it."""
    command = ["git", "-C", str(Path(directory.__file__).parent), "describe", "--always", "--dirty"]
    answer = subprocess.run(command, capture_output=True, text=True)
    return f"seedbed {answer.stdout.strip() or 'unknown'}"
