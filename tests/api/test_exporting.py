"""An exported policy answers as the policy does, in every kind of space, and what does not is never kept."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces

from seedbed import exporting
from seedbed.common.errors import BrokenError, UsageError
from seedbed.exported_play import Agreement, Play, _error, compare
from seedbed.exporting import ExportConfig, export
from seedbed.loading import load
from seedbed.policy import Policy
from seedbed.server.export.module import ExportedPolicy
from tests.api.environments import Recorder
from tests.api.test_policy import CASES, MLP, VECTOR, Both, equal
from tests.examples.test_examples import load_example

BOX = spaces.Box(-3, 1, (2, 2), np.float32)
FLAT = {"network.torso": "flat", "network.frame_stack": 1}
MORE: dict[str, Any] = {
    "sac": (VECTOR, BOX, 0, "sac", FLAT),
    "sac of discrete actions": (VECTOR, spaces.MultiDiscrete([3, 2]), 5, "sac", FLAT),
    "td3": (VECTOR, BOX, 0, "td3", FLAT),
    "pqn": (VECTOR, spaces.Discrete(5), 0, "pqn", {**MLP, "network.normalise_layers": True}),
    "normalised": (VECTOR, spaces.Discrete(5), 0, "vtrace", {**MLP, "network.normalise_observations": "on"}),
    "many channels": (
        spaces.Box(0, 255, (8, 40, 48), np.uint8),
        spaces.Discrete(4),
        0,
        "vtrace",
        {"network.torso": "impala_shallow", "network.frame_stack": 2},
    ),
    "deep": (spaces.Box(0, 255, (32, 32, 3), np.uint8), spaces.Discrete(4), 0, "ppo", {"network.torso": "impala_deep"}),
    "small image": (spaces.Box(0, 255, (7, 7, 3), np.uint8), spaces.Discrete(4), 0, "ppo", {}),
    "nature": (spaces.Box(0, 255, (84, 84), np.uint8), spaces.Discrete(4), 0, "apex", {"network.torso": "nature"}),
    "choices": (
        spaces.Dict({"few": spaces.Discrete(5, start=2), "many": spaces.Discrete(90), "bits": spaces.MultiBinary(3)}),
        spaces.Discrete(4),
        0,
        "vtrace",
        {},
    ),
}
ALL = {**CASES, **MORE}


@pytest.fixture
def both(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Both:
    monkeypatch.setitem(CASES, request.param, ALL[request.param])
    both = Both(request.param, tmp_path / "run", monkeypatch)

    def make(**_: Any) -> Recorder:  # the record of one is no affair of the others'
        shown, taken, mask, *_ = ALL[request.param]
        return Recorder(copy.deepcopy(shown), copy.deepcopy(taken), mask)

    monkeypatch.setattr(gymnasium.registry["Recorder-v0"], "entry_point", make)
    return both


def play(policy: Policy, episodes: int = 6) -> Play:
    return exporting._play(policy, ExportConfig(episodes=episodes, max_steps=50))


def in_torch(exported: ExportedPolicy) -> Any:
    """The module itself in place of a file."""

    @torch.no_grad()
    def run(arrays: Any) -> dict[str, Any]:
        given = [torch.from_numpy(arrays[port.name].copy()) for port in exported.contract.inputs]
        pairs = zip(exported.contract.outputs, exported(*given), strict=True)
        return {port.name: tensor.numpy() for port, tensor in pairs}

    return run


@pytest.mark.parametrize("both", ALL, indirect=True)
def test_the_function_that_is_exported_is_the_policy(both: Both) -> None:
    policy = load(both.folder, precision="float32")
    exported = policy.exported()
    agreement = compare(policy, exported.contract, in_torch(exported), play(policy), 1e-5)
    assert agreement.episodes >= 6
    assert agreement.ties == 0


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("both", ALL, indirect=True)
def test_every_kind_of_policy_as_a_file(both: Both, tmp_path: Path) -> None:
    pytest.importorskip("onnxscript")
    pytest.importorskip("onnxruntime")
    for name in ("policy.onnx", "policy.pt2"):
        agreement = export(both.folder, tmp_path / name, ExportConfig(episodes=6))
        assert agreement is not None
        assert agreement.steps > 15


@pytest.mark.timeout(300)
@pytest.mark.parametrize("both", ["everything"], indirect=True)
def test_a_file_and_the_example_that_plays_with_it(both: Both, tmp_path: Path) -> None:
    """Recurrent, stacked, of all action spaces: what a player without seedbed makes of it is what `load` does."""
    pytest.importorskip("onnxscript")
    pytest.importorskip("onnxruntime")
    out = tmp_path / "policy.onnx"
    assert exporting.main([str(both.folder), "--out", str(out), "--episodes", "3"]) == 0
    contract = json.loads(out.with_suffix(".json").read_text())
    assert [name for name in sorted(path.name for path in tmp_path.iterdir())] == ["policy.json", "policy.onnx", "run"]
    assert contract["memory"]["memory.state_0"] == "next.state_0"
    player = load_example("onnx_play").OnnxPolicy(str(out), greedy=True)
    assert player.contract == contract
    policy = load(both.folder, precision="float32")
    env: Any = gymnasium.make("Recorder-v0").unwrapped
    reward, over, memory = 0.0, True, policy.initial_memory()
    for _ in range(12):
        if over:
            (observation, _), reward = env.reset(), 0.0
            player.reset()
            memory = policy.initial_memory()
        expected, memory = policy.act(observation, memory, reward)
        action = player.act(observation, reward)
        push = (action.pop("push"), expected.pop("push"))
        assert equal(action, expected)
        assert np.allclose(*push, atol=1e-5)
        observation, reward, over, _, _ = env.step({**action, "push": push[0]})


class TestFaults:
    @pytest.mark.parametrize("both", ["lstm"], indirect=True)
    @pytest.mark.parametrize("fault", ["action", "value", "next.state_1", "memory"])
    def test_other_answers_are_refused(self, both: Both, fault: str) -> None:
        policy = load(both.folder)
        exported = policy.exported()
        run = in_torch(exported)

        def wrong(arrays: Any) -> Any:
            if fault == "memory":  # it is not fed back
                arrays = {name: 0 * x if name.startswith("memory.state") else x for name, x in arrays.items()}
                return run(arrays)
            outputs = run(arrays)
            outputs[fault] = outputs[fault] + np.asarray(1e-4 if fault != "action" else 1).astype(outputs[fault].dtype)
            return outputs

        with pytest.raises(BrokenError, match="expected"):
            compare(policy, exported.contract, wrong, play(policy), 1e-5)

    @pytest.mark.parametrize("both", ["vector"], indirect=True)
    def test_what_disagrees_is_not_kept(self, both: Both, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def refuse(*_: Any) -> Agreement:
            raise BrokenError("no")

        monkeypatch.setattr(exporting, "write", lambda policy, path: path.write_text(""))
        monkeypatch.setattr(exporting, "open_session", lambda path, contract: None)
        monkeypatch.setattr(exporting, "compare", refuse)
        with pytest.raises(BrokenError):
            export(both.folder, tmp_path / "policy.pt2")
        assert [path.name for path in tmp_path.iterdir()] == ["run"]

    def test_other_endings(self, tmp_path: Path) -> None:
        with pytest.raises(UsageError, match=r"--out: expected a file that ends with \.onnx or \.pt2"):
            exporting.main([str(tmp_path), "--out", str(tmp_path / "policy.pb")])

    @pytest.mark.parametrize("both", ["nature"], indirect=True)
    def test_a_policy_in_bfloat16_is_exported_in_float32(self, both: Both) -> None:
        dtypes = {p.dtype for p in load(both.folder, precision="float32").exported().parameters()}
        assert dtypes == {torch.float32}
        assert torch.bfloat16 in {p.dtype for p in load(both.folder).exported().parameters()}


def test_differences_are_shares_of_a_row() -> None:
    expected = np.array([[1000.0, 0.0, -1e9], [0.5, 0.0, -1e9]], np.float32)
    got = expected.copy()
    got[0, 1] += 0.01
    assert _error(got, expected) == pytest.approx(1e-5)
    got[1, 1] += 0.01
    assert _error(got, expected) == pytest.approx(1e-2)
    assert np.isnan(_error(np.full_like(got, np.nan), expected))


def test_names_of_ports_differ() -> None:
    from seedbed.server.export.contract import port_names

    assert port_names("observation", ["observation"]) == {"observation": "observation"}
    assert port_names("x", ["/a/b", "/a_b", "[0]"]) == {"/a/b": "x.a_b", "/a_b": "x.a_b_", "[0]": "x.0"}


def test_the_example_loads_nothing_of_ours() -> None:
    source = Path(__file__).parents[2].joinpath("examples", "onnx_play.py").read_text()
    assert "import seedbed" not in source
    assert "import torch" not in source
