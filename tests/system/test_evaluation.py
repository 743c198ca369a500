"""`seedbed eval` and `seedbed plot` on a run that training has left."""

from __future__ import annotations

import json
import signal
import statistics
from pathlib import Path

import pytest

from tests.system.processes import Program, run

pytestmark = pytest.mark.system


def test_eval_plays_exactly_the_episodes_it_promises(finished_run: Path, tmp_path: Path) -> None:
    file = tmp_path / "scores.json"
    done = run("eval", finished_run, "--episodes", 10, "--eval-envs", 4, "--json", file)
    done.assert_well()
    scores = json.loads(file.read_text())
    assert scores["episodes"] == len(scores["returns"]) == 10, "shared among four environments"
    assert scores["mean"] == pytest.approx(statistics.fmean(scores["returns"]))
    assert scores["median"] == pytest.approx(statistics.median(scores["returns"]))
    error = statistics.stdev(scores["returns"]) / 10**0.5
    assert scores["standard_error"] == pytest.approx(error)
    assert scores["environment"] == "CartPole-v1"
    assert scores["policy"] == "sampled"
    assert 3000 <= scores["agent_steps"] == scores["frames"]
    assert all(1 <= value <= 500 and value == int(value) for value in scores["returns"])
    assert len(set(scores["returns"])) > 1, "all episodes were the same one"
    assert "10 episodes" in done.stdout


def test_eval_makes_a_video_of_the_first_episodes(finished_run: Path, tmp_path: Path) -> None:
    av = pytest.importorskip("av", reason="PyAV, the extra `video`, is not installed")
    film = tmp_path / "cartpole.gif"
    options = ("--episodes", 4, "--eval-envs", 4, "--video", film, "--video-episodes", 2, "--json", "-")
    done = run("eval", finished_run, *options)
    done.assert_well()
    scores = json.loads(done.stdout)
    assert scores["video"] == str(film)
    assert scores["video_returns"] == scores["returns"][:2]
    with av.open(str(film)) as container:
        num_pictures = sum(1 for _ in container.decode(video=0))
    assert num_pictures >= sum(scores["video_returns"]) + 2, "a first picture and one for each step"


@pytest.mark.slow
def test_eval_prints_json_and_nothing_else(finished_run: Path) -> None:
    newest = max((finished_run / "checkpoints").iterdir())
    options = ("--episodes", 4, "--eval-envs", 2, "--greedy", "--json", "-")
    done = run("eval", "--checkpoint", newest, *options)
    done.assert_well()
    assert json.loads(done.stdout)["policy"] == "greedy"


@pytest.mark.slow
def test_an_interrupted_eval_says_what_it_has(finished_run: Path) -> None:
    with Program("eval", finished_run, "--episodes", 10**6, "--eval-envs", 4, "--json", "-") as program:
        program.eventually(lambda: "of 1,000,000 episodes" in program.stderr, "a word about how far it is")
        program.send(signal.SIGINT)
        assert program.wait() == 130
        partial = json.loads(program.stdout)
        assert partial["episodes"] == len(partial["returns"]) > 0
        assert partial["episodes"] + partial["episodes_missing"] == 10**6


def test_plot_draws_a_picture(finished_run: Path, tmp_path: Path) -> None:
    picture = tmp_path / "curve.png"
    run("plot", finished_run, "--out", picture).assert_well()
    data = picture.read_bytes()
    assert data.startswith(b"\x89PNG\r\n")
    assert len(data) > 5000
