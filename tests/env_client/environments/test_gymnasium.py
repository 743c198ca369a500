"""Gymnasium environments of every kind of space, and action masks from each of the places where they are shown."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from seedbed.common.errors import BrokenError, SpecError
from seedbed.common.plugins import Trust
from seedbed.common.specs import action_mask
from seedbed.common.timestep import StepType
from seedbed.env_client.environments.action_masks import MaskFlattener
from seedbed.env_client.environments.building import Care, describe, make_environments
from seedbed.env_client.environments.rows import Environments
from seedbed.env_client.environments.spaces import action_specs

gymnasium = pytest.importorskip("gymnasium")
spaces = gymnasium.spaces


class Strict(gymnasium.core.Env):  # type: ignore[name-defined]
    """Takes only actions that its space contains, shows samples of its space and remembers both."""

    def __init__(self, observation_space: Any, action_space: Any, length: int = 3) -> None:
        self.observation_space = observation_space
        self.action_space = action_space
        self._length = length
        self.shown: list[Any] = []
        self.taken: list[Any] = []
        self.seeds: list[int | None] = []

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.seeds.append(seed)
        self._steps = 0
        return self._show(), self.info()

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        assert self.action_space.contains(action), action
        self.taken.append(action)
        self._steps += 1
        over = self._steps == self._length
        return self._show(), 1.0, over, False, self.info()

    def info(self) -> dict[str, Any]:
        return {}

    def _show(self) -> Any:
        self.shown.append(self.observation_space.sample())
        return self.shown[-1]


class InInfo(Strict):
    """Shows a mask in its info: which action number `steps` is allowed. Not when it is over."""

    def info(self) -> dict[str, Any]:
        mask = np.zeros(3, np.int8)
        mask[self._steps % 3] = 1
        return {"action_mask": mask} if self._steps < self._length else {}


class Forgetful(InInfo):
    """Shows it at the reset alone."""

    def info(self) -> dict[str, Any]:
        return super().info() if self._steps == 0 else {}


class WithMethod(Strict):
    """Has a method, and one mask for each element."""

    def action_masks(self) -> list[Any]:
        return [np.arange(2) == self._steps % 2, np.ones(3, bool)]


class TooLong(InInfo):
    def info(self) -> dict[str, Any]:
        return {"action_mask": np.ones(4)}


class WantsArguments(Strict):
    def action_masks(self, player: int) -> Any:
        return np.ones(3)


class WithoutInfo(Strict):
    def info(self) -> Any:
        return None


class FailsToReset(Strict):
    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        raise OSError("no display")


BOX = spaces.Box(-2, 2, (2,), np.float32)
KINDS: dict[str, tuple[type[Strict], Any, Any]] = {
    "Box": (Strict, BOX, spaces.Box(np.array([-3, 0]), np.array([0, 10]), dtype=np.float64)),
    "Discrete": (Strict, spaces.Discrete(4, start=2), spaces.Discrete(3, start=-1)),
    "MultiDiscrete": (Strict, spaces.MultiDiscrete([3, 9]), spaces.MultiDiscrete([2, 5], start=[4, 4])),
    "MultiBinary": (Strict, spaces.MultiBinary(3), spaces.MultiBinary([2, 2])),
    "Tuple": (Strict, spaces.Tuple((BOX, spaces.Discrete(3))), spaces.Tuple((spaces.Discrete(2), BOX))),
    "Dict": (
        Strict,
        spaces.Dict({"camera": spaces.Box(0, 255, (4, 4, 3), np.uint8), "room": spaces.Tuple((BOX, BOX))}),
        spaces.Dict({"arm": spaces.Dict({"x": BOX, "grip": spaces.Discrete(2)}), "wheel": spaces.Box(-1, 1, ())}),
    ),
    "Masked": (
        Strict,
        spaces.Dict({"action_mask": spaces.MultiBinary(3), "board": BOX}),
        spaces.Discrete(3),
    ),
    "InInfo": (InInfo, BOX, spaces.Discrete(3)),
    "Forgetful": (Forgetful, BOX, spaces.Discrete(3)),
    "WithMethod": (WithMethod, BOX, spaces.MultiDiscrete([2, 3])),
    "TooLong": (TooLong, BOX, spaces.Discrete(3)),
    "WantsArguments": (WantsArguments, BOX, spaces.Discrete(3)),
    "WithoutInfo": (WithoutInfo, BOX, spaces.Discrete(3)),
    "FailsToReset": (FailsToReset, BOX, spaces.Discrete(3)),
    "BoxInInfo": (InInfo, BOX, BOX),
    "Text": (Strict, spaces.Text(5), spaces.Discrete(3)),
}
SOUND = ("Box", "Discrete", "MultiDiscrete", "MultiBinary", "Tuple", "Dict", "Masked", "InInfo", "WithMethod")


@pytest.fixture(autouse=True)
def registered() -> Iterator[None]:
    before = dict(gymnasium.registry)
    for name, (cls, observation, action) in KINDS.items():
        kwargs = {"observation_space": observation, "action_space": action}
        gymnasium.register(f"{name}-v0", entry_point=cls, kwargs=kwargs)
    yield
    gymnasium.registry.clear()
    gymnasium.registry.update(before)


def inside(environments: Environments) -> Any:
    environment: Any = environments._seats[0].environment
    return environment._env.unwrapped


def random_actions(environments: Environments, rng: np.random.Generator) -> tuple[Any, ...]:
    rows = len(environments.indices)
    arrays = []
    for spec in environments.spec.actions:
        low, high = spec.sent_low, spec.sent_high
        array = rng.uniform(low, np.nextafter(high + (spec.kind != "box"), low), (rows, *spec.shape))
        arrays.append((array if spec.kind == "box" else np.floor(array)).astype(spec.numpy_dtype))
    return tuple(arrays)


@pytest.mark.parametrize("name", SOUND)
def test_environments_get_what_their_space_contains_and_show_what_they_show(name: str) -> None:
    environments = make_environments(f"{name}-v0", "", [5], 0)
    rng = np.random.default_rng(1)
    rows = environments.reset()
    strict = inside(environments)
    for _ in range(20):
        parts = flat_parts(strict.shown[-1])
        shown = [array for array, spec in zip(rows.observations, environments.spec.observations, strict=True)]
        if environments.spec.observations[-1].name == "action_mask":
            shown.pop()
        assert len(shown) == len(parts)
        for array, part in zip(shown, parts, strict=True):
            np.testing.assert_array_equal(array[0], part)
        rows = environments.step(random_actions(environments, rng))
    assert len(strict.taken) == 15, "no environment broke: the strict one raises"
    assert strict.seeds.count(None) == len(strict.seeds) - 1, "seeded once"


def flat_parts(value: Any) -> list[Any]:
    if isinstance(value, dict):
        value = tuple(value.values())
    return [leaf for part in value for leaf in flat_parts(part)] if isinstance(value, tuple) else [value]


@pytest.mark.parametrize("environment_id", ["Pendulum-v1", "Blackjack-v1", "FrozenLake-v1", "Taxi", "MountainCar-v0"])
def test_gymnasiums_own_environments_can_be_stepped(environment_id: str) -> None:
    newest = max(name for name in gymnasium.registry if name.startswith(environment_id))
    environments = make_environments(newest, "", [0, 1], 0)
    rng = np.random.default_rng(0)
    environments.reset()
    for _ in range(30):
        rows = environments.step(random_actions(environments, rng))
    assert np.isfinite(rows.reward).all()
    masked = environments.spec.mask_position is not None
    assert masked == (environment_id == "Taxi"), "which shows it in its info"


def test_a_pendulum_turns_as_gymnasiums_does() -> None:
    ours, theirs = make_environments("Pendulum-v1", "", [0], 3), gymnasium.make("Pendulum-v1")
    from seedbed.env_client.environments.registry import environment_seed

    rows = ours.reset()
    expected, _ = theirs.reset(seed=environment_seed(3, 0))
    for torque in (-1.0, 0.25, 1.0, 0.7):
        np.testing.assert_array_equal(rows.observations[0][0], expected)
        rows = ours.step((np.array([[torque]], np.float32),))
        expected, reward, *_ = theirs.step(np.array([2 * torque], np.float32))
        assert rows.reward[0] == np.float32(reward)
    theirs.close()


def test_masks_of_a_dict_stand_in_their_place() -> None:
    environments = make_environments("Masked-v0", "", [0], 0)
    assert environments.spec.observations[0] == action_mask(environments.spec.actions, "/action_mask")
    assert environments.spec.mask_position == 0
    rows = environments.reset()
    np.testing.assert_array_equal(rows.observations[0][0], inside(environments).shown[-1]["action_mask"])


def test_masks_of_the_info_come_with_every_row() -> None:
    """All is allowed where an episode is over and none is shown; the reset that told of them is the first episode's."""
    environments = make_environments("InInfo-v0", "", [0], 0)
    assert environments.spec.observations[1] == action_mask(environments.spec.actions)
    masks = [environments.reset().observations[1][0].tolist()]
    for _ in range(5):
        masks.append(environments.step((np.zeros(1, np.int64),)).observations[1][0].tolist())
    assert masks == [[1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 1], [1, 0, 0], [0, 1, 0]]
    assert len(inside(environments).shown) == 6, "no reset is thrown away"


def test_masks_of_a_method_are_asked_for_in_every_step() -> None:
    environments = make_environments("WithMethod-v0", "", [0], 0)
    masks = [environments.reset().observations[1][0].tolist()]
    for _ in range(2):
        masks.append(environments.step((np.zeros((1, 2), np.int64),)).observations[1][0].tolist())
    assert masks == [[1, 0, 1, 1, 1], [0, 1, 1, 1, 1], [1, 0, 1, 1, 1]]


def test_an_environment_that_forgets_its_mask_breaks() -> None:
    environments = make_environments("Forgetful-v0", "", [0], 0)
    environments.reset()
    rows = environments.step((np.zeros(1, np.int64),))
    assert (rows.step_type[0], rows.discount[0], rows.episode_ends) == (StepType.LAST, 1, ())


def test_boxes_have_no_mask() -> None:
    assert describe("BoxInInfo-v0", "").mask_position is None


def test_a_mask_of_another_length_is_refused() -> None:
    with pytest.raises(SpecError, match="TooLong-v0: the environment's action mask: expected an action mask of 3 entr"):
        describe("TooLong-v0", "")


def test_methods_and_infos_of_another_kind() -> None:
    """No trace on anybody's screen."""
    with pytest.raises(SpecError, match=r"WantsArguments-v0: the environment's action mask: .*missing 1 required"):
        describe("WantsArguments-v0", "")
    assert describe("WithoutInfo-v0", "").mask_position is None


def test_unsupported_spaces_are_refused_by_name() -> None:
    with pytest.raises(SpecError, match=r"Text-v0: observation space Text.*supported are Box, Discrete"):
        describe("Text-v0", "")


def test_a_reset_that_fails_breaks_the_environment_and_not_the_client() -> None:
    """Also where it was made only to look for a mask. Where it is described it is refused."""
    with pytest.raises(
        SpecError, match=r"FailsToReset-v0: its first reset or step raised OSError: no display \(.*line"
    ):
        describe("FailsToReset-v0", "")
    with pytest.raises(BrokenError, match=r"environment 0 broke 4 times .*no display"):
        make_environments("FailsToReset-v0", "", [0], 0).reset()


FLATTENED: dict[str, tuple[Any, Callable[[], Any]]] = {
    "flat": (spaces.MultiDiscrete([2, 1]), lambda: np.array([1, 0, 1])),
    "a list": (spaces.MultiDiscrete([2, 1]), lambda: [1, 0, 1]),
    "one for each element": (spaces.MultiDiscrete([2, 1]), lambda: (np.array([True, False]), np.array([True]))),
    "like the actions": (
        spaces.Dict({"b": spaces.Discrete(1), "a": spaces.Discrete(2), "c": BOX}),
        lambda: {"b": np.array([1]), "a": np.array([1, 0], np.int8)},
    ),
    "like a tuple": (spaces.Tuple((spaces.Discrete(2), BOX, spaces.Discrete(1))), lambda: ([1, 0], None, [1])),
    "flat for several": (spaces.Tuple((spaces.Discrete(2), spaces.Discrete(1))), lambda: np.array([1.0, 0.0, 1.0])),
}


@pytest.mark.parametrize("name", FLATTENED)
def test_masks_of_every_layout_become_one_array(name: str) -> None:
    space, give = FLATTENED[name]
    target = np.full(3, 9, np.uint8)
    MaskFlattener(action_specs(space))(give(), target)
    assert target.tolist() == [1, 0, 1]


@pytest.mark.parametrize("mask", [np.ones(2), np.ones(4), [0, 1, 2], [np.nan, 1, 1], {"a": 1}, "101"])
def test_what_is_no_mask_is_refused(mask: Any) -> None:
    flatten = MaskFlattener(action_specs(spaces.MultiDiscrete([2, 1])))
    with pytest.raises(ValueError, match="expected an action mask of 3 entries, each 0 or 1"):
        flatten(mask, np.zeros(3, np.uint8))


def test_isolated_environments_carry_arrays_of_every_kind() -> None:
    """The module that registers them has to be imported over there."""
    environment_id = "tests.env_client.environments.odd_spaces:Mixed-v0"
    trust = Trust(allow_import=True, start_directory=Path(__file__).parents[3])
    plain = make_environments(environment_id, "", [0, 1], 0, Care(trust=trust))
    environments = make_environments(environment_id, "", [0, 1], 0, Care(trust=trust, isolate=True))
    try:
        rng = np.random.default_rng(0)
        assert environments.spec == plain.spec
        assert {spec.dtype for spec in plain.spec.observations} == {"uint8", "int32", "int64", "float32"}
        ours, theirs = environments.reset(), plain.reset()
        for _ in range(8):
            for array, other in zip(ours.observations, theirs.observations, strict=True):
                np.testing.assert_array_equal(array, other)
            np.testing.assert_array_equal(ours.reward, theirs.reward)
            actions = random_actions(plain, rng)
            ours, theirs = environments.step(actions), plain.step(actions)
    finally:
        environments.close()
