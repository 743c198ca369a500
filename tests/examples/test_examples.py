"""The programs in examples/ do what they say, with smaller trainings."""

from __future__ import annotations

import importlib.util
import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import seedbed
from tests.system.processes import FAST, Program, read_metrics

pytestmark = [pytest.mark.system, pytest.mark.timeout(300)]

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
SMALL: dict[str, Any] = {
    "num_envs": 8,
    "num_clients": 1,
    "batch_size": 4,
    "log_interval_s": 0.3,
    "device": "cpu",
}


def load_example(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"example_{name}", EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Program, Path]]:
    """A training of CartPole that loops come to."""
    run = tmp_path_factory.mktemp("runs") / "loop"
    with Program("server", "--preset", "cartpole", *FAST, "--run-dir", run) as program:
        assert program.address
        yield program, run


def test_every_example_is_on_the_page() -> None:
    page = (EXAMPLES / "README.md").read_text()
    for path in EXAMPLES.glob("*.py"):
        assert f"[{path.name}]({path.name})" in page
    assert (EXAMPLES / "node_client" / "client.js").exists()


def test_environment_torso_and_algorithm_of_one_s_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All three in one run, from the directory that they lie in; and its policy in this process."""
    monkeypatch.chdir(EXAMPLES)
    result = seedbed.train(
        "own_environment:Corridor",
        env_kwargs={"length": 4},
        torso="own_torso:Waves",
        algorithm="own_algorithm:Close",
        kl_cost=0.2,
        run_dir=tmp_path / "run",
        max_steps=4000,
        **SMALL,
    )
    assert result.metrics["agent_steps"] >= 4000
    config = json.loads((tmp_path / "run" / "config.json").read_text())["config"]
    assert config["algorithm_options"]["kl_cost"] == 0.2
    assert config["network"]["torso"] == "own_torso:Waves"
    with pytest.raises(seedbed.SeedbedError, match="allow_import"):
        seedbed.load(tmp_path / "run")
    policy = result.load()
    assert policy.algorithm == "own_algorithm:Close"
    env = load_example("own_environment").Corridor(length=4)
    action, _ = policy.act(env.reset(seed=0)[0], policy.initial_memory())
    assert env.action_space.contains(action)


def latest(run: Path, name: str) -> float:
    """A number in the newest line of a run's metrics; 0 before the first one."""
    lines = read_metrics(run)
    return float(lines[-1][name] or 0) if lines else 0.0


def test_own_loop(server: tuple[Program, Path]) -> None:
    program, run = server
    returns = load_example("own_loop").play(program.address, num_episodes=3)
    assert len(returns) == 3
    program.eventually(lambda: latest(run, "episodes") >= 3, "its episodes to count")
    assert latest(run, "agent_steps") >= sum(returns) - 3


def test_many_at_once(server: tuple[Program, Path]) -> None:
    program, run = server
    before = latest(run, "episodes")
    ended = load_example("many_at_once").play(program.address, num_envs=8, num_steps=60)
    assert ended > 0
    program.eventually(lambda: latest(run, "episodes") >= before + ended, "its episodes to count")


def test_optuna_sweep(tmp_path: Path) -> None:
    pytest.importorskip("optuna", reason="optuna is not installed")
    study = load_example("optuna_sweep").sweep(tmp_path, 2, max_steps=2000, **SMALL)
    assert len(study.trials) == 2
    assert (tmp_path / "1" / "config.json").exists()


def test_node_client(tmp_path: Path) -> None:
    folder = EXAMPLES / "node_client"
    node = shutil.which("node")
    if node is None:
        pytest.skip("node is not installed")
    if not (folder / "node_modules").exists():
        pytest.skip("its packages are not installed: npm install in examples/node_client")
    run = tmp_path / "run"
    with Program("server", "--preset", "catch", *FAST, "--num-envs", 4, "--run-dir", run) as program:
        done = subprocess.run(
            [node, "client.js", program.address, "20"], cwd=folder, capture_output=True, text=True, timeout=60
        )
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["episodes"] == 20
        program.eventually(lambda: latest(run, "episodes") == 20, "its episodes to count")
        assert -1 <= read_metrics(run)[-1]["episode_return_mean"] <= 1
