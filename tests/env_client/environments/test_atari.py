"""Frames, rewards and ends must be those of Gymnasium's own stack; lost lives and caps follow the presets."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from typing import Any

import numpy as np
import pytest

gymnasium = pytest.importorskip("gymnasium")
ale_py = pytest.importorskip("ale_py")

from gymnasium.wrappers import AtariPreprocessing  # noqa: E402

from seedbed.common.errors import SpecError  # noqa: E402
from seedbed.env_client.environments.atari import AtariEnvironment  # noqa: E402
from seedbed.env_client.environments.atari_presets import PRESETS, AtariPreset  # noqa: E402
from seedbed.env_client.environments.interface import Status  # noqa: E402

GAMES = ["Pong", "Breakout", "Seaquest", "SpaceInvaders"]
FAST = {("Pong", "modern"), ("Breakout", "paper"), ("SpaceInvaders", "paper")}


def test_a_game_is_played_without_gymnasium_which_can_still_be_loaded() -> None:
    """It costs a client a third of the time that ale-py needs to load."""
    program = (
        "import sys\n"
        "from seedbed.env_client.environments.atari import AtariEnvironment\n"
        "AtariEnvironment('ALE/Pong-v5', 'paper', 0)\n"
        "assert 'gymnasium' not in sys.modules\n"
        "import gymnasium\n"
        "gymnasium.make('CartPole-v1')\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


def gymnasium_atari(environment_id: str, preset: AtariPreset) -> Any:
    """The same protocol made of Gymnasium's parts. Lost lives are left out: they are not ends there."""
    environment = gymnasium.make(
        environment_id,
        frameskip=1,
        repeat_action_probability=preset.repeat_action_probability,
        full_action_space=preset.full_action_space,
        max_num_frames_per_episode=preset.max_frames,
        disable_env_checker=True,
    )
    return AtariPreprocessing(environment, noop_max=preset.max_noops, frame_skip=4, screen_size=84)


def act(environment: AtariEnvironment, action: int, frame: Any) -> tuple[float, Status]:
    return environment.step((np.int64(action),), (frame,))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("game", "preset"),
    [
        pytest.param(game, preset, marks=() if (game, preset) in FAST else pytest.mark.slow)
        for game in GAMES
        for preset in PRESETS
    ],
)
def test_frames_rewards_and_ends_equal_gymnasium(game: str, preset: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # A low cap makes several episodes fit: most end by it, some by the game.
    short = dataclasses.replace(PRESETS[preset], max_frames=1_000)
    monkeypatch.setitem(PRESETS, preset, short)
    environment_id, seed = f"ALE/{game}-v5", 1234
    ours, theirs = AtariEnvironment(environment_id, preset, seed), gymnasium_atari(environment_id, short)
    frame = np.zeros((84, 84), np.uint8)
    ours.reset((frame,))
    expected, _ = theirs.reset(seed=seed)
    np.testing.assert_array_equal(frame, expected)
    actions = np.random.default_rng(0).integers(ours.spec.num_actions, size=600)
    assert ours.spec.num_actions == theirs.action_space.n
    num_ends = 0
    for step, action in enumerate(actions):
        reward, status = act(ours, action, frame)
        expected, expected_reward, terminated, truncated, info = theirs.step(action)
        assert reward == expected_reward, step
        assert (status is Status.TERMINATED, status is Status.TRUNCATED) == (terminated, truncated and not terminated)
        assert ours.frames == info["episode_frame_number"]
        if terminated or truncated:  # Gymnasium's frame is stale there
            num_ends += 1
            expected, _ = theirs.reset()
            ours.reset((frame,))
        elif status is Status.LIFE_LOST:
            ours.reset((frame,))
        np.testing.assert_array_equal(frame, expected, err_msg=f"step {step}")
    assert num_ends >= 2
    theirs.close()


def test_frame_is_written_into_the_given_row() -> None:
    environment = AtariEnvironment("ALE/Pong-v5", "modern", 0)
    rows = np.full((3, 84, 84), 7, np.uint8)
    environment.reset((rows[1],))
    assert len(np.unique(rows[1])) > 2
    assert (rows[[0, 2]] == 7).all()
    before = rows[1].copy()
    for _ in range(30):
        act(environment, 2, rows[1])
    assert (rows[1] != before).any()
    assert (rows[[0, 2]] == 7).all()


def play_until(environment: AtariEnvironment, wanted: Status, frame: Any, limit: int = 5_000) -> None:
    rng = np.random.default_rng(3)
    for _ in range(limit):
        _, status = act(environment, int(rng.integers(environment.spec.num_actions)), frame)
        if status is wanted:
            return
        if status is not Status.RUNNING:
            environment.reset((frame,))
    raise AssertionError(f"no {wanted} within {limit} steps")


def test_lost_life_goes_on_with_the_same_frame_and_no_emulation() -> None:
    environment = AtariEnvironment("ALE/Breakout-v5", "paper", 5)
    frame = np.zeros((84, 84), np.uint8)
    environment.reset((frame,))
    play_until(environment, Status.LIFE_LOST, frame)
    last, frames = frame.copy(), environment.frames
    frame[...] = 0
    environment.reset((frame,))
    np.testing.assert_array_equal(frame, last)
    assert environment.frames == frames
    act(environment, 0, frame)
    assert environment.frames == frames + 4


def test_second_reset_after_a_lost_life_starts_a_new_game() -> None:
    environment = AtariEnvironment("ALE/Breakout-v5", "paper", 5)
    frame = np.zeros((84, 84), np.uint8)
    environment.reset((frame,))
    play_until(environment, Status.LIFE_LOST, frame)
    environment.reset((frame,))
    environment.reset((frame,))
    assert environment.frames <= 30


def test_real_end_starts_a_new_game() -> None:
    environment = AtariEnvironment("ALE/Breakout-v5", "paper", 5)
    frame = np.zeros((84, 84), np.uint8)
    environment.reset((frame,))
    play_until(environment, Status.TERMINATED, frame)
    environment.reset((frame,))
    assert 1 <= environment.frames <= 30


def test_reset_in_the_middle_of_a_life_starts_a_new_game() -> None:
    environment = AtariEnvironment("ALE/Breakout-v5", "paper", 5)
    frame = np.zeros((84, 84), np.uint8)
    environment.reset((frame,))
    for _ in range(20):
        act(environment, 0, frame)
    environment.reset((frame,))
    assert environment.frames <= 30


def test_modern_preset_ignores_lost_lives() -> None:
    environment = AtariEnvironment("ALE/Breakout-v5", "modern", 5)
    frame = np.zeros((84, 84), np.uint8)
    environment.reset((frame,))
    with pytest.raises(AssertionError, match="no Status"):
        play_until(environment, Status.LIFE_LOST, frame, limit=400)


def test_frame_cap_truncates_with_the_real_last_frame(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PRESETS, "modern", dataclasses.replace(PRESETS["modern"], max_frames=102))
    capped = AtariEnvironment("ALE/Seaquest-v5", "modern", 9)
    frame = np.zeros((84, 84), np.uint8)
    capped.reset((frame,))
    statuses = [act(capped, 3, frame)[1] for _ in range(26)]
    assert statuses == [Status.RUNNING] * 25 + [Status.TRUNCATED]  # 102 = 25 * 4 + 2
    assert capped.frames == 102
    screen = np.empty((210, 160), np.uint8)
    capped._ale.getScreenGrayscale(screen)
    cv2 = pytest.importorskip("cv2")
    np.testing.assert_array_equal(frame, cv2.resize(screen, (84, 84), interpolation=cv2.INTER_AREA))


def test_presets_differ_in_what_the_contract_shows() -> None:
    modern = AtariEnvironment("ALE/Pong-v5", "modern", 0).spec
    paper = AtariEnvironment("ALE/Pong-v5", "paper", 0).spec
    assert (modern.num_actions, paper.num_actions) == (18, 6)
    assert (modern.preset, paper.preset) == ("modern", "paper")
    assert modern.frames_per_step == 4


def test_unknown_game_names_the_nearest() -> None:
    with pytest.raises(SpecError, match="did you mean ALE/Breakout-v5"):
        AtariEnvironment("ALE/Brakeout-v5", "modern", 0)


def test_unknown_preset_is_refused() -> None:
    with pytest.raises(SpecError, match="out of modern, paper, got 'classic'"):
        AtariEnvironment("ALE/Pong-v5", "classic", 0)


def test_keyword_arguments_go_over_the_preset_and_into_the_name() -> None:
    """By seedbed's names, and by those that ale-py and Gymnasium have for the same."""
    paper = AtariEnvironment("ALE/Pong-v5", "paper", 0, {"frameskip": 1, "full_action_space": True, "noop_max": 0})
    assert paper.spec.environment == 'ALE/Pong-v5{"frame_skip":1,"full_action_space":true,"max_noops":0}'
    assert (paper.spec.num_actions, paper.spec.frames_per_step, paper.spec.preset) == (18, 1, "paper")
    row = (np.zeros((84, 84), np.uint8),)
    paper.reset(row)
    assert paper.frames == 0
    for _ in range(3):
        paper.step((np.array(0),), row)
    assert paper.frames == 3
    same = AtariEnvironment("ALE/Pong-v5", "modern", 0, {"repeat_action_probability": 0.25, "max_noops": 0})
    assert same.spec == AtariEnvironment("ALE/Pong-v5", "modern", 0).spec, "what the preset says anyway"


def test_a_skip_of_two_is_two_of_one() -> None:
    """Without sticky actions, a skip of 2 is every other frame of a skip of 1, the brighter of both in each pixel."""
    plain = {"repeat_action_probability": 0.0}
    single = AtariEnvironment("ALE/Breakout-v5", "modern", 3, {**plain, "frame_skip": 1})
    double = AtariEnvironment("ALE/Breakout-v5", "modern", 3, {**plain, "frame_skip": 2})
    one, two = (np.zeros((84, 84), np.uint8),), (np.zeros((84, 84), np.uint8),)
    single.reset(one)
    double.reset(two)
    for step in range(40):
        action = (np.array(1 + step % 3),)
        rewards = [single.step(action, one)[0] for _ in range(2)]
        assert double.step(action, two)[0] == sum(rewards)
        assert (two[0].astype(int) >= one[0].astype(int) - 1).all(), "no pixel is darker than in the second frame"
        assert double.frames == single.frames


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"frameskips": 4}, "expected keyword arguments out of repeat_action_probability, .*got 'frameskips'"),
        ({"frame_skip": 0}, "expected frame_skip to be like 4, got 0"),
        ({"frame_skip": True}, "expected frame_skip to be like 4, got True"),
        ({"full_action_space": 1}, "expected full_action_space to be like True, got 1"),
        ({"repeat_action_probability": 1.5}, r"expected repeat_action_probability to be like 0\.25, got 1\.5"),
    ],
)
def test_keyword_arguments_that_make_no_sense_are_refused(kwargs: dict[str, object], message: str) -> None:
    with pytest.raises(SpecError, match=message):
        AtariEnvironment("ALE/Pong-v5", "modern", 0, kwargs)
