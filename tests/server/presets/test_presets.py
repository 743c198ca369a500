"""Presets: what belongs to a task, to an algorithm, and to both; explicit options win, resumed runs keep theirs."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args, get_type_hints

import pytest

from seedbed.common.errors import ConfigError, UsageError
from seedbed.common.options import flatten, override
from seedbed.common.specs import ArraySpec, EnvironmentSpec
from seedbed.server.__main__ import resolve
from seedbed.server.options.config import ServerConfig
from seedbed.server.presets import registry as presets
from seedbed.server.run.directory import RunDirectory, RunFile

ALGORITHMS: tuple[str, ...] = get_args(get_type_hints(ServerConfig)["algorithm"])
SPEC = EnvironmentSpec(
    environment="x",
    observations=(ArraySpec(name="observation", dtype="float32", shape=(3,)),),
    actions=(ArraySpec(name="action", dtype="int64", low=(0,), high=(1,), kind="discrete"),),
)


def read(*argv: str) -> dict[str, Any]:
    config, _ = resolve([*argv, "--run-dir", "/nowhere"], prog="seedbed train")
    return flatten(config)


@pytest.fixture
def layers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three layers of which each says something that no other does."""
    monkeypatch.setattr(presets, "PUBLISHED", {"vtrace": {"learning.batch_size": 3, "learning.discount": 0.3}})
    task = {"learning.discount": 0.4, "optimiser.epsilon": 0.4, "learning.unroll_length": 4}
    monkeypatch.setattr(presets, "PRESETS", {"task": task})
    monkeypatch.setattr(presets, "TUNED", {("task", "vtrace"): {"optimiser.epsilon": 0.5, "optimiser.decay": 0.5}})


@pytest.mark.usefixtures("layers")
def test_tuned_over_task_over_published_over_defaults_under_what_is_said() -> None:
    values = read("--preset", "task", "--unroll-length", "6")
    assert values["learning.batch_size"] == 3
    assert values["learning.discount"] == 0.4
    assert values["optimiser.epsilon"] == values["optimiser.decay"] == 0.5
    assert values["learning.unroll_length"] == 6
    assert values["optimiser.beta1"] == ServerConfig().optimiser.beta1


@pytest.mark.usefixtures("layers")
def test_an_algorithm_brings_its_settings_without_a_preset_too() -> None:
    values = read()
    assert (values["learning.batch_size"], values["learning.discount"]) == (3, 0.3)
    assert values["optimiser.epsilon"] == ServerConfig().optimiser.epsilon


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("preset", [None, *presets.PRESETS])
def test_every_preset_fits_every_algorithm(preset: str | None, algorithm: str) -> None:
    values = presets.preset_values(preset, algorithm)
    config = override(ServerConfig(), {**values, "algorithm": algorithm})
    assert {name: flatten(config)[name] for name in values} == dict(values)


def test_tables_name_algorithms_and_tasks_that_exist() -> None:
    assert set(presets.PUBLISHED) <= set(ALGORITHMS)
    assert {task for task, _ in presets.TUNED} <= set(presets.PRESETS)
    assert {algorithm for _, algorithm in presets.TUNED} <= set(ALGORITHMS)


def make_run(folder: Path, *argv: str) -> list[str]:
    """Leaves a run as if it had been started with these options; returns what names its folder."""
    config, _ = resolve([*argv, "--run-dir", str(folder)], prog="seedbed train")
    RunDirectory(folder).write(RunFile(config, SPEC, "0"))
    return ["--run-dir", str(folder)]


def test_a_run_is_resumed_without_naming_its_preset_again(tmp_path: Path) -> None:
    folder = make_run(tmp_path, "--preset", "cartpole", "--batch-size", "5")
    config, _ = resolve(folder, prog="seedbed train")
    assert (config.environment.env, config.learning.batch_size) == ("CartPole-v1", 5)
    with pytest.raises(ConfigError, match="batch_size: 5 in the run, 8 now"):
        resolve([*folder, "--preset", "cartpole"], prog="seedbed train")


def test_a_config_is_complete_and_takes_no_preset(tmp_path: Path) -> None:
    make_run(tmp_path, "--preset", "cartpole", "--batch-size", "5")
    file = str(tmp_path / "config.json")
    assert read("--config", file)["learning.batch_size"] == 5
    assert read("--config", file, "--batch-size", "6")["learning.batch_size"] == 6
    with pytest.raises(UsageError, match="got both"):
        read("--config", file, "--preset", "cartpole")


@pytest.mark.parametrize(
    ("argv", "name"),
    [(["--preset", "catch"], "catch"), (["--env", "ALE/Breakout-v5"], "ALE-Breakout-v5")],
)
def test_a_run_without_a_place_is_named_by_its_task(
    argv: list[str], name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    _, directory = resolve(argv, prog="seedbed train")
    assert directory.path == Path("runs") / name
