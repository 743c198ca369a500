"""Recorded episodes are whole, and every row in them is the one that was answered."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from seedbed.common.specs import ArraySpec, EnvironmentSpec, discrete
from seedbed.common.timestep import StepType, Timesteps
from seedbed.server.recording.episodes import Episode, EpisodeRecorder, Quota
from seedbed.server.recording.own_rows import in_own_rows
from seedbed.server.shared.slots import SlotTable
from seedbed.server.training.recorded_data import named

FIRST, MID, LAST = map(int, StepType)
SPEC = EnvironmentSpec(
    environment="x",
    observations=(ArraySpec(name="observation", dtype="int32", shape=(2,)),),
    actions=(discrete("action", 100),),
)


class World:
    """Slots 0 to 3 of one lease; an observation says which slot and row it is, an action the same."""

    def __init__(self, share: float = 1.0, quota: Quota | None = None, *, room: int = 1000) -> None:
        self.slots = SlotTable(SPEC, 4)
        self.episodes: list[Episode] = []
        self._room = room
        self.recorder = EpisodeRecorder(self.slots, self._put, share=share, quota=quota)
        self.recorder.begin(np.arange(4), [0, 1, 2, 3])
        self._row = 0

    def _put(self, episode: Episode) -> bool:
        if len(self.episodes) == self._room:
            return False
        self.episodes.append(episode)
        return True

    def step(
        self, types: Sequence[int], *, ended: Sequence[int] = (), lost: Sequence[int] = (), discount: float = 1.0
    ) -> None:
        count = len(types)
        rows = np.stack([np.arange(count), np.full(count, self._row)], 1).astype(np.int32)
        reward = (self._row + 0.25 * np.arange(count)).astype(np.float32)
        timesteps = Timesteps(np.array(types, np.uint8), reward, np.full(count, discount, np.float32), (rows,))
        self.slots.accept(0, count, self._row + 1, timesteps)
        slots = np.arange(count)
        self.slots.answer(slots, [slots * 10 + self._row], 0)
        self.recorder.take(slots, set(ended), set(lost))
        self._row += 1


def test_rows_actions_and_rewards_stand_beside_one_another() -> None:
    world = World()
    world.step([FIRST, FIRST])
    world.step([MID, MID])
    world.step([LAST, MID], ended=[0], discount=0.0)
    world.step([FIRST, LAST], ended=[1])
    first, second = world.episodes
    assert first.observations[0].tolist() == [[0, 0], [0, 1], [0, 2]]
    assert first.actions[0].tolist() == [0, 1]
    assert first.rewards.tolist() == [1.0, 2.0]
    assert first.terminated
    assert second.observations[0][:, 1].tolist() == [0, 1, 2, 3]
    assert second.actions[0].tolist() == [10, 11, 12]
    assert second.rewards.tolist() == [1.25, 2.25, 3.25]
    assert (second.terminated, second.environment_index) == (False, 1)
    assert (world.recorder.whole, world.recorder.cut) == (2, 0)


def test_what_is_cut_is_dropped_and_counted() -> None:
    world = World()
    world.step([FIRST, FIRST, FIRST])
    world.step([MID, LAST, MID], lost=[1])  # the environment in slot 1 broke
    world.step([MID, FIRST, MID])
    world.recorder.end(np.array([2]))  # its client left
    world.step([LAST, MID], ended=[0])
    world.recorder.close()
    assert [episode.environment_index for episode in world.episodes] == [0]
    assert (world.recorder.whole, world.recorder.cut) == (1, 3)


def test_an_episode_without_end_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("seedbed.server.recording.episodes._MOST_BYTES", 40)
    world = World()
    world.step([FIRST])
    for _ in range(5):
        world.step([MID])
    world.step([LAST], ended=[0])
    assert (len(world.episodes), world.recorder.cut) == (0, 1)


@pytest.mark.parametrize("share", [0.1, 0.5])
def test_a_share_is_taken_evenly(share: float) -> None:
    world = World(share)
    for _ in range(200):
        world.step([FIRST] * 4)
        world.step([LAST] * 4, ended=range(4))
    each = [sum(episode.environment_index == index for episode in world.episodes) for index in range(4)]
    assert all(abs(number - 200 * share) <= 2 for number in each)
    assert len({episode.observations[0][0, 1] for episode in world.episodes}) > 300 * share, "not all at the same time"


def test_a_quota_takes_the_first_of_each() -> None:
    """Lost lives are no ends: environment 1 ends each second episode alone."""
    world = World(quota=Quota(num_envs=2, episodes=3))
    for turn in range(5):
        world.step([FIRST, FIRST])
        world.step([LAST, LAST], ended=[0] if turn % 2 == 0 else [0, 1], discount=0.0)
        assert world.recorder.complete.is_set() == (turn >= 1)
    counts = [sum(episode.environment_index == index for episode in world.episodes) for index in range(2)]
    assert counts == [2, 2]


def test_whole_ones_without_room_are_counted() -> None:
    world = World(room=1)
    for _ in range(3):
        world.step([FIRST])
        world.step([LAST], ended=[0])
    assert (world.recorder.whole, world.recorder.left_out) == (1, 2)


def test_one_of_several_tasks_has_its_own_rows() -> None:
    """What a client filled up is cut down again: channels, numbers, entries of the mask."""
    from seedbed.common.specs import action_mask
    from seedbed.env_client.environments.filled_up import fill_up

    def spec(channels: int, numbers: int, actions: int, *, mask: bool) -> EnvironmentSpec:
        action = (discrete("action", actions),)
        shown = (
            ArraySpec(name="/eye", dtype="uint8", shape=(3, 4, channels)),
            ArraySpec(name="/arm", dtype="float32", shape=(numbers,)),
        )
        return EnvironmentSpec(
            environment="x", observations=(*shown, *([action_mask(action)] if mask else [])), actions=action
        )

    joint = spec(3, 5, 7, mask=True)
    random = np.random.default_rng(0)
    for masked in (True, False):
        own = spec(1, 2, 4, mask=masked)
        arrays = tuple(random.integers(0, 2, (6, *array.shape)).astype(array.dtype) for array in own.observations)
        passed = Episode(
            environment_index=0,
            task=1,
            observations=fill_up(arrays, own, joint),
            actions=(np.zeros(5, np.int64),),
            rewards=np.zeros(5, np.float32),
            terminated=True,
        )
        cut = in_own_rows(passed, own, joint)
        assert len(cut.observations) == len(arrays)
        for ours, theirs in zip(arrays, cut.observations, strict=True):
            assert ours.dtype == theirs.dtype
            assert np.array_equal(ours, theirs)


@pytest.mark.parametrize(
    ("dataset", "word", "expected"),
    [
        ("seedbed/pong-v0", "", "seedbed/pong-v0"),
        ("seedbed/pong-v0", "learner1", "seedbed/pong-learner1-v0"),
        ("a-v12", "ALE/Pong v5", "a-ALE-Pong-v5-v12"),
    ],
)
def test_names_of_several_data_sets(dataset: str, word: str, expected: str) -> None:
    assert named(dataset, word) == expected
