"""Spaces and arrays: specs, what is refused, and the way back, which the spaces themselves must agree to."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import pytest

from seedbed.common.containers import ActionMapping, Containers
from seedbed.common.errors import SpecError
from seedbed.common.specs import ArraySpec, EnvironmentSpec, action_mask, discrete
from seedbed.env_client.environments.spaces import action_specs, observation_specs

spaces = pytest.importorskip("gymnasium").spaces

ANY = (discrete("action", 2),)

ACTION_SPACES = {
    "box": spaces.Box(np.array([-2, 0, 1e-3], np.float32), np.array([2, 1e6, 1], np.float32)),
    "box of doubles": spaces.Box(-np.pi, np.e, (2, 2), np.float64),
    "box of halves": spaces.Box(-1, 2.5, (3,), np.float16),
    "box without shape": spaces.Box(-3, 5, (), np.float32),
    "large box": spaces.Box(-1, 3, (40, 40), np.float32),
    "discrete": spaces.Discrete(4),
    "discrete from -3": spaces.Discrete(5, start=-3),
    "multi-discrete": spaces.MultiDiscrete([2, 5, 3]),
    "multi-discrete from": spaces.MultiDiscrete(np.array([[2, 5], [3, 3]]), start=np.array([[10, -1], [0, 7]])),
    "narrow multi-discrete": spaces.MultiDiscrete([2, 5], dtype=np.int32),
    "multi-binary": spaces.MultiBinary(4),
    "multi-binary of two dimensions": spaces.MultiBinary([2, 3]),
    "tuple": spaces.Tuple((spaces.Discrete(3, start=1), spaces.Box(-1, 1, (2,)))),
    "tuple of one": spaces.Tuple((spaces.Discrete(3),)),
    "dict": spaces.Dict({"b": spaces.MultiBinary(2), "a": spaces.Box(0, 1, ()), "": spaces.Discrete(2)}),
    "nested": spaces.Dict(
        {
            "arms": spaces.Tuple([spaces.Dict({"x y": spaces.Box(-5, 0, (1,)), "grip]": spaces.Discrete(2)})] * 2),
            "base": spaces.Tuple((spaces.Tuple((spaces.MultiDiscrete([3, 3]),)),)),
        }
    ),
}


def sent_actions(specs: tuple[ArraySpec, ...], rng: np.random.Generator) -> tuple[Any, ...]:
    """Arrays as they travel, sometimes at the very ends."""
    arrays = []
    for spec in specs:
        share = rng.choice([0.0, 1.0, *rng.random(3)], spec.shape)
        array = spec.sent_low + share * (spec.sent_high - spec.sent_low)
        arrays.append(np.asarray(array if spec.kind == "box" else np.rint(array)).astype(spec.numpy_dtype)[()])
    return tuple(arrays)


@pytest.mark.parametrize("name", ACTION_SPACES)
def test_every_action_is_one_that_the_space_contains(name: str) -> None:
    """And of the very types of its samples: dtypes, shapes and containers."""
    space = ACTION_SPACES[name]
    specs = action_specs(space)
    mapping = ActionMapping(specs)
    rng = np.random.default_rng(0)
    sample = space.sample()
    for _ in range(30):
        action = mapping(sent_actions(specs, rng))
        assert space.contains(action), action
        assert_like(action, sample)


def assert_like(ours: Any, theirs: Any) -> None:
    assert type(ours) is type(theirs)
    if isinstance(theirs, dict):
        assert list(ours) == list(theirs)
        for key in theirs:
            assert_like(ours[key], theirs[key])
    elif isinstance(theirs, tuple):
        for part, other in zip(ours, theirs, strict=True):
            assert_like(part, other)
    else:
        assert (ours.dtype, ours.shape) == (theirs.dtype, theirs.shape)


def test_names_say_where_an_array_stands() -> None:
    names = {name: [spec.name for spec in action_specs(space)] for name, space in ACTION_SPACES.items()}
    assert names["box"] == names["discrete"] == ["action"]
    assert names["tuple"] == ["[0]", "[1]"]
    assert names["tuple of one"] == ["[0]"]
    assert names["dict"] == ["/", "/a", "/b"]  # Gymnasium sorts the keys
    assert names["nested"] == [
        "/arms[0]/grip]",
        "/arms[0]/x y",
        "/arms[1]/grip]",
        "/arms[1]/x y",
        "/base[0][0]",
    ]
    assert [spec.name for spec in observation_specs(spaces.Discrete(2), ANY)] == ["observation"]


@pytest.mark.parametrize("name", ACTION_SPACES)
def test_containers_are_taken_apart_and_rebuilt_from_names_alone(name: str) -> None:
    space = ACTION_SPACES[name]
    containers = Containers([spec.name for spec in action_specs(space)])
    value = space.sample()
    parts = containers.parts(value)
    assert len(parts) == len(action_specs(space))
    again = containers.build(parts)
    assert_like(again, value)
    assert containers.parts(again) == parts or all(map(np.array_equal, containers.parts(again), parts))


@pytest.mark.parametrize(
    "names", [["/a", "b"], ["action", "/a"], ["/a", "[0]"], ["[1]"], ["[0]", "[2]"], ["[1]", "[0]"], ["/a[x]"]]
)
def test_names_that_no_space_gives_are_refused(names: list[str]) -> None:
    with pytest.raises(SpecError, match="expected"):
        Containers(names)


def test_boxes_are_mapped_element_by_element() -> None:
    space = ACTION_SPACES["box"]
    (spec,) = action_specs(space)
    assert spec.low == (-2, 0, float(np.float32(1e-3)))
    assert spec.high == (2, 1e6, 1)
    mapping = ActionMapping((spec,))
    for sent, expected in ((-1, space.low), (1, space.high), (0, (space.low.astype(np.float64) + space.high) / 2)):
        np.testing.assert_array_equal(mapping((np.full(3, sent, np.float32),)), np.asarray(expected, np.float32))
    assert mapping((np.array([0.5, -0.5, 0], np.float32),))[:2].tolist() == [1, 250_000]


def test_huge_bounds_do_not_overflow() -> None:
    (spec,) = action_specs(spaces.Box(-1.7e308, 1.7e308, (), np.float64))
    found = [ActionMapping((spec,))((np.array(sent, np.float32),)).item() for sent in (-1, 0, 0.5, 1)]
    assert found == [-1.7e308, 0, pytest.approx(0.85e308), 1.7e308]


def test_actions_share_no_memory_with_the_message() -> None:
    for space in (spaces.Box(-1, 1, (2,)), spaces.MultiDiscrete([3, 3]), spaces.MultiBinary(2)):
        (spec,) = action_specs(space)
        sent = np.zeros(spec.shape, spec.numpy_dtype)
        sent.flags.writeable = False
        action = ActionMapping((spec,))((sent,))
        action[0] = 1
        assert sent[0] == 0


def test_observation_spaces_become_specs() -> None:
    def spec_of(space: Any) -> ArraySpec:
        (spec,) = observation_specs(space, ANY)
        return spec

    unbounded = spaces.Box(-np.inf, np.inf, (2, 3), np.float64)
    assert spec_of(unbounded) == ArraySpec(name="observation", dtype="float32", shape=(2, 3), source_dtype="float64")
    mixed = spec_of(spaces.Box(np.array([-1, -5], np.float32), np.array([np.inf, 2], np.float32)))
    assert mixed == ArraySpec(name="observation", dtype="float32", shape=(2,), low=(-1, -5), high=(np.inf, 2))
    image = spec_of(spaces.Box(0, 255, (84, 84, 3), np.uint8))
    assert image == ArraySpec(name="observation", dtype="uint8", shape=(84, 84, 3), low=(0,), high=(255,))
    binary = spec_of(spaces.MultiBinary(4))
    assert (binary.dtype, binary.kind, binary.source_dtype, binary.high) == ("uint8", "binary", "int8", (1.0,))
    assert spec_of(spaces.Discrete(5, start=10)) == discrete("observation", 5, start=10)
    several = spec_of(spaces.MultiDiscrete([3, 4], start=[1, 0]))
    assert (several.kind, several.low, several.high, several.num_values) == ("discrete", (1, 0), (3,), (3, 4))
    numbers = spec_of(spaces.Box(np.array([1, 0]), np.array([3, 3]), dtype=np.int64))
    assert (numbers.low, numbers.high, numbers.dtype) == (several.low, several.high, several.dtype)
    assert numbers.kind == "box", "an integer Box and a MultiDiscrete look alike but for this"


def test_bounds_of_many_elements_are_the_widest() -> None:
    low = np.zeros((33, 32), np.float32)
    low[3, 3], low[4, 4] = -7, -2
    (spec,) = observation_specs(spaces.Box(low, 1.0, dtype=np.float32), ANY)
    assert (spec.low, spec.high) == ((-7,), (1,))
    with pytest.raises(SpecError, match="more than 1024 elements of an action must have equal bounds"):
        action_specs(spaces.Box(low, 1.0, dtype=np.float32))
    (spec,) = action_specs(spaces.Box(-1, 1, (33, 32)))
    assert spec.low == (-1,)


BOX = spaces.Box(-1, 1, (2,))


@pytest.mark.parametrize(
    ("space", "message"),
    [
        (spaces.Box(0, 5, (2,), np.int32), "action space Box.*integers is no action here: make it a MultiDiscrete"),
        (spaces.Box(-np.inf, 1, (2,)), "mapped to its bounds, which must be finite"),
        (spaces.Box(0, np.array([1, np.inf], np.float32)), "mapped to its bounds, which must be finite"),
        (spaces.Box(0, np.array([1, 0], np.float32)), "mapped to its bounds, which must differ"),
        (spaces.Text(5), "action space Text.*supported are Box, Discrete, MultiDiscrete, MultiBinary, and Tuple and"),
        (spaces.Sequence(BOX), "action space Sequence.*supported are"),
        (spaces.Graph(BOX, None), "action space Graph.*supported are"),
        (spaces.OneOf((BOX,)), "action space OneOf.*supported are"),
        (spaces.Dict({"a": BOX, "b": spaces.Text(3)}), "action space '/b' Text.*supported are"),
        (spaces.Tuple((BOX, spaces.Tuple((spaces.Text(3),)))), r"action space '\[1\]\[0\]' Text"),
        (spaces.Dict({"a/b": BOX}), "keys must be texts without .* got 'a/b'"),
        (spaces.Dict({"a[0]": BOX}), "keys must be texts without .* got 'a\\[0\\]'"),
        (spaces.Dict({3: BOX}), "keys must be texts without .* got 3"),
        (spaces.Dict({"a": BOX, "b": spaces.Dict({})}), "action space '/b'.* nothing that it could be rebuilt from"),
        (spaces.Tuple(()), "an empty Dict or Tuple"),
    ],
    ids=str,
)
def test_spaces_that_cannot_be_acted_in_are_refused_with_a_sentence(space: Any, message: str) -> None:
    with pytest.raises(SpecError, match=message):
        action_specs(space)


def test_observations_may_be_what_actions_may_not() -> None:
    shown = spaces.Dict({"a": spaces.Box(0, 5, (2,), np.int8), "b": spaces.Box(0, np.inf, ()), "c": spaces.Box(1, 1)})
    assert [spec.dtype for spec in observation_specs(shown, ANY)] == ["int32", "float32", "float32"]
    with pytest.raises(SpecError, match=r"Box.*uint32.: supported dtypes are bool, uint8, "):
        observation_specs(spaces.Box(0, 5, (2,), np.uint32), ANY)
    with pytest.raises(SpecError, match="observation space '/text' Text"):
        observation_specs(spaces.Dict({"text": spaces.Text(5)}), ANY)


def test_subclasses_of_spaces_are_what_they_inherit() -> None:
    class Angle(spaces.Box):  # type: ignore[name-defined]
        """Somebody's own."""

    (spec,) = action_specs(Angle(-np.pi, np.pi, (1,), np.float32))
    assert (spec.kind, spec.shape) == ("box", (1,))


def test_a_mask_is_an_entry_of_a_dict_where_actions_are_discrete() -> None:
    shown = spaces.Dict({"action_mask": spaces.MultiBinary(5), "board": spaces.Box(0, 1, (3, 3))})
    actions = action_specs(spaces.Tuple((spaces.Discrete(3), BOX, spaces.Discrete(2))))
    mask, board = observation_specs(shown, actions)
    assert mask == action_mask(actions, "/action_mask")
    assert (board.name, board.role) == ("/board", "value")
    assert EnvironmentSpec(environment="x", observations=(mask, board), actions=actions).mask_position == 0
    mask, _ = observation_specs(shown, action_specs(BOX))
    assert mask.role == "value", "actions without values cannot be masked"


@pytest.mark.parametrize(
    ("space", "message"),
    [
        (spaces.MultiBinary(4), "expected an action mask with as many entries as 5, one for each value"),
        (spaces.Discrete(5), "an action mask is a MultiBinary or a Box of 0 and 1"),
    ],
)
def test_masks_of_another_kind_are_refused(space: Any, message: str) -> None:
    actions = action_specs(spaces.MultiDiscrete([3, 2]))
    with pytest.raises(SpecError, match=message):
        observation_specs(spaces.Dict({"action_mask": space, "board": BOX}), actions)


def test_mask_spaces_may_be_nested_like_the_actions() -> None:
    actions = action_specs(spaces.MultiDiscrete([3, 2]))
    nested = spaces.Tuple((spaces.Box(0, 1, (3,), np.int8), spaces.MultiBinary(2)))
    (mask, _) = observation_specs(spaces.Dict({"action_mask": nested, "board": BOX}), actions)
    assert mask == action_mask(actions, "/action_mask")


def test_no_gymnasium_is_imported() -> None:
    """The mapping is for those who have only a spec."""
    import subprocess

    code = (
        "import sys, seedbed.env_client.environments.spaces; "
        "assert not {'gymnasium', 'torch', 'grpc'} & set(sys.modules), sorted(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
