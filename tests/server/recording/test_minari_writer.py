"""Data sets that Minari itself loads: what was recorded, in the environment's own layout and units."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from seedbed.common.errors import BrokenError, UsageError
from seedbed.common.specs import EnvironmentSpec, action_mask
from seedbed.env_client.environments.random_actions import some_action
from seedbed.env_client.environments.spaces import action_specs, observation_specs
from seedbed.server.recording.episodes import Episode

minari = pytest.importorskip("minari", reason="the extra data is not installed")
pytest.importorskip("h5py", reason="the extra data is not installed")
spaces = pytest.importorskip("gymnasium").spaces
writing = pytest.importorskip("seedbed.server.recording.minari_writer")

SHOWN = spaces.Dict(
    {
        "eye": spaces.Box(0, 255, (8, 6, 3), np.uint8),
        "arm": spaces.Tuple((spaces.Box(-np.inf, np.inf, (3,), np.float64), spaces.Discrete(4, start=2))),
        "bits": spaces.MultiBinary(3),
        "grid": spaces.MultiDiscrete([3, 5]),
    }
)
TAKEN = spaces.Dict(
    {
        "go": spaces.Discrete(3, start=4),
        "more": spaces.Tuple((spaces.MultiDiscrete([3, 2], np.int32), spaces.MultiBinary(3))),
        "push": spaces.Box(np.array([-2.0, 0.0]), np.array([5.0, 0.5]), dtype=np.float64),
    }
)
ID = "seedbed/everything-v0"
ABOUT = writing.About(algorithm="vtrace", description="a test")


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    return tmp_path


def spec_of(shown: Any, taken: Any, *, mask: bool = False, name: str = "mine:make") -> EnvironmentSpec:
    actions = action_specs(taken)
    observations = observation_specs(shown, actions)
    return EnvironmentSpec(
        environment=name, observations=(*observations, *([action_mask(actions)] if mask else [])), actions=actions
    )


def an_episode(spec: EnvironmentSpec, steps: int, seed: int, *, terminated: bool = True) -> Episode:
    random = np.random.default_rng(seed)
    observations = []
    for array in spec.observations:
        low, high = (np.clip(bound, -5, 255) for bound in (array.lower, array.upper))
        values = random.uniform(low, high, (steps + 1, *array.shape))
        observations.append((values if array.dtype == "float32" else np.rint(values)).astype(array.dtype))
    actions = [some_action(spec, tuple(array[0] for array in observations), random) for _ in range(steps)]
    return Episode(
        environment_index=seed,
        observations=tuple(observations),
        actions=tuple(map(np.stack, zip(*actions, strict=True))),
        rewards=random.normal(size=steps).astype(np.float32),
        terminated=terminated,
    )


def write(spec: EnvironmentSpec, episodes: list[Episode], *, goes_on: bool = False) -> Any:
    writer = writing.MinariWriter(ID, spec, ABOUT, goes_on=goes_on)
    assert all(writer.put(episode) for episode in episodes)
    writer.close()
    assert (writer.episodes, writer.steps) == (len(episodes), sum(len(episode.rewards) for episode in episodes))
    return minari.load_dataset(ID)


def test_every_kind_of_space(place: Path) -> None:
    spec = spec_of(SHOWN, TAKEN)
    episodes = [an_episode(spec, steps, seed, terminated=seed != 1) for seed, steps in enumerate((4, 7, 1))]
    dataset = write(spec, episodes)
    assert dataset.action_space == TAKEN
    for recorded, episode in zip(episodes, dataset, strict=True):
        shown = dict(zip((array.name for array in spec.observations), recorded.observations, strict=True))
        assert np.array_equal(episode.observations["eye"], shown["/eye"]), "an image is kept as it is"
        assert np.allclose(episode.observations["arm"][0], shown["/arm[0]"])
        assert np.array_equal(episode.observations["arm"][1], shown["/arm[1]"])
        assert np.array_equal(episode.observations["bits"], shown["/bits"])
        assert np.array_equal(episode.observations["grid"], shown["/grid"])
        assert np.array_equal(episode.rewards, recorded.rewards)
        assert np.array_equal(episode.actions["go"], recorded.actions[0] + 4)
        push = episode.actions["push"]
        assert np.allclose(
            push, np.array([-2.0, 0.0]) + (recorded.actions[3].astype(np.float64) + 1) / 2 * np.array([7.0, 0.5])
        )
        for t in range(len(episode.rewards)):
            action = {
                "go": episode.actions["go"][t],
                "more": tuple(part[t] for part in episode.actions["more"]),
                "push": push[t],
            }
            assert TAKEN.contains(action)
        ends = [0] * (len(episode.rewards) - 1) + [1]
        assert episode.terminations.astype(int).tolist() == [end * recorded.terminated for end in ends]
        assert episode.truncations.astype(int).tolist() == [end * (not recorded.terminated) for end in ends]


def test_a_mask_beside_the_observation_is_information() -> None:
    spec = spec_of(spaces.Box(-1, 1, (2,)), spaces.Discrete(3), mask=True)
    episode = an_episode(spec, 5, 0)
    (loaded,) = write(spec, [episode])
    assert np.array_equal(loaded.infos["action_mask"], episode.observations[1])


def test_a_run_that_goes_on_adds_to_its_data_set() -> None:
    spec = spec_of(spaces.Box(-1, 1, (2,)), spaces.Discrete(3), name="CartPole-v1")
    write(spec, [an_episode(spec, 3, 0)])
    with pytest.raises(UsageError, match=f"{ID} is there already"):
        write(spec, [])
    dataset = write(spec, [an_episode(spec, 4, 1)], goes_on=True)
    assert [len(episode.rewards) for episode in dataset] == [3, 4]
    assert dataset.env_spec.id == "CartPole-v1"
    with pytest.raises(UsageError, match="expected the spaces of this run"):
        write(spec_of(spaces.Box(-1, 1, (3,)), spaces.Discrete(3)), [], goes_on=True)


@pytest.mark.parametrize("name", ["pong", "a b-v0", "a/b-v0", "../x-v0", "/x-v0", "x-v0/y"])
def test_names(name: str) -> None:
    with pytest.raises(UsageError, match="expected a Minari id like"):
        writing.MinariWriter(name, spec_of(spaces.Box(-1, 1, (2,)), spaces.Discrete(3)), ABOUT, goes_on=False)


def test_a_disk_that_fails_costs_the_data_set_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(writing.minari, "create_dataset_from_buffers", fail)
    monkeypatch.setattr(writing, "_CHUNK_EPISODES", 1)
    spec = spec_of(spaces.Box(-1, 1, (2,)), spaces.Discrete(3))
    writer = writing.MinariWriter(ID, spec, ABOUT, goes_on=False)
    writer.put(an_episode(spec, 3, 0))
    with pytest.raises(BrokenError, match="no space left"):
        writer.close()
    assert not writer.put(an_episode(spec, 3, 0))


def test_what_waits_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writing, "_MOST_WAITING_BYTES", 0)
    monkeypatch.setattr(writing, "_CHUNK_S", 60.0)
    spec = spec_of(spaces.Box(-1, 1, (2,)), spaces.Discrete(3))
    writer = writing.MinariWriter(ID, spec, ABOUT, goes_on=False)
    assert writer.put(an_episode(spec, 3, 0))
    assert not writer.put(an_episode(spec, 3, 0))
    writer.close()
