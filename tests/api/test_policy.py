"""A loaded policy acts as the server does: both are shown the same episodes, one by values and one by its wire."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces

import seedbed
from seedbed.common.errors import ConfigError, DivergedError, SpecError, UsageError
from seedbed.common.options import override, to_json
from seedbed.env_client.environments.building import make_environments
from seedbed.env_client.environments.rows import Environments
from seedbed.loading import load
from seedbed.policy import Memory, Policy
from seedbed.server.options.config import ServerConfig
from seedbed.server.run.checkpoint import CheckpointStore
from seedbed.server.run.directory import RunDirectory, RunFile
from seedbed.server.run.state import RunState
from seedbed.server.training.assemble import Parts, assemble
from seedbed.server.training.resolve import defaults_of
from tests.api.environments import Recorder

VECTOR = spaces.Box(-np.inf, np.inf, (3,), np.float32)
IMAGE = spaces.Box(0, 255, (24, 20), np.uint8)
COLOUR = spaces.Box(0, 255, (24, 20, 3), np.uint8)
DICT = spaces.Dict({"arm": VECTOR, "pair": spaces.Tuple((spaces.Box(-1, 1, (2, 2), np.float64), VECTOR))})
ACTIONS = spaces.Dict(
    {
        "go": spaces.Discrete(3, start=4),
        "more": spaces.Tuple((spaces.MultiDiscrete([3, 2], np.int32), spaces.MultiBinary(3))),
        "push": spaces.Box(np.array([-2.0, 0.0]), np.array([5.0, 0.5]), dtype=np.float64),
    }
)
MASKED = spaces.Dict({"arm": VECTOR, "action_mask": spaces.MultiBinary(5)})
MLP = {"network.torso": "mlp", "network.precision": "float32", "network.frame_stack": 1}
CONV = {"network.torso": "impala_shallow"}
LSTM = {"network.core": "lstm", "network.core_size": 16}
GTRXL = {"network.core": "gtrxl", "network.core_size": 16, "network.core_memory": 3}
SQUASHED = {
    "algorithm_options.squash": True,
    "algorithm_options.deviation": "each",
    "algorithm_options.separate_value_torso": True,
}

# observation space, action space, entries of a mask in info, algorithm, other options
CASES: dict[str, tuple[Any, Any, int, str, dict[str, Any]]] = {
    "vector": (VECTOR, spaces.Discrete(5), 0, "vtrace", MLP),
    "stacked vectors": (VECTOR, spaces.Discrete(5), 0, "vtrace", {**MLP, "network.frame_stack": 3}),
    "lstm": (VECTOR, spaces.Discrete(5), 0, "vtrace", {**MLP, **LSTM}),
    "gtrxl": (
        VECTOR,
        spaces.Discrete(5),
        0,
        "vtrace",
        {**MLP, **GTRXL, "network.core_memory_precision": "bfloat16", "algorithm_options.separate_value_torso": True},
    ),
    "image": (IMAGE, spaces.Discrete(6), 0, "vtrace", CONV),
    "lstm over images": (COLOUR, spaces.Discrete(6), 0, "a2c", {**CONV, **LSTM, "network.frame_stack": 2}),
    "q-values": (VECTOR, spaces.Discrete(5, start=-2), 0, "apex", MLP),
    "q-values with lstm": (IMAGE, spaces.Discrete(5), 0, "r2d2", {**CONV, **LSTM}),
    "box": (VECTOR, spaces.Box(-3, 1, (2, 2), np.float32), 0, "ppo", {**MLP, **LSTM}),
    "squashed box, two memories": (
        VECTOR,
        spaces.Box(-3, 1, (2, 2), np.float32),
        0,
        "vtrace",
        {**MLP, **LSTM, **SQUASHED},
    ),
    "everything": (DICT, ACTIONS, 0, "ppo", {**MLP, **LSTM, "network.frame_stack": 2}),
    "mask in the observation": (MASKED, spaces.MultiDiscrete([3, 2]), 0, "ppo", MLP),
    "mask in info": (VECTOR, spaces.Discrete(6), 6, "r2d2", {**MLP, **LSTM}),
}


class Both:
    """A run with scrambled parameters: the inside of its server with one environment, and its folder."""

    def __init__(self, case: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        shown, taken, mask, algorithm, options = CASES[case]
        self.env = Recorder(copy.deepcopy(shown), copy.deepcopy(taken), mask)
        monkeypatch.setitem(
            gymnasium.registry,
            "Recorder-v0",
            gymnasium.envs.registration.EnvSpec(
                "Recorder-v0", entry_point=self._make, order_enforce=False, disable_env_checker=True
            ),
        )
        self.environments: Environments = make_environments("Recorder-v0", "", [0], run_seed=0)
        values = {"environment.env": "Recorder-v0", "environment.seed": 7, "run.train": False, "run.device": "cpu"}
        self.config: ServerConfig = override(defaults_of(algorithm), {**values, "fleet.num_envs": 1, **options})
        self.folder = folder
        self._save()

    def _make(self, **_: Any) -> Recorder:
        return self.env

    def _save(self) -> None:
        """A run directory whose only checkpoint has parameters with which policies differ from row to row."""
        learner = assemble(self.config, self.environments.spec).learner
        torch.manual_seed(5)
        with torch.no_grad():
            for parameter in learner.learnt.parameters():
                if parameter.dim() > 1:  # larger biases would drown the rows
                    parameter.add_(0.2 * torch.randn_like(parameter))
        self.state = RunState(agent_steps=1234, learner=copy.deepcopy(learner.get_state()))
        directory = RunDirectory(self.folder)
        directory.write(RunFile(to_json(self.config), self.environments.spec, "0"))
        CheckpointStore(directory.checkpoints).save(self.state.to_checkpoint())

    def serve(self, turns: int, *, greedy: bool) -> list[Any]:
        """Steps the environment by the server's answers. Returns the actions that it took."""
        parts: Parts = assemble(
            self.config, self.environments.spec, self.state, greedy_environments=range(1 if greedy else 0)
        )
        slot = np.zeros(1, np.int64)
        parts.slots.clear(0, 1)
        parts.inference.begin(slot, 1, [0])
        rows = self.environments.reset()
        for turn in range(turns):
            parts.slots.accept(0, 1, turn + 1, rows)
            answered = parts.inference.act(slot)
            parts.sink.hand_over(parts.inference.remember(answered))
            rows = self.environments.step(tuple(table[:1].copy() for table in parts.slots.actions))
        return self.env.taken

    def act(self, policy: Policy, *, greedy: bool) -> list[Any]:
        """The policy's answers to all that the environment showed; those that end an episode are left out."""
        actions = []
        memory = policy.initial_memory()
        for row, (observation, reward, first, mask) in enumerate(self.env.shown):
            if first:
                memory = policy.initial_memory()
            last = row + 1 == len(self.env.shown) or self.env.shown[row + 1][2]
            if last and not greedy:  # the server answers these too, and draws
                mask = None if mask is None else np.ones_like(mask)
            action, memory = policy.act(observation, memory, reward, mask, greedy)
            if not last:
                actions.append(action)
        return actions


@pytest.fixture
def both(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Both:
    return Both(request.param, tmp_path, monkeypatch)


def equal(left: Any, right: Any) -> bool:
    """Bit by bit, whatever containers; types too."""
    if isinstance(left, dict):
        return left.keys() == right.keys() and all(equal(left[key], right[key]) for key in left)
    if isinstance(left, tuple):
        return len(left) == len(right) and all(map(equal, left, right))
    left, right = np.asarray(left), np.asarray(right)
    return left.dtype == right.dtype and np.array_equal(left, right)


@pytest.mark.parametrize("both", CASES, indirect=True)
@pytest.mark.parametrize("greedy", [True, False])
def test_actions_are_those_of_the_server(both: Both, greedy: bool) -> None:
    served = both.serve(40, greedy=greedy)
    acted = both.act(load(both.folder, seed=7), greedy=greedy)
    assert len(served) == len(acted) > 25
    assert len({repr(action) for action in served}) > 1, "a policy that always does the same proves nothing"
    assert [number for number, pair in enumerate(zip(served, acted, strict=True)) if not equal(*pair)] == []


@pytest.mark.parametrize("both", ["lstm over images", "everything", "mask in info"], indirect=True)
def test_several_environments_at_once_act_as_each_alone(both: Both) -> None:
    both.serve(30, greedy=True)
    policy = load(both.folder)
    shown = both.env.shown
    alone = []  # three rows of episodes of different lengths, out of one record
    for start in (0, 4, 10):
        while not shown[start][2]:
            start += 1
        memory, answers = policy.initial_memory(), []
        for observation, reward, first, mask in shown[start : start + 12]:
            memory = policy.initial_memory() if first else memory
            action, memory = policy.act(observation, memory, reward, mask)
            answers.append((observation, reward, first, mask, action))
        alone.append(answers)
    memory = policy.initial_memory(3)
    for rows in zip(*alone, strict=True):
        observations, rewards, firsts, masks, actions = zip(*rows, strict=True)
        memory = memory.restarted(np.array(firsts))
        together, memory = policy.act(
            stacked(observations), memory, np.array(rewards), None if masks[0] is None else np.stack(masks)
        )
        assert close(together, stacked(actions))


def stacked(values: Any) -> Any:
    """As Gymnasium's vectors show several of a space."""
    if isinstance(values[0], dict):
        return {key: stacked([value[key] for value in values]) for key in values[0]}
    if isinstance(values[0], tuple):
        return tuple(stacked(part) for part in zip(*values, strict=True))
    return np.stack(values)


def close(left: Any, right: Any) -> bool:
    """Equal up to the order of sums in larger batches."""
    if isinstance(left, dict):
        return all(close(left[key], right[key]) for key in right)
    if isinstance(left, tuple):
        return all(map(close, left, right))
    return left.dtype == right.dtype and np.allclose(left, right, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("both", ["lstm"], indirect=True)
class TestMemory:
    def test_it_is_a_value(self, both: Both) -> None:
        policy = load(both.folder)
        observation = np.ones(3, np.float32)
        _, memory = policy.act(observation, policy.initial_memory())
        once, after = policy.act(observation, memory, 1.0)
        policy.act(-observation, after, 1.0)
        again, _ = policy.act(observation, memory, 1.0)
        assert equal(once, again)

    def test_other_random_numbers_of_this_process_stay(self, both: Both) -> None:
        torch.manual_seed(3)
        expected = torch.rand(1)
        torch.manual_seed(3)
        policy = load(both.folder)
        policy.act(np.ones(3, np.float32), policy.initial_memory(), greedy=False)
        assert torch.equal(torch.rand(1), expected)

    def test_reward_is_demanded_where_it_is_read(self, both: Both) -> None:
        policy = load(both.folder)
        observation = np.ones(3, np.float32)
        _, memory = policy.act(observation, policy.initial_memory())
        with pytest.raises(UsageError, match="reward="):
            policy.act(observation, memory)
        with pytest.raises(UsageError, match="finite"):
            policy.act(observation, memory, float("nan"))


@pytest.mark.parametrize("both", ["vector"], indirect=True)
class TestMistakes:
    @pytest.mark.parametrize(
        ("observation", "words"),
        [
            (np.ones(4, np.float32), r"expected float32\[3\], got float32\[4\]"),
            (np.ones((1, 3), np.float32), r"expected float32\[3\], got float32\[1, 3\]"),
            (np.array([1, 2, np.nan]), "finite"),
            ({"arm": np.ones(3)}, "expected float32"),
            ("left", "expected float32"),
        ],
    )
    def test_wrong_observations_are_named(self, both: Both, observation: Any, words: str) -> None:
        policy = load(both.folder)
        with pytest.raises(SpecError, match=words):
            policy.act(observation, policy.initial_memory())

    def test_a_mask_without_a_contract(self, both: Both) -> None:
        policy = load(both.folder)
        with pytest.raises(UsageError, match="mask"):
            policy.act(np.ones(3), policy.initial_memory(), mask=np.ones(5))

    def test_actions_that_are_not_finite(self, tmp_path: Path, both: Both, monkeypatch: pytest.MonkeyPatch) -> None:
        box = Both("box", tmp_path / "box", monkeypatch)
        policy = load(box.folder)
        for parameter in policy._network.parameters():
            parameter.fill_(float("nan"))
        with pytest.raises(DivergedError):
            policy.act(np.ones(3), policy.initial_memory())

    def test_no_run_and_no_checkpoint(self, both: Both, tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match=r"config\.json"):
            load(tmp_path.parent / "nowhere")
        with pytest.raises(ConfigError, match="best checkpoint"):
            load(both.folder, best=True)
        (checkpoint,) = (both.folder / "checkpoints").iterdir()
        assert load(checkpoint).agent_steps == 1234
        checkpoint.rename(tmp_path.parent / checkpoint.name)
        with pytest.raises(ConfigError, match="none yet"):
            load(both.folder)


@pytest.mark.parametrize("both", ["mask in info"], indirect=True)
def test_mask_is_demanded_where_the_contract_has_one(both: Both) -> None:
    policy = load(both.folder)
    with pytest.raises(UsageError, match="mask="):
        policy.act(np.ones(3), policy.initial_memory())
    with pytest.raises(SpecError, match="6 entries"):
        policy.act(np.ones(3), policy.initial_memory(), mask=np.ones(5))
    only = np.array([0, 0, 0, 1, 0, 0])
    for number in range(10):
        action, _ = policy.act(np.full(3, number), policy.initial_memory(), mask=only, greedy=bool(number % 2))
        assert action == 3


@pytest.mark.parametrize("both", ["image"], indirect=True)
def test_what_is_said_about_a_policy(both: Both) -> None:
    policy = seedbed.load(str(both.folder))
    assert isinstance(policy, Policy)
    assert (policy.algorithm, policy.agent_steps, policy.evaluates_greedily) == ("vtrace", 1234, False)
    assert policy.spec == both.environments.spec
    assert isinstance(policy.initial_memory(), Memory)
    with pytest.raises(SpecError, match="uint8"):
        policy.act(np.ones((24, 20)), policy.initial_memory())
