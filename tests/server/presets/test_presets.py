"""Presets: what belongs to a task, to an algorithm, and to both; explicit options win, resumed runs keep theirs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from seedbed.common.errors import ConfigError, SpecError, UsageError
from seedbed.common.options import flatten, to_json
from seedbed.common.specs import ArraySpec, EnvironmentSpec, discrete
from seedbed.server.algorithms.registry import ALGORITHMS, find_algorithm
from seedbed.server.algorithms.vtrace import VTrace
from seedbed.server.options.config import ServerConfig
from seedbed.server.presets import registry as presets
from seedbed.server.run.directory import RunDirectory, RunFile
from seedbed.server.training.command_line import read_command_line
from seedbed.server.training.resolve import resolve, resolve_again

SPEC = EnvironmentSpec(
    environment="x",
    observations=(ArraySpec(name="observation", dtype="float32", shape=(3,)),),
    actions=(discrete("action", 2),),
)


def configured(*argv: str, directory: RunDirectory | None = None) -> ServerConfig:
    """What a command line makes of a new run, or of the one that lives in a directory."""
    given = read_command_line(argv, prog="seedbed train")
    run = None if directory is None else directory.read()
    return resolve(given, SPEC) if run is None else resolve_again(given, run, "runs/x")


def read(*argv: str) -> dict[str, Any]:
    return flatten(configured(*argv))


@pytest.fixture
def layers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Layers of which each says something that no other does."""
    published = {"learning.batch_size": 3, "learning.discount": 0.3}
    monkeypatch.setattr(VTrace, "defaults", classmethod(lambda cls, spec: published))
    task = {"algorithm": "vtrace", "learning.discount": 0.4, "optimiser.epsilon": 0.4, "learning.unroll_length": 4}
    own = {"optimiser.epsilon": 0.5, "optimiser.decay": 0.5, "algorithm_options.clip_pg_rho": 0.5}
    monkeypatch.setattr(presets, "PRESETS", {"task": (task, {"vtrace": own})})


@pytest.mark.usefixtures("layers")
def test_options_over_the_algorithms_table_over_the_task_over_what_was_published_over_defaults() -> None:
    values = read("--preset", "task", "--unroll-length", "6")
    assert values["learning.batch_size"] == 3
    assert values["learning.discount"] == 0.4
    assert values["optimiser.epsilon"] == values["optimiser.decay"] == values["algorithm_options.clip_pg_rho"] == 0.5
    assert values["learning.unroll_length"] == 6
    assert values["optimiser.beta1"] == ServerConfig().optimiser.beta1


@pytest.mark.usefixtures("layers")
def test_an_algorithm_brings_its_settings_without_a_preset_too() -> None:
    values = read("--algorithm", "vtrace")
    assert (values["learning.batch_size"], values["learning.discount"]) == (3, 0.3)
    assert values["optimiser.epsilon"] == ServerConfig().optimiser.epsilon


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("preset", [None, *presets.PRESETS])
def test_every_preset_fits_every_algorithm(preset: str | None, algorithm: str) -> None:
    config = configured("--algorithm", algorithm, *(["--preset", preset] if preset else []))
    values = presets.preset_values(preset, algorithm)
    assert {name: flatten(config)[name] for name in values} == dict(values)


def test_another_environment_keeps_nothing_of_the_presets_own_network() -> None:
    ours, other = (read("--preset", "pong", "--algorithm", "r2d2", *more) for more in ([], ["--env", "mine:Vectors"]))
    assert ours["network.torso"] == "impala_shallow"
    assert other["network.torso"] == "auto"
    assert other["run.target_return"] is None
    assert other["learning.batch_size"] == ours["learning.batch_size"] == 6


def test_an_option_of_atari_is_refused_elsewhere() -> None:
    with pytest.raises(UsageError, match=r"--atari-preset is for environments of ALE/ alone, and x is none of them"):
        configured("--atari-preset", "paper")
    config = resolve(
        read_command_line(["--atari-preset", "paper"], prog="seedbed train"), replace(SPEC, preset="paper")
    )
    assert config.environment.atari_preset == "paper"


def test_tables_name_algorithms_that_exist() -> None:
    assert {name for _, own in presets.PRESETS.values() for name in own} <= set(ALGORITHMS)


def test_the_best_that_suits_is_chosen_and_recorded() -> None:
    ranks = {name: find_algorithm(name).suits(SPEC) or 0 for name in ALGORITHMS}
    assert ranks[configured().algorithm] == max(ranks.values())
    assert list(ranks.values()).count(max(ranks.values())) == 1


def test_actions_that_nothing_built_in_can_learn_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("seedbed.server.algorithms.registry.ALGORITHMS", {"r2d2": ALGORITHMS["r2d2"]})
    box = replace(SPEC, actions=(ArraySpec(name="action", dtype="float32", low=(0,), high=(1,)),))
    with pytest.raises(SpecError, match=r"x: no built-in algorithm can learn actions 'action' float32"):
        resolve(read_command_line([], prog="seedbed train"), box)


def test_options_of_an_algorithm_are_its_own() -> None:
    assert read("--algorithm", "r2d2", "--burn-in", "7")["algorithm_options.burn_in"] == 7
    with pytest.raises(UsageError, match="--burn-in belongs to ald, r2d2, sac and td3"):
        read("--algorithm", "ppo", "--burn-in", "7")
    with pytest.raises(UsageError, match=r"expected --algorithm to be one of vtrace, .*, got 'pppo'"):
        read("--algorithm", "pppo")


def make_run(folder: Path, *argv: str) -> list[str]:
    """Leaves a run as if it had been started with these options; returns what names its folder."""
    RunDirectory(folder).write(RunFile(to_json(configured(*argv)), SPEC, "0"))
    return ["--run-dir", str(folder)]


def test_a_run_is_resumed_without_naming_its_preset_again(tmp_path: Path) -> None:
    folder = make_run(tmp_path, "--preset", "cartpole", "--batch-size", "5")
    directory = RunDirectory(tmp_path)
    config = configured(*folder, directory=directory)
    assert (config.environment.env, config.learning.batch_size) == ("CartPole-v1", 5)
    assert configured(*folder, "--preset", "cartpole", directory=directory).learning.batch_size == 8
    with pytest.raises(ConfigError, match=r"env: CartPole-v1 in the run, seedbed/Catch-v0 now; unroll_length: 20"):
        configured(*folder, "--preset", "catch", directory=directory)
    with pytest.raises(ConfigError, match="algorithm: vtrace in the run, ppo now"):
        configured(*folder, "--algorithm", "ppo", directory=directory)


def test_a_config_is_complete_and_takes_no_preset(tmp_path: Path) -> None:
    make_run(tmp_path, "--preset", "cartpole", "--batch-size", "5")
    file = str(tmp_path / "config.json")
    assert read("--config", file)["learning.batch_size"] == 5
    assert read("--config", file, "--batch-size", "6")["learning.batch_size"] == 6
    with pytest.raises(UsageError, match="got both"):
        read("--config", file, "--preset", "cartpole")


@pytest.mark.parametrize(
    ("argv", "name"),
    [
        (["--preset", "catch"], "catch"),
        (["--env", "ALE/Breakout-v5"], "ALE-Breakout-v5"),
        (["--preset", "catch", "--algorithm", "ppo"], "catch-ppo"),
    ],
)
def test_a_run_without_a_place_is_named_by_its_task_and_the_algorithm_that_was_named(
    argv: list[str], name: str
) -> None:
    assert read_command_line(argv, prog="seedbed train").directory.path == Path("runs") / name
