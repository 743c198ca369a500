"""The worked example of docs/adding-an-algorithm.md is code that runs, and one file is all that it takes."""

from __future__ import annotations

import re
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest
import torch

from seedbed.common.specs import ArraySpec, EnvironmentSpec
from seedbed.server.algorithms.batch_reading import batch_inputs
from seedbed.server.algorithms.interface import Algorithm
from seedbed.server.algorithms.registry import ALGORITHMS, find_algorithm
from seedbed.server.learning.learner import Learner
from seedbed.server.options.config import ServerConfig
from seedbed.server.options.learning import LearningConfig, OptimiserConfig
from seedbed.server.options.network import NetworkConfig
from seedbed.server.training.recording import record
from tests.reference.acting import CPU, VECTOR, World

PAGE = Path(__file__).resolve().parents[3] / "docs" / "adding-an-algorithm.md"
MLP = NetworkConfig(torso="mlp", core="none", frame_stack=1, precision="float32")


@pytest.fixture
def example(monkeypatch: pytest.MonkeyPatch) -> type[Algorithm]:
    """The first block as the module that it would be, the second carried out."""
    code, registration = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    name = "seedbed.server.algorithms.reinforce"
    module = ModuleType(name)
    monkeypatch.setitem(sys.modules, name, module)
    exec(compile(code, str(PAGE), "exec"), module.__dict__)
    monkeypatch.setitem(ALGORITHMS, "reinforce", "")  # so that the end of the test takes it out
    exec(registration, {"ALGORITHMS": ALGORITHMS})
    return find_algorithm("reinforce")


def config_of(example: type[Algorithm]) -> ServerConfig:
    return ServerConfig(
        algorithm="reinforce",
        algorithm_options=example.Options(return_scale=2.0),
        learning=LearningConfig(unroll_length=5, batch_size=4),
        network=MLP,
    )


def test_it_acts_and_learns(example: type[Algorithm]) -> None:
    """It records with a real policy, and its updates make what was rewarded more likely."""
    config = config_of(example)
    world = World(MLP, observation=VECTOR, make=lambda _, spec: find_algorithm(config.algorithm)(config, spec))
    world.run(40)
    batch = world.batches()[0]
    reward = torch.zeros_like(batch.fields["reward"])
    reward[1:] = (batch.fields["action.action"][:-1] == 2).float()
    fields = {**batch.fields, "reward": reward, "discount": torch.zeros_like(batch.fields["discount"])}

    def likelihood() -> float:
        outputs = world.learner.network.unroll(batch_inputs(batch), batch.state)[0]
        return float(outputs.policy.detach().softmax(-1)[:-1][batch.valid][:, 2].mean())

    before = likelihood()
    for version in range(20):
        versions = torch.full_like(batch.fields["policy_version"], version)
        learnt = replace(batch, fields={**fields, "policy_version": versions})
        assert torch.isfinite(world.learner.update(learnt, 0.0).metrics["loss"])
    assert world.learner.num_updates == 20
    assert likelihood() > before + 0.05


def test_it_takes_any_action_space(example: type[Algorithm]) -> None:
    arrays = (
        ArraySpec(name="/box", dtype="float32", shape=(2,), low=(-1,), high=(1,)),
        ArraySpec(name="/several", dtype="int64", shape=(2,), low=(0,), high=(2, 1), kind="discrete"),
    )
    mask = ArraySpec(name="/mask", dtype="uint8", shape=(5,), low=(0,), high=(1,), kind="binary", role="action_mask")
    spec = EnvironmentSpec(environment="any", observations=(VECTOR, mask), actions=arrays)
    algorithm = find_algorithm("reinforce")(config_of(example), spec)
    learner = Learner(algorithm, OptimiserConfig(), CPU)
    assert torch.isfinite(learner.update(record(algorithm, learner.network, spec), 0.0).metrics["loss"])


def test_the_page_names_everything_that_an_algorithm_says_about_itself() -> None:
    text = PAGE.read_text()
    names = {*Algorithm.__annotations__, *(name for name in vars(Algorithm) if not name.startswith("_"))}
    assert not {name for name in names if f"`{name}" not in text}
