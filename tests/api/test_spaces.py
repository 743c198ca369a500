"""`spec_of`: the contract that the client of an environment finds, without stepping it; and what is read by it."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

import seedbed
from seedbed.common.errors import SpecError, UsageError
from seedbed.common.plugins import Trust
from seedbed.env_client.environments.building import Care, describe, make_environments
from seedbed.spaces import ActionWriter, ObservationReader
from tests.api.environments import Picture
from tests.env_client.environments.odd_spaces import Mixed


@pytest.mark.parametrize("name", ["CartPole-v1", "FrozenLake-v1", "Pendulum-v1", "Blackjack-v1"])
def test_it_is_what_the_client_would_describe(name: str) -> None:
    env = gymnasium.make(name)
    assert seedbed.spec_of(env) == describe(name, "")
    vector = gymnasium.make_vec(name, 2, vectorization_mode="sync")
    assert seedbed.spec_of(vector) == describe(name, "")
    vector.close()


def test_a_mask_in_the_observation_is_found() -> None:
    described = describe("tests.env_client.environments.odd_spaces:Mixed-v0", "", Care(trust=Trust(allow_import=True)))
    assert seedbed.spec_of(Mixed(), name=described.environment) == described
    spec = seedbed.spec_of((spaces.Box(0, 1, (2,)), spaces.Discrete(3)), name="mine", mask=True, frames_per_step=4)
    assert spec.mask_position == 1
    assert spec.frames_per_step == 4


def test_without_a_name_it_is_refused() -> None:
    with pytest.raises(UsageError, match="name="):
        seedbed.spec_of(Mixed())
    with pytest.raises(UsageError, match="name="):
        seedbed.spec_of((spaces.Discrete(2), spaces.Discrete(2)))


def test_spaces_that_are_not_supported_are_refused() -> None:
    with pytest.raises(SpecError, match="supported are"):
        seedbed.spec_of((spaces.Text(3), spaces.Discrete(2)), name="mine")


def test_images_are_shrunk_as_the_client_shrinks_them() -> None:
    """From the environment's own size; those that are small already stay."""
    name = 'tests.api.environments:Picture{"seed":3}@20x30,grey'
    client = make_environments(name, "", [0], 0, Care(trust=Trust(allow_import=True)))
    env = Picture(3)
    spec = seedbed.spec_of(
        env, name="tests.api.environments:Picture", kwargs={"seed": 3}, image_size=(20, 30), grey=True
    )
    assert spec == client.spec
    rows, read = client.reset(), ObservationReader(spec)
    shown = env.reset()[0]
    assert all(map(same, read(shown), rows.observations))
    assert all(map(same, read({**shown, "eye": rows.observations[1][0]}), rows.observations))
    twice = {key: np.stack([value, value]) for key, value in shown.items()}
    assert all(same(array[1:], row) for array, row in zip(read(twice, num=2), rows.observations, strict=True))
    with pytest.raises(SpecError, match="'/eye'"):
        read({**shown, "eye": shown["eye"][:, :, :2]})
    with pytest.raises(SpecError, match="'/eye'"):
        read({**shown, "eye": shown["eye"].astype(np.float32)})


class TestReader:
    def test_rows_are_those_that_the_client_sends(self) -> None:
        """Of one environment and of two, the mask among them."""
        name = "tests.env_client.environments.odd_spaces:Mixed-v0"
        environments = make_environments(name, "", [0], 0, Care(trust=Trust(allow_import=True)))
        env, read = Mixed(), ObservationReader(environments.spec)
        write = ActionWriter(environments.spec)
        rows, shown = environments.reset(), env.reset()[0]
        assert all(map(same, read(shown), rows.observations))
        sent = tuple(spec.sent_high[None].astype(spec.numpy_dtype) for spec in environments.spec.actions)
        rows = environments.step(sent)
        action = write(sent, single=True)
        assert env.action_space.contains(action)
        shown = env.step(action)[0]
        assert all(map(same, read(shown), rows.observations))
        twice = {key: np.stack([value, value]) for key, value in shown.items()}
        two = read(twice, num=2)
        assert all(same(array[1:], row) for array, row in zip(two, rows.observations, strict=True))
        actions = write(tuple(np.concatenate([array, array]) for array in sent), single=False)
        assert {key: value.shape for key, value in actions.items()} == {
            "stick": (2, 2),
            "button": (2,),
            "flags": (2, 2),
        }

    @pytest.mark.parametrize(
        ("change", "words"),
        [
            ({"room": 8}, r"'/room'.*got 8"),
            ({"room": 2}, r"'/room'.*got 2"),
            ({"room": 3.0}, "'/room'"),
            ({"bytes": np.full((2, 3), 256)}, "'/bytes'"),
            ({"bytes": np.zeros((3, 2), np.uint8)}, r"'/bytes'.*got uint8\[3, 2\]"),
            ({"doubles": np.array([0, np.inf])}, "'/doubles'.*finite"),
            ({"action_mask": np.ones(8)}, "action mask.*9 entries"),
            ({"action_mask": np.full(9, 2)}, "action mask"),
        ],
    )
    def test_what_the_contract_does_not_say_is_refused(self, change: dict[str, Any], words: str) -> None:
        read = ObservationReader(seedbed.spec_of(Mixed(), name="mine"))
        shown = Mixed().reset()[0]
        read(shown)
        with pytest.raises(SpecError, match=words):
            read({**shown, **change})

    def test_missing_parts_are_named(self) -> None:
        read = ObservationReader(seedbed.spec_of(Mixed(), name="mine"))
        with pytest.raises(SpecError, match="'/doubles'"):
            read({"bytes": 0})


def same(left: Any, right: Any) -> bool:
    return left.dtype == right.dtype and np.array_equal(left, right)
