"""Environments stepped by one call are those stepped one after another, row by row, at the ends of episodes too."""

from __future__ import annotations

import copy
import dataclasses
import itertools
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from seedbed.common.environment_options import CareOptions
from seedbed.common.errors import BrokenError, MissingExtraError, SpecError, UsageError
from seedbed.common.plugins import Trust
from seedbed.common.timestep import StepType
from seedbed.env_client.environments.building import Care
from seedbed.env_client.environments.groups import describe, make_group
from seedbed.env_client.environments.interface import Asides, Group
from seedbed.env_client.environments.random_actions import some_action
from tests.api.environments import Recorder

gymnasium = pytest.importorskip("gymnasium")
spaces = gymnasium.spaces

SHOWN = spaces.Dict(
    {
        "arm": spaces.Tuple((spaces.Box(-np.inf, np.inf, (3,), np.float64), spaces.Discrete(4, start=2))),
        "eye": spaces.Box(0, 255, (24, 20), np.uint8),
        "bits": spaces.MultiBinary(3),
    }
)
TAKEN = spaces.Dict(
    {
        "go": spaces.Discrete(3, start=4),
        "more": spaces.Tuple((spaces.MultiDiscrete([3, 2], np.int32), spaces.MultiBinary(3))),
        "push": spaces.Box(np.array([-2.0, 0.0]), np.array([5.0, 0.5]), dtype=np.float64),
    }
)
MASKED = spaces.Dict({"arm": spaces.Box(-1, 1, (3,)), "action_mask": spaces.MultiBinary(5)})
BOX = spaces.Box(-1, 1, (3,))
NESTED = spaces.Dict({"go": spaces.Discrete(3, start=4), "more": spaces.Discrete(2)})
KINDS = {
    "everything": (SHOWN, TAKEN),
    "masked": (MASKED, spaces.MultiDiscrete([3, 2])),
    "vector": (spaces.Box(-np.inf, np.inf, (3,), np.float32), spaces.Discrete(5)),
    "masks told": (spaces.Box(-1, 1, (3,)), spaces.MultiDiscrete([3, 2])),
    "masks told of each": (spaces.Box(-1, 1, (3,)), NESTED),
    "masks asked for": (spaces.Box(-1, 1, (3,)), spaces.MultiDiscrete([3, 2])),
    "colours": (spaces.Dict({"eye": spaces.Box(0, 255, (24, 20, 3), np.uint8), "arm": BOX}), spaces.Discrete(5)),
}
TRUST = Care(trust=Trust(allow_import=True))


class Told(Recorder):
    """Seeded by its resets; every other episode is truncated; numbers in its last info, masks at times but the last."""

    def __init__(self, kind: str = "everything", **_: Any) -> None:
        super().__init__(*copy.deepcopy(KINDS[kind]))
        self._kind = kind
        if kind == "masks asked for":
            self.action_masks = self._bits

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        if seed is not None:
            self.observation_space.seed(seed)
            self._random = np.random.default_rng(seed)
        observation, info = super().reset(seed=seed)
        return observation, self._with_mask(info)

    def step(self, action: Any) -> Any:
        observation, reward, terminated, _, info = super().step(action)
        odd = self._episode % 2 == 1
        info = {**info, "height": reward * 2}
        info = info if terminated else self._with_mask(info)
        return observation, reward, terminated and not odd, terminated and odd, info

    def _bits(self) -> Any:
        """Depends on what was shown: an entry for each value, one of each action allowed."""
        seed = np.frombuffer(np.asarray(self.shown[-1][0]).tobytes(), np.uint32)
        bits = np.random.default_rng(seed).integers(0, 2, 5).astype(np.int8)
        bits[[1, 4]] = 1
        return bits

    def _with_mask(self, info: dict[str, Any]) -> dict[str, Any]:
        if self._kind == "masks told":
            return {**info, "action_mask": self._bits()}
        if self._kind == "masks told of each":
            return {**info, "action_mask": {"go": self._bits()[:3], "more": self._bits()[3:]}}
        return info


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(
        gymnasium.registry,
        "Told-v0",
        gymnasium.envs.registration.EnvSpec("Told-v0", entry_point=Told, disable_env_checker=True),
    )


def copied(rows: Any) -> list[Any]:
    ends = tuple(
        (end.row, end.episode_return, end.steps, end.frames, end.truncated, end.info) for end in rows.episode_ends
    )
    arrays = (rows.step_type, rows.reward, rows.discount, *rows.observations)
    return [*(array.copy() for array in arrays), ends]


def play(group: Group, steps: int, seed: int = 0) -> list[list[Any]]:
    """What is shown, from the reset on, under random actions that depend on what is shown alone."""
    random = np.random.default_rng(seed)
    found = [copied(rows := group.reset())]
    for _ in range(steps):
        chosen = [
            some_action(group.spec, tuple(array[row] for array in rows.observations), random)
            for row in range(len(group.indices))
        ]
        found.append(copied(rows := group.step(tuple(map(np.stack, zip(*chosen, strict=True))))))
    group.close()
    return found


def assert_equal(left: Sequence[list[Any]], right: Sequence[list[Any]]) -> None:
    for step, (ours, theirs) in enumerate(zip(left, right, strict=True)):
        *arrays, ends = ours
        *others, other_ends = theirs
        assert ends == other_ends, step
        for array, other in zip(arrays, others, strict=True):
            assert array.dtype == other.dtype
            assert np.array_equal(array, other), step


def both(name: str, vector: Any, indices: Sequence[int] = (3, 4, 5), care: Care = TRUST) -> tuple[Group, Group]:
    return (
        make_group(name, "modern", indices, 9, care),
        make_group(name, "modern", indices, 9, dataclasses.replace(care, vector=vector)),
    )


@pytest.mark.parametrize("kind", KINDS)
def test_gymnasium_s_vector_shows_what_each_shows(told: None, kind: str) -> None:
    """Observations, rewards, step types, discounts, ends and their numbers, over episodes of lengths 1 to 5."""
    one_by_one, at_once = both(f'Told-v0{{"kind":"{kind}"}}', "gymnasium")
    assert at_once.spec == one_by_one.spec
    assert at_once.indices == one_by_one.indices
    left, right = play(one_by_one, 40), play(at_once, 40)
    assert_equal(left, right)
    ends = [end for step in right for end in step[-1]]
    assert {end[4] for end in ends} == {True, False}
    assert {end[2] for end in ends} == {1, 3, 4, 5}
    assert all("height" in end[5] for end in ends)
    position = one_by_one.spec.mask_position
    assert (position is not None) == kind.startswith("mask")
    if position is not None:
        masks = np.concatenate([step[3 + position] for step in right])
        assert 0 < masks.mean() < 1


@pytest.mark.parametrize(
    ("asked", "shapes"),
    [("@12x10,grey,2steps", {(12, 10), (3,)}), ("@24x10", {(24, 10, 3), (3,)}), ("@3steps", {(24, 20, 3), (3,)})],
)
def test_smaller_images_and_shorter_episodes(told: None, asked: str, shapes: set[tuple[int, ...]]) -> None:
    one_by_one, at_once = both(f'Told-v0{{"kind":"colours"}}{asked}', "gymnasium")
    assert at_once.spec == one_by_one.spec
    assert {array.shape for array in at_once.spec.observations} == shapes
    left, right = play(one_by_one, 40), play(at_once, 40)
    assert_equal(left, right)
    ends = [end for step in right for end in step[-1]]
    if "steps" in asked:
        limit = int(asked[asked.index("steps") - 1])
        assert max(end[2] for end in ends) == limit
        assert any(end[4] and end[2] == limit for end in ends), "none was cut"


def test_the_shorter_of_two_limits() -> None:
    for name, steps in (('CartPole-v1{"max_episode_steps":5}@7steps', 5), ("CartPole-v1@3steps", 3)):
        shown = play(make_group(name, "", range(2), 9, dataclasses.replace(TRUST, vector="gymnasium")), 12)
        assert {end[2:5] for step in shown for end in step[-1]} == {(steps, steps, True)}


@pytest.mark.parametrize("fault", ["length", "missing"])
def test_masks_that_are_none(told: None, fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(self: Told, info: dict[str, Any]) -> dict[str, Any]:
        if self._steps < 2:
            return {**info, "action_mask": self._bits()}
        return {**info, "action_mask": self._bits()[:4]} if fault == "length" else info

    monkeypatch.setattr(Told, "_with_mask", broken)
    group = make_group('Told-v0{"kind":"masks told"}', "", range(1), 9, dataclasses.replace(TRUST, vector="gymnasium"))
    words = {"length": "raised ValueError: expected an action mask of 5 entries", "missing": "expected 'action_mask'"}
    with pytest.raises(BrokenError, match=words[fault]):
        play(group, 40)


def test_a_reset_in_the_midst_begins_other_episodes(told: None) -> None:
    _, group = both('Told-v0{"kind":"vector"}', "gymnasium")
    first = group.reset().observations[0].copy()
    group.step((np.zeros(3, np.int64),))
    again = group.reset()
    assert (again.step_type == StepType.FIRST).all()
    assert not np.array_equal(first, again.observations[0])


def test_an_environment_s_own_vector() -> None:
    """CartPole has one that steps all at once: same ends, told apart; and the contract of a single one."""
    care = dataclasses.replace(TRUST, vector="gymnasium")
    group = make_group("CartPole-v1", "", range(4), 9, care)
    assert group.spec == describe("CartPole-v1", "")
    assert type(group._vector._env).__name__ != "SyncVectorEnv"  # type: ignore[attr-defined]
    shown = play(group, 60)
    ends = [end for step in shown for end in step[-1]]
    assert len(ends) > 6
    assert all(end[1] == end[2] for end in ends), "one for each step"
    for before, after in itertools.pairwise(shown):
        over = before[0] == StepType.LAST
        assert ((after[0] == StepType.FIRST) == over).all()
        assert (np.abs(after[3][over]) < 0.05).all(), "an episode begins in the middle"
        fell = over & (before[2] == 0)
        assert ((np.abs(before[3][fell, 2]) > 0.2) | (np.abs(before[3][fell, 0]) > 2.4)).all(), "the real last one"


@pytest.mark.parametrize(
    "game",
    [
        pytest.param("ALE/Breakout-v5", marks=pytest.mark.slow),
        'ALE/Pong-v5{"max_frames":300}',
        "ALE/Pong-v5@42x42,75steps",
    ],
)
def test_ale_s_vector_plays_the_same_games(game: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bit for bit, but for the pictures with which games end."""
    pytest.importorskip("ale_py.vector_env")
    pytest.importorskip("cv2")
    # The vector takes no negative seeds of emulators.
    indices = [i for i in range(20) if emulator_seed(9, i) >= 0][:2]
    one_by_one, at_once = both(game, "ale", indices)
    assert at_once.spec == one_by_one.spec
    left, right = play(one_by_one, 220), play(at_once, 220)
    assert sum(len(step[-1]) for step in right) >= 1
    for step, (ours, theirs) in enumerate(zip(left, right, strict=True)):
        assert ours[-1] == theirs[-1], step
        for array, other in zip(ours[:3], theirs[:3], strict=True):
            assert np.array_equal(array, other), step
        whole = ours[0] != StepType.LAST
        assert np.array_equal(ours[3][whole], theirs[3][whole]), step


def emulator_seed(run_seed: int, index: int) -> int:
    from seedbed.env_client.environments.registry import environment_seed

    made = np.random.SeedSequence(environment_seed(run_seed, index)).generate_state(2)[1]
    return int(made.astype(np.int32))


def test_envpool_s_vector() -> None:
    try:
        import envpool  # noqa: F401
    except Exception as error:  # some of its versions miss files of their own
        pytest.skip(f"envpool is not installed, or does not start: {error}")
    care = dataclasses.replace(TRUST, vector="envpool")
    shown = play(make_group("CartPole-v1", "", range(4), 9, care), 60)
    ends = [end for step in shown for end in step[-1]]
    assert len(ends) > 6
    assert all(end[1] == end[2] for end in ends)
    for before, after in itertools.pairwise(shown):
        over = before[0] == StepType.LAST
        assert ((after[0] == StepType.FIRST) == over).all()
        assert (np.abs(after[3][over]) < 0.05).all()


OWN = """
import gymnasium
from gymnasium.vector import AutoresetMode, SyncVectorEnv

def make(num_envs, mode="NextStep"):
    one = lambda: gymnasium.make("CartPole-v1")
    return SyncVectorEnv([one] * num_envs, autoreset_mode=AutoresetMode(mode))

def single(num_envs):
    return gymnasium.make("CartPole-v1")

class Breaks(SyncVectorEnv):
    def __init__(self, num_envs, fault):
        super().__init__([lambda: gymnasium.make("CartPole-v1")] * num_envs)
        self.fault, self.turns = fault, 0

    def step(self, actions):
        self.turns += 1
        observations, rewards, *rest = super().step(actions)
        if self.turns == 4:
            if self.fault == "raise":
                raise RuntimeError("no more")
            (observations if self.fault == "show" else rewards)[1] = float("nan")
        return observations, rewards, *rest
"""


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Care:
    Path(tmp_path, "own_vectors.py").write_text(OWN)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "own_vectors", raising=False)
    return dataclasses.replace(TRUST, vector="gymnasium")


def test_a_vector_of_one_s_own(own: Care) -> None:
    shown = play(make_group("own_vectors:make", "", range(3), 9, own), 30)
    assert describe("own_vectors:make", "", own).environment == "own_vectors:make"
    assert len(shown) == 31


@pytest.mark.parametrize("mode", ["SameStep", "Disabled"])
def test_other_autoresets_are_refused(own: Care, mode: str) -> None:
    """With them an episode's first observation comes with the last of the one before, or not by itself."""
    with pytest.raises(SpecError, match=f"expected a vector with next-step autoreset .*, got {mode}"):
        make_group(f'own_vectors:make{{"mode":"{mode}"}}', "", range(3), 9, own)


@pytest.mark.parametrize("fault", ["raise", "show", "pay"])
def test_a_vector_that_breaks_ends_the_client(own: Care, fault: str) -> None:
    group = make_group(f'own_vectors:Breaks{{"fault":"{fault}"}}', "", range(3), 9, own)
    words = {"raise": "raised RuntimeError: no more", "show": "'observation' is not finite", "pay": "a reward is not"}
    with pytest.raises(BrokenError, match=words[fault]):
        play(group, 5)


@pytest.mark.parametrize(
    ("name", "vector", "words"),
    [
        ("own_vectors:single", "gymnasium", "expected a gymnasium.vector.VectorEnv"),
        ('own_vectors:make{"nope":1}', "gymnasium", "nope"),
        ("NoSuchThing-v0", "gymnasium", "NoSuchThing"),
        ("seedbed/Catch-v0", "gymnasium", "expected --vector none for seedbed/Catch-v0"),
        ("CartPole-v1", "ale", "expected --vector ale for ALE"),
        ("ALE/Pong-v5", "gymnasium", "expected --vector ale for ALE"),
        ("CartPole-v1@8x8", "gymnasium", "expected an image for --image-size"),
        (
            "own_vectors:make@9steps",
            "gymnasium",
            "expected no --max-episode-steps .* got 9: only what makes the vector",
        ),
        ('ALE/Pong-v5{"max_noops":3}@9steps', "ale", "no-op starts, got 9: .*max_noops"),
    ],
)
def test_names(own: Care, name: str, vector: Any, words: str) -> None:
    with pytest.raises((SpecError, UsageError), match=words):
        make_group(name, "modern", range(2), 0, dataclasses.replace(own, vector=vector))


def test_lost_lives_need_games_that_stand_still() -> None:
    pytest.importorskip("ale_py.vector_env")
    with pytest.raises(SpecError, match="expected --atari-preset modern with --vector ale"):
        make_group("ALE/Pong-v5", "paper", range(2), 0, dataclasses.replace(TRUST, vector="ale"))


def test_nothing_of_the_wire_is_imported(own: Care) -> None:
    care = dataclasses.replace(own, trust=Trust(installed=False))
    with pytest.raises(UsageError, match="would import a module"):
        make_group("own_vectors:make", "", range(2), 0, care)
    assert "own_vectors" not in sys.modules


def test_what_does_not_go_together() -> None:
    with pytest.raises(UsageError, match="expected --isolate or --vector"):
        CareOptions(vector="gymnasium", isolate=True)
    with pytest.raises(UsageError, match="expected --render none"):
        CareOptions(vector="gymnasium", render="human")
    with pytest.raises(UsageError, match="expected --vector none with a video"):
        make_group(
            "CartPole-v1", "", range(2), 0, dataclasses.replace(TRUST, vector="gymnasium", asides=Asides(film="x.mp4"))
        )


def test_envpool_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "envpool", None)
    with pytest.raises(MissingExtraError, match="pip install envpool"):
        make_group("CartPole-v1", "", range(2), 0, dataclasses.replace(TRUST, vector="envpool"))
