"""The worked example of docs/adding-an-algorithm.md is code that runs."""

from __future__ import annotations

import re
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from seedbed.server.algorithms.interface import Algorithm, batch_inputs
from seedbed.server.algorithms.registry import ALGORITHMS, make_algorithm
from seedbed.server.options.config import NetworkConfig, ServerConfig
from tests.reference.acting import VECTOR, World

PAGE = Path(__file__).resolve().parents[3] / "docs" / "adding-an-algorithm.md"
MLP = NetworkConfig(torso="mlp", core="none", frame_stack=1, precision="float32")


@pytest.fixture
def example(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The first block as a module, the second carried out."""
    code, registration = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    module = ModuleType("worked_example")
    monkeypatch.setitem(sys.modules, "worked_example", module)
    exec(compile(code, str(PAGE), "exec"), module.__dict__)
    monkeypatch.delitem(ALGORITHMS, "reinforce", raising=False)
    monkeypatch.setitem(ALGORITHMS, "reinforce", None)  # so that the end of the test takes it out again
    exec(registration, {"ALGORITHMS": ALGORITHMS, "Reinforce": module.__dict__["Reinforce"]})
    return module


@pytest.mark.usefixtures("example")
def test_it_acts_and_learns() -> None:
    """It records with a real policy, and its updates make what was rewarded more likely."""
    config: Any = replace(ServerConfig(), algorithm="reinforce", network=MLP)  # type: ignore[arg-type]
    world = World(
        MLP, observation=VECTOR, make=lambda learning, _, spec: make_algorithm(replace(config, learning=learning), spec)
    )
    world.run(40)
    batch = world.batches()[0]
    reward = torch.zeros_like(batch.fields["reward"])
    reward[1:] = (batch.fields["action.action"][:-1] == 2).float()
    fields = {**batch.fields, "reward": reward, "discount": torch.zeros_like(batch.fields["discount"])}

    def likelihood() -> float:
        inputs = world.learner.network.unroll(batch_inputs(batch), batch.state)[0]
        return float(inputs.logits.detach().softmax(-1)[:-1][batch.valid][:, 2].mean())

    before = likelihood()
    for version in range(20):
        versions = torch.full_like(batch.fields["policy_version"], version)
        learnt = replace(batch, fields={**fields, "policy_version": versions})
        assert torch.isfinite(world.learner.update(learnt, 0.0).metrics["loss"])
    assert world.learner.num_updates == 20
    assert likelihood() > before + 0.05


def test_the_page_names_everything_that_an_algorithm_says_about_itself() -> None:
    text = PAGE.read_text()
    names = {*Algorithm.__annotations__, *(name for name in vars(Algorithm) if not name.startswith("_"))}
    assert not {name for name in names if f"`{name}" not in text}
