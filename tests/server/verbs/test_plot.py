"""Learning curves."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from seedbed.common.errors import ConfigError, MissingExtraError, UsageError
from seedbed.server.run.directory import METRICS_FILE
from seedbed.server.verbs import plot
from seedbed.server.verbs.curves import Curve, dots_of, read_curve, smoothed, tasks_of
from seedbed.server.verbs.plot import PlotOptions, average, draw, main

pytest.importorskip("matplotlib")


def make_run(run_dir: Path, *, level: float, points: int = 50, silent: int = 2) -> Path:
    """A run whose return rises to `level`; the first lines know no episode."""
    run_dir.mkdir(parents=True)
    with (run_dir / METRICS_FILE).open("w") as file:
        for number in range(points):
            value = None if number < silent else level * (1 - math.exp(-number / 10))
            line = {"agent_steps": 1000 * number, "wall_s": 30.0 * number, "episode_return_mean": value}
            file.write(json.dumps(line) + "\n")
    return run_dir


def curve(label: str, xs: list[float], ys: list[float]) -> Curve:
    return Curve(label, np.array(xs), np.array(xs) / 60, np.array(ys))


def test_a_curve_starts_with_the_first_episode(tmp_path: Path) -> None:
    found = read_curve(make_run(tmp_path / "pong" / "seed-3", level=20.0, points=4), "parent", 1)
    assert found.label == "pong"
    assert found.agent_steps.tolist() == [2000, 3000]
    assert found.minutes.tolist() == [1.0, 1.5]
    assert found.returns[0] == pytest.approx(20 * (1 - math.exp(-0.2)))
    assert read_curve(tmp_path / "pong" / "seed-3", "run", 1).label == "seed-3"


def test_a_curve_of_cohorts_starts_with_the_first_one(tmp_path: Path) -> None:
    lines = [
        {"agent_steps": x, "wall_s": x, "episode_return_mean": 9.0, "cohort_return_mean": x or None} for x in (0, 60)
    ]
    (tmp_path / METRICS_FILE).write_text("".join(json.dumps(line) + "\n" for line in lines))
    found = read_curve(tmp_path, "run", 1, "cohorts")
    assert (found.agent_steps.tolist(), found.returns.tolist()) == ([60], [60.0])
    [axes] = draw([found], PlotOptions(x="steps", returns="cohorts")).axes
    assert axes.get_ylabel() == "episode return, mean of a cohort"


def test_smoothing_looks_back_only() -> None:
    values = np.array([1.0, 3.0, 5.0, 100.0])
    assert smoothed(values, 1).tolist() == values.tolist()
    assert smoothed(values, 3).tolist() == [1.0, 2.0, 3.0, 36.0]
    assert smoothed(values, 99).tolist() == [1.0, 2.0, 3.0, 27.25]


def test_average_covers_what_all_have() -> None:
    xs = [np.array([0.0, 10.0]), np.array([2.0, 4.0, 20.0])]
    ys = [np.array([0.0, 10.0]), np.array([4.0, 6.0, 22.0])]  # y = x, y = x + 2
    grid, mean, low, high = average(xs, ys)
    assert (grid[0], grid[-1]) == (2.0, 10.0)
    np.testing.assert_allclose(low, grid)
    np.testing.assert_allclose(mean, grid + 1)
    np.testing.assert_allclose(high, grid + 2)
    assert len(average([np.array([0.0, 1.0]), np.array([2.0, 3.0])], ys=[np.zeros(2), np.zeros(2)])[0]) == 0


def test_what_is_drawn() -> None:
    curves = [
        curve("fast", [0, 600, 1200], [0, 1, 2]),
        curve("slow", [0, 600], [0, 0.5]),
        curve("fast", [0, 600, 1200], [2, 3, 4]),
    ]
    figure = draw(curves, PlotOptions(title="Pong"))
    steps, time = figure.axes
    assert (steps.get_xlabel(), time.get_xlabel()) == ("agent steps", "minutes")
    assert steps.get_ylabel() == "episode return, mean of the last 100"
    assert [len(axes.lines) for axes in figure.axes] == [4, 4]  # two thin, their mean, one alone
    assert [len(axes.collections) for axes in figure.axes] == [1, 1]
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert labels == ["fast, mean of 2", "slow"]
    mean = np.asarray(steps.lines[2].get_xydata())
    assert mean[[0, -1]].tolist() == [[0.0, 1.0], [1200.0, 3.0]]
    assert np.ptp(time.lines[2].get_xdata()) == 20.0
    assert figure.get_suptitle() == "Pong"
    assert len(draw(curves, PlotOptions(x="time")).axes) == 1


@pytest.mark.parametrize("count", [1, 5, 12])
def test_every_name_is_within_the_picture(count: int) -> None:
    names = [f"algorithm-{number}-without-a-memory" for number in range(count)]
    figure = draw([curve(name, [0, 600], [0, 1]) for name in names], PlotOptions(x="steps"))
    figure.draw_without_rendering()
    (legend,) = figure.legends
    assert len(legend.get_texts()) == count
    whole, plot, shown = figure.bbox, figure.axes[0].get_window_extent(), legend.get_window_extent()
    assert 0 <= shown.x0 < shown.x1 <= whole.width
    assert 0 <= shown.y0 < shown.y1 < plot.y0
    assert plot.height > 0.5 * 4.2 * figure.dpi


def test_the_command_writes_a_png(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runs = [str(make_run(tmp_path / "pong" / f"seed-{seed}", level=20.0 + seed)) for seed in range(2)]
    out = tmp_path / "figures" / "pong.png"
    assert main([*runs, "--group", "parent", "--smooth", "3", "--x", "both", "--title", "Pong", "--out", str(out)]) == 0
    data = out.read_bytes()
    assert data.startswith(b"\x89PNG\r\n")
    assert int.from_bytes(data[16:20], "big") > 1500
    assert capsys.readouterr().out == f"{out}\n"


def test_runs_with_nothing_to_draw(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"expected the folder of a run with metrics\.jsonl"):
        main([str(tmp_path)])
    with pytest.raises(ConfigError, match="at least one finished episode"):
        main([str(make_run(tmp_path / "run", level=1.0, points=2))])
    with pytest.raises(ConfigError, match=r"config\.json"):
        main([str(make_run(tmp_path / "other", level=1.0)), "--group", "env"])
    with pytest.raises(UsageError, match="the following arguments are required: RUN"):
        main([])


def test_missing_matplotlib(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = make_run(tmp_path / "run", level=1.0)
    for name in [name for name in sys.modules if name.partition(".")[0] == "matplotlib"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "path", [])
    monkeypatch.setattr(sys, "path_importer_cache", {})
    with pytest.raises(MissingExtraError, match=r'the extra "plot" .*matplotlib is missing'):
        main([str(run), "--out", str(tmp_path / "x.png")])


def test_the_best_checkpoint_and_single_episodes_are_marked(tmp_path: Path) -> None:
    run = make_run(tmp_path / "pong", level=20.0)
    (run / "checkpoints" / "checkpoint-000000030000").mkdir(parents=True)
    (run / "checkpoints" / "best.json").write_text('{"checkpoint": "checkpoint-000000030000", "mean_return": 17.5}')
    lines = [
        {"agent_steps": 1000 * number, "wall_s": 60.0 * number, "return": float(number), "counts": number != 2}
        for number in range(4)
    ]
    (run / "episodes.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    found = read_curve(run, "run", 1)
    assert found.best == (30000.0, 15.0, 17.5)
    assert main([str(run), "--dots", "--out", str(tmp_path / "curve.png")]) == 0
    assert dots_of(run).tolist() == [[0, 1000, 3000], [0, 1, 3], [0, 1, 3]]
    [axes] = draw([found], PlotOptions(x="steps")).axes
    [star] = [line for line in axes.lines if line.get_marker() == "*"]
    assert (np.asarray(star.get_xdata()).tolist(), np.asarray(star.get_ydata()).tolist()) == ([30000.0], [17.5])


def test_means_of_cohorts_are_drawn_where_they_are_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = [
        {"agent_steps": x, "wall_s": x, "episode_return_mean": 9.0, "cohort_return_mean": 70.0 + x} for x in (0, 60)
    ]
    (tmp_path / METRICS_FILE).write_text("".join(json.dumps(line) + "\n" for line in lines))
    drawn: list[Curve] = []

    def noting(curves: Sequence[Curve], options: PlotOptions) -> Any:
        drawn.extend(curves)
        return draw(curves, options)

    monkeypatch.setattr(plot, "draw", noting)
    main([str(tmp_path), "--returns", "cohorts", "--out", str(tmp_path / "curve.png")])
    assert [curve.returns.tolist() for curve in drawn] == [[70.0, 130.0]]


def test_a_seed_with_nothing_to_draw_is_left_out_with_a_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for seed in range(3):
        make_run(tmp_path / "pong" / f"seed-{seed}", level=20.0, silent=99 if seed == 1 else 2)
    assert main([str(tmp_path / "pong")]) == 0
    said = capsys.readouterr()
    assert said.out.strip() == str(tmp_path / "pong" / "learning_curve.png")
    assert said.err.startswith(f"left out {tmp_path / 'pong' / 'seed-1'}: expected at least one finished episode")
    assert len(said.err.splitlines()) == 1
    make_run(tmp_path / "none" / "seed-0", level=1.0, silent=99)
    make_run(tmp_path / "none" / "seed-1", level=1.0, silent=99)
    with pytest.raises(ConfigError, match="expected a run with something to draw, got 2 runs without"):
        main([str(tmp_path / "none")])


def test_the_picture_of_last_time_among_the_runs_is_left_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("a", "b"):
        make_run(tmp_path / name, level=1.0, points=4)
    for _ in range(2):
        assert main([*map(str, sorted(tmp_path.iterdir())), "--x", "steps"]) == 0
    said = capsys.readouterr()
    assert said.err == f"left out {tmp_path / 'learning_curve.png'}: a file, no folder of a run\n"
    with pytest.raises(ConfigError, match="folder of a run"):
        main([str(tmp_path / "learning_curve.png")])


def test_tasks_get_a_curve_each(tmp_path: Path) -> None:
    run_dir = make_run(tmp_path / "both", level=0.0)
    with (run_dir / METRICS_FILE).open("a") as file:
        for x in (60_000, 61_000):
            own = {"task/a/return_mean": x / 1000, "task/b/return_mean": None, "task/b/human_normalised": 0.5}
            file.write(json.dumps({"agent_steps": x, "wall_s": x, "episode_return_mean": 1.0, **own}) + "\n")
    assert tasks_of(run_dir, "all") == ["a", "b"]
    assert tasks_of(run_dir, None) == [None]
    found = read_curve(run_dir, "run", 1, "episodes", "a")
    assert (found.label, found.returns.tolist()) == ("both a", [60.0, 61.0])
    assert read_curve(run_dir, "run", 1, "scores", "b").returns.tolist() == [0.5, 0.5]
    with pytest.raises(ConfigError, match="expected tasks out of a, b, got c"):
        tasks_of(run_dir, "a,c")
    with pytest.raises(ConfigError, match="expected a run of several tasks"):
        tasks_of(make_run(tmp_path / "one", level=1.0), "all")
    main([str(run_dir), "--task", "a", "--x", "steps"])
    assert (run_dir / "learning_curve.png").exists()


def test_a_task_of_which_no_episode_has_ended_is_left_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = "Catch,mirrored=1", "Catch,reward_scale=100", "slow"
    own = {f"task/{name}/return_mean": None if name == "slow" else 1.0 for name in names}
    line = {"agent_steps": 1, "wall_s": 1.0, "episode_return_mean": 1.0, **own}
    (tmp_path / METRICS_FILE).write_text(json.dumps(line) + "\n")
    assert tasks_of(tmp_path, "slow,Catch,reward_scale=100,Catch,mirrored=1") == [names[2], names[1], names[0]]
    assert main([str(tmp_path), "--task", "all", "--x", "steps"]) == 0
    assert capsys.readouterr().err.startswith(f"left out slow of {tmp_path}: expected at least one finished episode")
    with pytest.raises(ConfigError, match="finished episode of slow"):
        main([str(tmp_path), "--task", "slow"])
