"""Data sets from real processes: a training's, an evaluation's, and what can be learnt from them."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

import seedbed
from seedbed.common.errors import MissingExtraError, UsageError
from seedbed.common.specs import ArraySpec, EnvironmentSpec, discrete
from seedbed.server.shared.slots import SlotTable
from seedbed.server.training.recorded_data import Recording
from seedbed.server.verbs import record
from tests.examples.test_examples import load_example

pytestmark = [pytest.mark.system, pytest.mark.timeout(600)]

minari = pytest.importorskip("minari", reason="the extra data is not installed")
pytest.importorskip("h5py", reason="the extra data is not installed")


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "minari"))
    return tmp_path


@pytest.mark.slow
def test_a_training_and_an_evaluation(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Catch: every episode has nine steps, and is paid with its last one alone."""
    run = place / "catch"
    result = seedbed.train(preset="catch", run_dir=run, num_envs=8, num_clients=1, max_steps=1500, record_share=0.5)
    dataset = minari.load_dataset("seedbed/catch-v0")
    told = list(seedbed.read_episodes(run))
    assert 0.3 * len(told) < len(dataset) < 0.7 * len(told)
    assert result.metrics["episodes_recorded"] <= len(dataset)
    for episode in dataset:
        assert len(episode.rewards) == 9
        assert abs(episode.rewards[-1]) == 1
        assert not episode.rewards[:-1].any()
        assert episode.terminations[-1]
        paddle = episode.observations[:-1, -1].argmax(-1)  # in the last one the ball has come down to it
        assert (np.abs(np.diff(paddle)) <= 1).all(), "rows of one episode, in order"
        moved = np.diff(paddle)  # at the walls it cannot
        assert all(step in (0, action - 1) for step, action in zip(moved, episode.actions, strict=False))
    before = len(dataset)
    seedbed.train(run_dir=run, max_steps=2500)
    assert len(minari.load_dataset("seedbed/catch-v0")) > before

    assert record.main([str(run), "--dataset", "mine/catch-v1", "--episodes", "21", "--eval-envs", "4"]) == 0
    output = capsys.readouterr().out
    assert "recorded 21 episodes, 189 steps, in mine/catch-v1" in output
    returns = [episode.rewards.sum() for episode in minari.load_dataset("mine/catch-v1")]
    assert f"mean {np.mean(returns):.2f}" in output
    with pytest.raises(UsageError, match="mine/catch-v1 is there already"):
        record.main([str(run), "--dataset", "mine/catch-v1"])


@pytest.mark.slow
def test_behaviour_is_cloned_to_the_policy_s_score(place: Path) -> None:
    run = place / "cartpole"
    seedbed.train(preset="cartpole", run_dir=run, max_steps=150_000)
    ours = seedbed.evaluate(run, episodes=50, greedy=True, best=True)["mean"]
    words = [str(run), "--dataset", "mine/cartpole-v0", "--episodes", "60", "--greedy", "--best"]
    assert record.main(words) == 0
    example = load_example("behaviour_cloning")
    dataset = minari.load_dataset("mine/cartpole-v0")
    clone = example.clone(dataset, updates=2000)
    cloned = float(np.mean(example.score(clone, dataset.recover_environment(), episodes=50)))
    assert ours > 150, "a policy that has learnt nothing proves nothing"
    assert cloned > 0.9 * ours


def test_without_minari_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "minari", None)
    monkeypatch.delitem(sys.modules, "seedbed.server.recording.minari_writer", raising=False)
    spec = EnvironmentSpec(
        environment="x", observations=(ArraySpec(name="observation", dtype="int32"),), actions=(discrete("action", 2),)
    )
    with pytest.raises(MissingExtraError, match='the extra "data"'):
        Recording(SlotTable(spec, 1), "a/b-v0", algorithm="x", description="x")
