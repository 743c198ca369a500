"""When an evaluation has what it wants, and when it waits no longer."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from seedbed.common.errors import BrokenError, MissingExtraError, UsageError
from seedbed.common.options import override
from seedbed.common.specs import ArraySpec, EnvironmentSpec, discrete
from seedbed.common.timestep import EpisodeEnd
from seedbed.server.training import local_clients
from seedbed.server.training.local_clients import check_video
from seedbed.server.training.resolve import defaults_of
from seedbed.server.training.stop_signal import StopSignal
from seedbed.server.verbs.episode_collection import EpisodeCollection
from seedbed.server.verbs.eval_options import EvalConfig
from seedbed.server.verbs.evaluate import Patience, _evaluation_config, _without_episodes, acts_greedily, main


def end(value: float) -> EpisodeEnd:
    return EpisodeEnd(0, value, 1, 1)


def test_each_environment_owes_as_many() -> None:
    collection = EpisodeCollection(2, 4)
    for index, value in ((0, 1.0), (0, 2.0), (0, 99.0), (1, 3.0)):
        collection.add(index, end(value))
    assert (collection.num_kept, collection.num_expected, collection.complete.is_set()) == (3, 4, False)
    collection.add(1, end(4.0))
    assert collection.complete.is_set()
    assert collection.returns == [1.0, 2.0, 3.0, 4.0]


def test_as_many_are_played_as_were_asked_for() -> None:
    collection = EpisodeCollection(3, 5)
    for _ in range(3):
        for index in range(3):
            collection.add(index, end(float(index)))
    assert (collection.num_expected, collection.complete.is_set()) == (5, True)
    assert collection.returns == [0.0, 0.0, 1.0, 1.0, 2.0], "which environment plays one more is settled before"


def test_episodes_that_never_end_are_given_up_and_others_waited_for() -> None:
    collection, inference = EpisodeCollection(2, 4), SimpleNamespace(num_steps=0)
    patience = Patience(100, collection, SimpleNamespace(inference=inference))  # type: ignore[arg-type]
    for inference.num_steps in (50, 100):
        assert not patience.is_over()
    collection.add(0, end(1.0))
    for inference.num_steps in (150, 240):
        assert not patience.is_over()
    collection.add(0, end(1.0))
    collection.add(0, end(99.0))
    assert not patience.is_over()
    inference.num_steps = 330
    collection.add(0, end(99.0))  # owes none: this is no progress
    assert not patience.is_over()
    inference.num_steps = 341
    assert patience.is_over()


def test_a_stop_before_the_first_episode_is_no_environment_that_breaks(capsys: pytest.CaptureFixture[str]) -> None:
    stop = StopSignal()
    assert isinstance(_without_episodes(5, 10, stop), BrokenError)
    stop.name = "SIGINT"
    assert isinstance(_without_episodes(5, 10, stop), KeyboardInterrupt)
    assert capsys.readouterr().err == "stopped before an episode had ended, after 10 agent steps\n"


@pytest.mark.parametrize("argv", [[], ["a", "--checkpoint", "b"]])
def test_one_run_is_scored(argv: list[str]) -> None:
    with pytest.raises(UsageError, match="expected one RUN to score"):
        main(argv)


class TestVideo:
    def test_the_environment_that_is_filmed_has_enough_episodes(self) -> None:
        def num_envs(**values: Any) -> tuple[int, int]:
            options = EvalConfig(video=Path("x.mp4"), **values)
            return options.num_envs, options.num_filmed

        assert num_envs() == (16, 3)
        assert num_envs(episodes=12, video_episodes=4) == (3, 4)
        assert num_envs(episodes=2) == (1, 2)
        assert EvalConfig(episodes=12).num_envs == 12

    def test_what_cannot_be_written_is_told_first(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        with pytest.raises(UsageError, match=r"ends with \.mp4 or \.gif, got x\.avi"):
            check_video(Path("x.avi"))
        with pytest.raises(UsageError, match="a folder that is there"):
            check_video(tmp_path / "nowhere" / "x.mp4")
        with pytest.raises(UsageError, match="in one way at a time"):
            EvalConfig(video=Path("x.mp4"), render="human")
        monkeypatch.setattr(local_clients, "find_spec", lambda name: None)
        with pytest.raises(MissingExtraError, match=r'the extra "video" .*\[video\].*: --video needs it'):
            check_video(tmp_path / "x.MP4")


@pytest.mark.parametrize(
    ("algorithm", "boxes", "greedy"),
    [("vtrace", False, False), ("ppo", True, True), ("r2d2", False, True), ("sac", True, True)],
)
def test_noise_around_continuous_actions_is_exploration_and_a_softmax_is_not(
    algorithm: str, boxes: bool, greedy: bool
) -> None:
    box = ArraySpec(name="action", dtype="float32", shape=(2,), low=(-1,), high=(1,))
    spec = EnvironmentSpec(
        environment="x",
        observations=(ArraySpec(name="o", dtype="float32", shape=(3,)),),
        actions=(box if boxes else discrete("action", 3),),
    )
    config = defaults_of(algorithm)
    assert acts_greedily(EvalConfig(), config, spec) is greedy
    assert acts_greedily(EvalConfig(greedy=not greedy), config, spec) is not greedy


@pytest.mark.parametrize("options", [EvalConfig(video=Path("x.mp4")), EvalConfig(render="human"), EvalConfig()])
def test_what_is_filmed_or_watched_is_stepped_by_itself(options: EvalConfig) -> None:
    config = override(defaults_of("vtrace"), {"environment.env": "CartPole-v1", "care.vector": "gymnasium"})
    expected = "gymnasium" if options == EvalConfig() else "none"
    assert _evaluation_config(config, options, 4).care.vector == expected


@pytest.mark.parametrize("share", [-0.1, 1.5])
def test_a_share_of_episodes_is_between_0_and_1(share: float) -> None:
    with pytest.raises(UsageError, match="expected --record-share between 0 and 1"):
        override(defaults_of("vtrace"), {"run.record_share": share})
