"""The comparison's counting, verdicts and tables, with data that says which side and seed it is of."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.bench.anything import __main__ as program
from tests.bench.anything import cells as cells_module
from tests.bench.anything.cells import Cell, CellFailedError, own_command, path_of, read_cells, run_cell, write_cell
from tests.bench.anything.curves import WINDOW, curve_of_episodes, steps_to, thinned
from tests.bench.anything.peer import minibatches_of
from tests.bench.anything.rows import ROW_BY_NAME, ROWS
from tests.bench.anything.tables import cost_row, number, return_row, tables
from tests.bench.anything.verdicts import Score, compare, score_of

CARTPOLE = ROW_BY_NAME["cartpole"]


def cell(side: Any = "seedbed", seed: int = 0, returns: tuple[float, ...] = (1.0, 3.0), **more: Any) -> Cell:
    values: dict[str, Any] = {
        "row": "cartpole",
        "side": side,
        "seed": seed,
        "algorithm": f"{side}-algorithm",
        "version": f"{side} 0",
        "agent_steps": 100_000,
        "minibatches": 11_000 + 1000 * seed,
        "wall_s": 60.0 * (seed + 1),
        "cpu_s": 120.0 * (seed + 1),
        "load": 2.0,
        "returns": returns,
        "steps_to_threshold": None,
        "curve": ((1000, 1.0), (2000, 2.0)),
    }
    return Cell(**(values | more))


def seeds_of(side: Any, means: tuple[float, ...]) -> list[Cell]:
    return [cell(side, seed, (mean - 1, mean + 1)) for seed, mean in enumerate(means)]


def test_there_are_the_rows_that_were_promised() -> None:
    assert len(ROWS) == len(ROW_BY_NAME) == 15
    assert sum(row.peer == "SAC" for row in ROWS) == 5
    assert {row.name: row.seeds for row in ROWS if row.atari} == {"pong": 1, "breakout": 1}


def test_seedbed_is_told_nothing_but_steps_seed_and_directory() -> None:
    for row in ROWS:
        command = own_command(row, 7, Path("there"))[1:]
        options = [word for word in command if word.startswith("--")]
        assert set(options) - {"--env-kwargs"} == {"--env", "--max-steps", "--seed", "--run-dir"}
        assert ("--env-kwargs" in options) == bool(row.kwargs)


def test_threshold_counts_the_last_hundred_episodes_that_ended() -> None:
    # Episode n ends after 10 n steps and returns n: the mean of the last 100 is n - 49.5.
    curve = curve_of_episodes((10 * n, float(n)) for n in range(1, 301))
    assert curve[0] == (10 * WINDOW, 50.5), "no point before the hundredth episode"
    assert len(curve) == 201
    assert steps_to(curve, 100.5) == 1500
    assert steps_to(curve, 100.51) == 1510
    assert steps_to(curve, 250.6) is None


def test_threshold_counts_a_fall_afterwards_for_nothing() -> None:
    assert steps_to(((10, 1.0), (20, 5.0), (30, 0.0)), 5) == 20


@pytest.mark.parametrize("length", [0, 1, 199, 200, 201, 1000])
def test_a_thinned_curve_keeps_its_end(length: int) -> None:
    curve = tuple((n, float(n)) for n in range(length))
    thin = thinned(curve)
    assert len(thin) <= 200
    assert set(thin) <= set(curve)
    assert list(thin) == sorted(thin)
    assert thin[-1:] == curve[-1:]


def test_score_is_the_mean_over_seeds_and_its_error_lies_between_them() -> None:
    score = score_of(seeds_of("seedbed", (10.0, 20.0, 30.0)))
    assert score.mean == 20
    assert score.error == pytest.approx(10 / 3**0.5)
    assert score.num_seeds == 3


def test_error_of_a_single_seed_lies_between_its_episodes() -> None:
    score = score_of([cell(returns=(0.0, 10.0))])
    assert (score.mean, score.num_seeds) == (5, 1)
    assert score.error == pytest.approx(5)


@pytest.mark.parametrize(
    ("own", "peer", "expected"),
    [
        ((10.0, 3.0), (15.0, 4.0), "level"),  # pooled 5: exactly so far below is not below by more
        ((9.9, 3.0), (15.0, 4.0), "below"),
        ((20.1, 3.0), (15.0, 4.0), "above"),
        ((20.0, 0.0), (20.0, 0.0), "level"),
        ((19.0, 0.0), (20.0, 0.0), "below"),
    ],
)
def test_verdict_weighs_the_difference_with_the_pooled_standard_error(
    own: tuple[float, float], peer: tuple[float, float], expected: str
) -> None:
    assert compare(Score(*own, 3), Score(*peer, 3)) == expected


def test_row_of_returns_shows_every_seed_of_both_sides() -> None:
    own, peer = seeds_of("seedbed", (400.0, 450.0, 500.0)), seeds_of("sb3", (100.0, 110.0, 120.0))
    line = return_row(CARTPOLE, own, peer)
    assert line == (
        "| CartPole-v1 | 100 | `seedbed-algorithm` 0: 400; 1: 450; 2: 500 | 450 ± 28.9 "
        "| `sb3-algorithm` 0: 100; 1: 110; 2: 120 | 110 ± 5.77 | above |"
    )
    assert return_row(CARTPOLE, peer, own).endswith("| **below** |")


def test_a_verdict_without_all_seeds_is_in_brackets() -> None:
    own, peer = seeds_of("seedbed", (400.0, 450.0)), seeds_of("sb3", (100.0, 110.0, 120.0))
    assert return_row(CARTPOLE, own, peer).endswith("| (above) |")
    assert return_row(CARTPOLE, own, []).endswith("| - | - | - |")
    pong = ROW_BY_NAME["pong"]
    assert return_row(pong, own[:1], peer[:1]).endswith("| above |"), "one seed is all that Atari has"


def test_row_of_costs_stands_side_by_side() -> None:
    own = [cell("seedbed", 0, steps_to_threshold=61_234), cell("seedbed", 1)]
    line = cost_row(CARTPOLE, own, [cell("sb3", 2)])
    assert (
        line == "| CartPole-v1 | 475 | 61, - | - | 1.0, 2.0 | 3.0 | 0.50 | 2.0, 4.0 | 6.0 | 0.50 | 11.0, 12.0 | 13.0 |"
    )
    assert "| 1.0 | - | - | 2.0 | - | - |" in cost_row(CARTPOLE, own[:1], [])


def test_tables_count_rows_by_what_they_are_worth() -> None:
    complete = [*seeds_of("seedbed", (4.0, 5.0, 6.0)), *seeds_of("sb3", (1.0, 2.0, 3.0))]
    partial = [replace(each, row="pendulum") for each in (cell("seedbed", 0, (0.0, 1.0)), cell("sb3", 0, (9.0, 9.5)))]
    alone = [replace(cell("sb3"), row="hopper")]
    text = tables(ROWS, [*complete, *partial, *alone])
    assert "1 of 1 rows with all seeds, 1 of 2 with any, of 15 in all" in text
    assert "Hopper-v5" in text
    assert "LunarLander" not in text


def test_numbers_keep_three_digits() -> None:
    assert [number(value) for value in (0.738, -1.2, 21.44, 474.6, -1234.5)] == [
        "0.74",
        "-1.20",
        "21.4",
        "475",
        "-1234",
    ]


def test_a_finished_cell_is_never_run_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[tuple[str, int]] = []

    def run(row: Any, seed: int, folder: Path) -> Cell:
        assert folder.is_dir()
        ran.append((folder.name, seed))
        return cell("sb3", seed, (float(seed), 100.0))

    monkeypatch.setattr(cells_module, "_run_peer", run)
    first = run_cell(CARTPOLE, "sb3", 5, tmp_path)
    assert run_cell(CARTPOLE, "sb3", 5, tmp_path) == first == cell("sb3", 5, (5.0, 100.0))
    run_cell(CARTPOLE, "sb3", 6, tmp_path)
    assert ran == [("sb3-5", 5), ("sb3-6", 6)]
    assert [each.seed for each in read_cells(tmp_path, ["pendulum", "cartpole"])] == [5, 6]


@pytest.mark.parametrize(("algorithm", "minibatches"), [("ppo", 640), ("sac", 21)])
def test_cell_of_seedbed_is_read_from_its_run(
    algorithm: str, minibatches: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commands: list[list[str]] = []

    def measured(command: list[str], log: Path) -> dict[str, float]:
        commands.append(command)
        run = tmp_path / "run"
        run.mkdir(exist_ok=True)
        line = {"agent_steps": 999, "updates": 21, "optimiser_steps": 640, "wall_s": 2.0}
        (run / "metrics.jsonl").write_text(json.dumps(line) + "\n")
        # Episode n ends after 9 n steps; what explores and counts for nothing returns far more.
        ended = [
            {"agent_steps": 9 * (n // 2), "wall_s": 1.0, "return": 900 if n % 2 else 475, "counts": n % 2 == 0}
            for n in range(240)
        ]
        (run / "episodes.jsonl").write_text("".join(json.dumps(each) + "\n" for each in ended))
        (tmp_path / "scores.json").write_text(json.dumps({"returns": [1.0, 500.0]}))
        return {"wall_s": 3.0 if "train" in command else 999.0, "cpu_s": 4.0, "load": 5.0}

    monkeypatch.setattr(cells_module, "_measured", measured)
    monkeypatch.setattr(cells_module, "read_run_file", lambda _: SimpleNamespace(config={"algorithm": algorithm}))
    result = cells_module._run_own(CARTPOLE, 4, tmp_path)
    assert [command[1] for command in commands] == ["train", "eval"]
    assert (result.seed, result.algorithm, result.minibatches) == (4, algorithm, minibatches)
    assert (result.wall_s, result.returns, result.steps_to_threshold) == (3.0, (1.0, 500.0), 9 * 99)
    assert result.curve[-1] == (9 * 119, 475)


def test_minibatches_of_the_peer_are_counted_alike() -> None:
    ppo = SimpleNamespace(_n_updates=30, n_epochs=10, n_steps=2048, n_envs=1, batch_size=60)
    assert minibatches_of(ppo) == 30 * 35, "the last minibatch of an epoch is smaller"
    assert minibatches_of(SimpleNamespace(_n_updates=30)) == 30


def test_an_interrupted_cell_starts_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    left = path_of(tmp_path, "cartpole", "sb3", 0).with_suffix("") / "episodes.json"
    left.parent.mkdir(parents=True)
    left.touch()

    def run(row: Any, seed: int, folder: Path) -> Cell:
        assert not list(folder.iterdir())
        return cell("sb3")

    monkeypatch.setattr(cells_module, "_run_peer", run)
    run_cell(CARTPOLE, "sb3", 0, tmp_path)


def test_costs_are_those_of_a_command_and_its_descendants(tmp_path: Path) -> None:
    burn = "import time\nwhile time.process_time() < 0.3: pass"
    parent = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {burn!r}], check=True)"
    cost = cells_module._measured([sys.executable, "-c", parent], tmp_path / "log")
    assert 0.3 < cost["cpu_s"] < 5
    assert cost["wall_s"] > 0.3


def test_a_failure_says_what_failed_and_leaves_no_cell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def run(row: Any, seed: int, folder: Path) -> Cell:
        cells_module._measured([sys.executable, "-c", "import sys; sys.exit('no torch today')"], tmp_path / "log")
        raise AssertionError("unreachable")

    monkeypatch.setattr(cells_module, "_run_own", run)
    with pytest.raises(CellFailedError, match="exit code 1: no torch today"):
        run_cell(CARTPOLE, "seedbed", 0, tmp_path)
    assert read_cells(tmp_path, ["cartpole"]) == []
    lines = program.run_all([(CARTPOLE, "seedbed", 0)], tmp_path, 1)
    assert len(lines) == 1
    assert lines[0].startswith("cartpole, seedbed, seed 0: ")


def test_both_sides_of_a_seed_follow_each_other_and_cheap_rows_come_first() -> None:
    wanted = program.cells_wanted(ROWS, cells_module.SIDES, [0, 1, 2])
    assert len(wanted) == len(set((row.name, side, seed) for row, side, seed in wanted)) == 2 * (13 * 3 + 2)
    assert [(side, seed) for _, side, seed in wanted[:3]] == [("seedbed", 0), ("sb3", 0), ("seedbed", 1)]
    assert wanted[0][0].steps == 100_000
    assert wanted[-1][0].name == "lunarlander-continuous"


def test_report_holds_cells_of_other_calls(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    for each in (cell("seedbed", 3, (77.0, 79.0)), cell("sb3", 3, (11.0, 12.0), curve=())):
        path = path_of(tmp_path, each.row, each.side, each.seed)
        path.parent.mkdir(exist_ok=True)
        write_cell(path, each)
        assert json.loads(path.read_text())["seed"] == 3
    text = program.write_report(ROWS, tmp_path, ["pong, sb3, seed 0: no"])
    assert "3: 78.0" in text
    assert "- pong, sb3, seed 0: no" in text
    assert (tmp_path / "tables.md").read_text().startswith(text)
    assert (tmp_path / "anything.png").stat().st_size > 1000
