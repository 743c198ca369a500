"""A plug-in package, installed: its environment, torso and algorithm are trained, evaluated, resumed, and trusted."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.system.processes import FAST, read_metrics, run

pytestmark = pytest.mark.system

PACKAGE = Path(__file__).resolve().parents[1] / "plugin"
SMALL = (*FAST, "--algorithm", "harvest", "--frame-stack", 3)


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Variables with which processes see the package as an installed one."""
    folder = tmp_path_factory.mktemp("site")
    source = tmp_path_factory.mktemp("source") / "orchard"
    subprocess.run(["cp", "-r", PACKAGE, source], check=True)
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*command, "--target", folder, source], check=True, timeout=100)
    return {"PYTHONPATH": str(folder)}


def test_what_is_installed_is_listed_and_chosen_by_name(installed: dict[str, str], tmp_path: Path) -> None:
    listed = run("list", environment=installed)
    listed.assert_well()
    for line in (
        "  harvest             orchard.algorithm:Harvest, of orchard 1.2",
        "  attention           orchard.torso:Attention, of orchard 1.2",
        "  orchard             orchard.environment:make, of orchard 1.2",
        "  vtrace              orchard.algorithm:Harvest, of orchard 1.2; hidden by seedbed's own",
    ):
        assert line in listed.stdout.splitlines()
    dry = run(
        *("train", "--env", "orchard", *SMALL, "--torso", "attention", "--curiosity", "0.5", "--dry-run"),
        *("--run-dir", tmp_path / "dry"),
        environment=installed,
    )
    dry.assert_well()
    config = json.loads(dry.stdout.partition("\nconfig")[2])
    assert config["algorithm_options"] == {"return_scale": 1.0, "curiosity": 0.5}
    assert (config["network"]["torso"], config["environment"]["env"]) == ("attention", "orchard")
    assert "torso attention, core none" in dry.stdout
    assert not (tmp_path / "dry").exists()


@pytest.mark.slow
def test_a_plug_in_is_trained_resumed_and_evaluated(installed: dict[str, str], tmp_path: Path) -> None:
    """Its environment and its torso are named by module, so whoever goes on with the run says that again."""
    where, env = ("--run-dir", tmp_path / "run"), ("--env", "orchard.environment:make")
    run(
        "train", *env, *SMALL, "--max-steps", 4000, "--learning-rate", 0.01, *where, environment=installed
    ).assert_well()
    assert read_metrics(tmp_path / "run")[-1]["episode_return_mean"] > 3.5, "2.5 is chance, 10 the best"

    refused = run("train", "--max-steps", 6000, *where, environment=installed)
    refused.assert_error(2, "--env orchard.environment:make would import a module that a file names and nobody typed")
    refused = run("eval", "--checkpoint", tmp_path / "run", environment=installed)
    refused.assert_error(2, "would import a module that a file names", "say --allow-import")

    run("train", *env, "--max-steps", 6000, "--curiosity", 0.0, *where, environment=installed).assert_well()
    assert read_metrics(tmp_path / "run")[-1]["agent_steps"] >= 6000
    eval_options = ("--checkpoint", tmp_path / "run", "--episodes", 8, "--eval-envs", 4, "--json", "-")
    scored = run("eval", *eval_options, "--allow-import", environment=installed)
    scored.assert_well()
    assert json.loads(scored.stdout)["mean"] > 3.5
