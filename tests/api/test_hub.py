"""Policies on a hub: what is pushed loads again, says how well it does, and has nothing imported."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import seedbed
from seedbed import hub
from seedbed.common.errors import BrokenError, ConfigError, UsageError
from seedbed.hub import PushConfig, push
from seedbed.loading import load
from seedbed.server.run.finding import find_checkpoint
from seedbed.server.run.state import RunState
from tests.api.test_policy import Both, equal

huggingface_hub = pytest.importorskip("huggingface_hub", reason="the extra hub is not installed")

SCORES = {"mean": 20.75, "standard_error": 0.11, "median": 21.0, "episodes": 100, "policy": "sampled"}
SCORES |= {"human_normalised": None, "returns": [20.0, 21.5]}
REPO = "somebody/recorder-vtrace"


class FakeHub:
    """Folders by repository, behind the two names that are used of the real one."""

    def __init__(self, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.place = place
        self.made: list[tuple[str, Any]] = []
        fake = self

        class Api:
            def __init__(self, **_: Any) -> None: ...

            def create_repo(self, repo_id: str, *, private: bool | None, exist_ok: bool) -> str:
                fake.made.append((repo_id, private))
                return f"https://hub/{repo_id}"

            def upload_folder(self, *, repo_id: str, folder_path: Path, commit_message: str) -> None:
                shutil.copytree(folder_path, fake.place / repo_id, dirs_exist_ok=True)

        def snapshot(repo_id: str, *, revision: str | None, allow_patterns: list[str]) -> str:
            if not (fake.place / repo_id).exists():
                raise FileNotFoundError(repo_id)
            return str(fake.place / repo_id)

        monkeypatch.setattr(huggingface_hub, "HfApi", Api)
        monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot)


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeHub:
    return FakeHub(tmp_path / "hub", monkeypatch)


@pytest.fixture
def both(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Both:
    return Both("lstm", tmp_path / "run", monkeypatch)


@pytest.fixture
def options(tmp_path: Path) -> PushConfig:
    scores = tmp_path / "scores.json"
    scores.write_text(json.dumps(SCORES))
    return PushConfig(scores=scores, onnx=False)


def answers(policy: Any) -> list[Any]:
    random, memory, actions = np.random.default_rng(0), policy.initial_memory(), []
    for _ in range(20):
        action, memory = policy.act(random.normal(size=3).astype(np.float32), memory, 1.0)
        actions.append(action)
    return actions


def test_what_is_pushed_loads_again(fake: FakeHub, both: Both, options: PushConfig) -> None:
    assert push(both.folder, REPO, options) == f"https://hub/{REPO}"
    assert fake.made == [(REPO, None)]
    again = seedbed.load(f"hf:{REPO}")
    assert (again.agent_steps, again.algorithm) == (1234, "vtrace")
    assert equal(tuple(answers(again)), tuple(answers(load(both.folder))))


def test_the_card_is_one_that_hubs_read(fake: FakeHub, both: Both, options: PushConfig) -> None:
    push(both.folder, REPO, options)
    card = huggingface_hub.ModelCard.load(fake.place / REPO / "README.md")
    assert card.data.library_name == "seedbed"
    assert {"reinforcement-learning", "Recorder-v0", "vtrace"} <= set(card.data.tags)
    (result,) = card.data.eval_results
    assert (result.metric_type, result.metric_value, result.dataset_name) == (
        "mean_reward",
        "20.75 +/- 0.11",
        "Recorder-v0",
    )
    assert f'seedbed.load("hf:{REPO}")' in card.text
    assert json.loads((fake.place / REPO / "results.json").read_text())["returns"] == [20.0, 21.5]


def test_nothing_of_this_machine_is_in_it(fake: FakeHub, both: Both, options: PushConfig, tmp_path: Path) -> None:
    config = json.loads((both.folder / "config.json").read_text())
    config["config"]["run"]["run_dir"] = str(tmp_path / "run")
    config["config"]["serving"]["host"] = "gpu.secret.org"
    config["config"]["serving"]["credentials"]["token_file"] = str(tmp_path / "token")
    (both.folder / "config.json").write_text(json.dumps(config))
    push(both.folder, REPO, options)
    text = "".join(path.read_text(errors="replace") for path in (fake.place / REPO).rglob("*") if path.is_file())
    assert str(tmp_path) not in text
    assert "secret" not in text
    _, checkpoint = find_checkpoint(fake.place / REPO)
    learner = RunState.from_checkpoint(checkpoint).learner
    assert learner is not None
    assert list(learner) == ["learnt"], "an optimiser is of no use to anybody else"


def test_a_folder_instead_of_an_upload(fake: FakeHub, both: Both, options: PushConfig, tmp_path: Path) -> None:
    folder = tmp_path / "out"
    assert push(both.folder, REPO, PushConfig(scores=options.scores, onnx=False, folder=folder)) == str(folder)
    assert fake.made == []
    assert load(folder).agent_steps == 1234
    with pytest.raises(UsageError, match="--folder: expected a new or empty folder"):
        push(both.folder, REPO, PushConfig(scores=options.scores, onnx=False, folder=folder))


class TestTrust:
    @pytest.mark.parametrize("path", ["algorithm", "network.torso", "network.core"])
    def test_a_folder_from_a_hub_names_no_module(
        self, fake: FakeHub, both: Both, options: PushConfig, path: str, tmp_path: Path
    ) -> None:
        push(both.folder, REPO, options)
        file = fake.place / REPO / "config.json"
        config = json.loads(file.read_text())
        place = config["config"]
        *folders, name = path.split(".")
        for folder in folders:
            place = place[folder]
        place[name] = "evil:boom"
        file.write_text(json.dumps(config))
        Path(tmp_path, "evil.py").write_text("raise SystemExit('imported')")
        with pytest.raises(UsageError, match="evil:boom: what a hub brings imports no module"):
            load(f"hf:{REPO}")
        with pytest.raises(UsageError, match="nothing to import"):
            load(f"hf:{REPO}", allow_import=True)

    def test_a_run_with_modules_is_not_pushed(self, fake: FakeHub, both: Both, options: PushConfig) -> None:
        file = both.folder / "config.json"
        file.write_text(file.read_text().replace('"torso": "mlp"', '"torso": "mine:Torso"'))
        with pytest.raises(UsageError, match="one of mine:Torso"):
            push(both.folder, REPO, options)
        assert fake.made == []


class TestMistakes:
    @pytest.mark.parametrize("name", ["pong", "a/b/c", "../x/y", "a b/c", ""])
    def test_names(self, fake: FakeHub, both: Both, name: str) -> None:
        with pytest.raises(UsageError, match="expected owner/name on the hub"):
            push(both.folder, name)
        with pytest.raises(UsageError, match="expected owner/name on the hub"):
            load(f"hf:{name}")

    def test_nothing_there(self, fake: FakeHub) -> None:
        with pytest.raises(ConfigError, match="expected a policy at hf:a/b, got no answer of the hub"):
            load("hf:a/b")

    def test_something_else_there(self, fake: FakeHub) -> None:
        (fake.place / "a" / "b").mkdir(parents=True)
        with pytest.raises(ConfigError, match=r"config\.json"):
            load("hf:a/b")

    def test_a_hub_that_refuses(
        self, fake: FakeHub, both: Both, options: PushConfig, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def refuse(self: Any, *_: Any, **__: Any) -> None:
            raise PermissionError("401 who are you\nmore")

        monkeypatch.setattr(huggingface_hub.HfApi, "create_repo", refuse)
        with pytest.raises(BrokenError, match=f"the hub did not take {REPO}: PermissionError: 401 who are you$"):
            push(both.folder, REPO, options)

    def test_scores_of_something_else(self, fake: FakeHub, both: Both, tmp_path: Path) -> None:
        file = tmp_path / "scores.json"
        file.write_text('{"median": 1}')
        with pytest.raises(UsageError, match="--scores: expected a file of `seedbed eval --json`"):
            push(both.folder, REPO, PushConfig(scores=file, onnx=False))


@pytest.mark.slow
@pytest.mark.system
@pytest.mark.timeout(300)
def test_push_evaluates_and_exports(fake: FakeHub, tmp_path: Path) -> None:
    pytest.importorskip("onnxscript")
    pytest.importorskip("onnxruntime")
    run = tmp_path / "run"
    seedbed.train(preset="cartpole", run_dir=run, num_envs=4, num_clients=1, max_steps=1000)
    assert hub.main([str(run), REPO, "--episodes", "8"]) == 0
    names = {path.name for path in (fake.place / REPO).iterdir()}
    assert names == {"README.md", "checkpoints", "config.json", "policy.json", "policy.onnx", "results.json"}
    scores = json.loads((fake.place / REPO / "results.json").read_text())
    assert scores["episodes"] == 8
    card = huggingface_hub.ModelCard.load(fake.place / REPO / "README.md")
    assert card.data.eval_results[0].metric_value.startswith(f"{scores['mean']:.2f} +/- ")
