"""Rows of timesteps: episode ends, reuse of arrays, seeds, ids and spaces."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from seedbed.common.errors import SpecError, UsageError
from seedbed.common.plugins import Trust
from seedbed.common.specs import ArraySpec, EnvironmentSpec
from seedbed.common.timestep import EpisodeEnd, StepType
from seedbed.env_client.environments.building import Care, describe, make_environments
from seedbed.env_client.environments.interface import Environment, Row, Status
from seedbed.env_client.environments.registry import environment_seed
from seedbed.env_client.environments.rows import Environments
from seedbed.env_client.environments.supervised import Supervised

gymnasium = pytest.importorskip("gymnasium")

FIRST, MID, LAST = StepType.FIRST, StepType.MID, StepType.LAST


class Scripted:
    """Ends steps as told: one (reward, status) for each step; shows how many resets and steps it has had."""

    def __init__(self, script: list[tuple[float, Status]]) -> None:
        self._script = iter(script)
        self.calls: list[str] = []
        self.frames = 0
        self.spec = EnvironmentSpec(
            environment="scripted",
            observations=(
                ArraySpec(name="calls", dtype="int32", shape=(2,)),
                ArraySpec(name="last_action", dtype="int64"),
            ),
            actions=(ArraySpec(name="action", dtype="int64", low=(0,), high=(99,), kind="discrete"),),
        )

    def reset(self, observation: Row) -> None:
        self.calls.append("reset")
        self._show(observation, -1)

    def step(self, action: Row, observation: Row) -> tuple[float, Status]:
        self.calls.append(f"step {int(action[0])}")
        self.frames += 4
        self._show(observation, int(action[0]))
        return next(self._script)

    def close(self) -> None:
        self.calls.append("close")

    def _show(self, observation: Row, action: int) -> None:
        observation[0][...] = [self.calls.count("reset"), len(self.calls)]
        observation[1][...] = action


def seated(*environments: Environment) -> Environments:
    return Environments(
        [Supervised(index, [environment].__getitem__) for index, environment in enumerate(environments)]
    )


def play(environment: Environment, num_steps: int) -> list[tuple[Any, ...]]:
    environments = seated(environment)
    tape = []
    rows = environments.reset()
    for step in range(num_steps + 1):
        tape.append((StepType(rows.step_type[0]), rows.reward[0], rows.discount[0], *rows.episode_ends))
        rows = environments.step((np.array([step]),))
    return tape


def test_terminated_truncated_and_lost_life() -> None:
    environment = Scripted(
        [
            (1.0, Status.RUNNING),
            (2.0, Status.LIFE_LOST),
            (3.0, Status.RUNNING),
            (4.0, Status.TERMINATED),
            (5.0, Status.TRUNCATED),
            (6.0, Status.RUNNING),
        ]
    )
    assert play(environment, 8) == [
        (FIRST, 0, 1),
        (MID, 1, 1),
        (LAST, 2, 0),  # a lost life: no real end, so no EpisodeEnd
        (FIRST, 0, 1),
        (MID, 3, 1),
        (LAST, 4, 0, EpisodeEnd(0, 10.0, 4, 16)),
        (FIRST, 0, 1),
        (LAST, 5, 1, EpisodeEnd(0, 5.0, 1, 20, truncated=True)),
        (FIRST, 0, 1),
    ]
    # Actions 2, 5 and 7 answered LAST rows and were ignored.
    assert ", ".join(environment.calls) == "reset, step 0, step 1, reset, step 3, step 4, reset, step 6, reset, step 8"


def test_rows_are_independent_and_get_their_own_action() -> None:
    ends_at_once = Scripted([(1.0, Status.TERMINATED)] * 3)
    runs = Scripted([(2.0, Status.RUNNING)] * 5)
    environments = seated(ends_at_once, runs)
    environments.reset()
    rows = environments.step((np.array([10, 20]),))
    assert rows.observations[1].tolist() == [10, 20]
    assert rows.step_type.tolist() == [LAST, MID]
    rows = environments.step((np.array([11, 21]),))
    assert rows.observations[1].tolist() == [-1, 21]
    assert rows.step_type.tolist() == [FIRST, MID]
    assert rows.reward.tolist() == [0, 2]
    assert rows.discount.tolist() == [1, 1]
    assert rows.observations[0].tolist() == [[2, 3], [1, 3]]


def test_group_reset_starts_real_episodes_and_forgets_their_returns() -> None:
    environment = Scripted([(1.0, Status.RUNNING), (7.0, Status.TERMINATED)])
    environments = seated(environment)
    environments.reset()
    environments.step((np.array([0]),))
    rows = environments.reset()
    assert rows.step_type.tolist() == [FIRST]
    assert rows.reward.tolist() == [0]
    rows = environments.step((np.array([0]),))
    assert rows.episode_ends == (EpisodeEnd(0, 7.0, 1, 8),)


def test_arrays_are_allocated_once() -> None:
    environments = make_environments("seedbed/Catch-v0", "", [0, 1], 0)
    first, second = environments.reset(), environments.step((np.zeros(2, np.int64),))
    assert first.observations[0] is second.observations[0]
    assert first.reward is second.reward


def test_close_closes_all() -> None:
    built = [Scripted([]), Scripted([])]
    seated(*built).close()
    assert [environment.calls for environment in built] == [["close"], ["close"]]


def test_seeds_depend_on_run_and_index_alone() -> None:
    seeds = {environment_seed(run, index) for run in range(20) for index in range(50)}
    assert len(seeds) == 1000
    assert all(0 <= seed < 2**32 for seed in seeds)
    pair = make_environments("seedbed/Catch-v0", "", [3, 8], run_seed=5).reset().observations[0]
    alone = make_environments("seedbed/Catch-v0", "", [8], run_seed=5).reset().observations[0]
    np.testing.assert_array_equal(pair[1], alone[0])


def test_seed_of_each_environment_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    make_environments("seedbed/Catch-v0", "", [3, 4], run_seed=5)
    seeds = {index: environment_seed(5, index) for index in (3, 4)}
    (record,) = caplog.records
    assert record.getMessage() == f"seedbed/Catch-v0, seed of each environment index: {seeds}"


def test_gymnasium_steps_equal_gymnasium() -> None:
    ours = make_environments("CartPole-v1", "modern", [6], run_seed=2)
    theirs = gymnasium.make("CartPole-v1")
    rows = ours.reset()
    expected, _ = theirs.reset(seed=environment_seed(2, 6))
    rng = np.random.default_rng(0)
    num_ends = 0
    for _ in range(300):
        np.testing.assert_array_equal(rows.observations[0][0], expected)
        action = int(rng.integers(2))
        rows = ours.step((np.array([action]),))
        if num_ends and rows.step_type[0] == FIRST:
            expected, _ = theirs.reset()
            continue
        expected, reward, terminated, _, _ = theirs.step(action)
        assert rows.reward[0] == reward
        assert (rows.step_type[0] == LAST) == terminated
        num_ends += terminated
    assert num_ends > 5
    assert ours.spec.preset == ""
    theirs.close()


class Odd(gymnasium.core.Env):  # type: ignore[name-defined]
    """Discrete observations and actions that do not start at 0; truncates after three steps, then both at once."""

    observation_space = gymnasium.spaces.Discrete(5, start=10)
    action_space = gymnasium.spaces.Discrete(3, start=-1)

    def __init__(self, both: bool = False) -> None:
        self._both = both

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self._steps = 0
        return 10, {}

    def step(self, action: int) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        assert self.action_space.contains(action)
        self._steps += 1
        return 11 + action, float(action), self._both and self._steps == 3, self._steps == 3, {}


@pytest.fixture(autouse=True)
def odd_environments() -> Any:
    before = dict(gymnasium.registry)
    gymnasium.register("Odd-v0", entry_point=Odd)
    gymnasium.register("Both-v0", entry_point=Odd, kwargs={"both": True})
    yield
    gymnasium.registry.clear()
    gymnasium.registry.update(before)


def test_offsets_of_discrete_actions_do_not_travel_and_observations_are_as_shown() -> None:
    environments = make_environments("Odd-v0", "", [0, 1], 0)
    assert environments.spec.num_actions == 3
    assert environments.spec.observations[0].num_values == (5,)
    assert environments.reset().observations[0].tolist() == [10, 10]
    rows = environments.step((np.array([0, 2]),))
    assert rows.observations[0].tolist() == [10, 12]
    assert rows.reward.tolist() == [-1, 1]


@pytest.mark.parametrize(("environment_id", "discount"), [("Odd-v0", 1), ("Both-v0", 0)])
def test_truncation_keeps_the_discount_unless_terminated_too(environment_id: str, discount: int) -> None:
    environments = make_environments(environment_id, "", [0], 0)
    environments.reset()
    for _ in range(3):
        rows = environments.step((np.array([1]),))
    assert rows.step_type.tolist() == [LAST]
    assert rows.discount.tolist() == [discount]
    assert rows.episode_ends == (EpisodeEnd(0, 0.0, 3, 3, truncated=discount == 1),)


@pytest.mark.parametrize(
    ("environment_id", "message"),
    [
        ("CartPole-v9", "CartPole-v9.*CartPole-v1"),
        ("CartPool-v1", "did you mean CartPole-v1"),
        ("seedbed/Cache-v0", "did you mean seedbed/Catch-v0"),
        ("seedbed/Catch-v0,length=3", "expected options out of reward_scale, mirrored, got .length=3."),
        ("ALE/Pogn-v5", "did you mean ALE/Pong-v5"),
        ("Pogn", "did you mean ALE/Pong-v5"),
        ("seedbed/MemoryChain-v0,length=1", "at least 2"),
    ],
)
def test_unknown_ids_name_the_nearest(environment_id: str, message: str) -> None:
    with pytest.raises(SpecError, match=message):
        describe(environment_id, "modern")


def test_ids_that_import_are_refused_unless_allowed(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "tempting.py").write_text(
        "import gymnasium\nfrom tests.env_client.environments.test_rows import Odd\n"
        "gymnasium.register('Tempting-v0', entry_point=Odd)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(UsageError, match="--allow-import"):
        describe("tempting:Tempting-v0", "")
    assert "Tempting-v0" not in gymnasium.registry
    trusting = Care(trust=Trust(allow_import=True))
    assert describe("tempting:Tempting-v0", "", trusting).environment == "tempting:Tempting-v0"


def test_game_name_is_an_alias() -> None:
    pytest.importorskip("ale_py")
    assert describe("Pong", "modern") == describe("ALE/Pong-v5", "modern")
    assert describe("Pong", "modern").environment == "ALE/Pong-v5"


def test_lost_life_reaches_the_rows() -> None:
    pytest.importorskip("ale_py")
    environments = make_environments("Breakout", "paper", [0], 1)
    rows = environments.reset()
    rng = np.random.default_rng(0)
    lives = 1
    total = 0.0
    while not rows.episode_ends:
        previous = rows.observations[0].copy() if rows.step_type[0] == LAST else None
        rows = environments.step((rng.integers(environments.spec.num_actions, size=1),))
        total += float(rows.reward[0])
        if previous is not None:
            lives += 1
            assert (rows.step_type[0], rows.reward[0], rows.discount[0]) == (FIRST, 0, 1)
            np.testing.assert_array_equal(rows.observations[0], previous)
        if rows.step_type[0] == LAST:
            assert rows.discount[0] == 0
    assert lives == 5
    (end,) = rows.episode_ends
    assert end.episode_return == total
    assert end.steps * 4 - 3 <= end.frames <= end.steps * 4 + 30
