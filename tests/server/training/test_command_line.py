"""Command lines: what is refused and when, what --help shows first, files of options, and what may be imported."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from seedbed.common import plugins
from seedbed.common.errors import ConfigError, MissingExtraError, UsageError
from seedbed.common.options import flatten, to_json
from seedbed.common.specs import ArraySpec, EnvironmentSpec, discrete
from seedbed.server.algorithms.registry import find_algorithm
from seedbed.server.presets.registry import task_values
from seedbed.server.run.directory import RunDirectory, RunFile
from seedbed.server.training import opening
from seedbed.server.training.command_line import FIRST, Given, read_command_line
from seedbed.server.training.opening import open_run
from seedbed.server.training.options_file import read_options_file
from seedbed.server.training.resolve import check_flags, config_of, print_help, resolve, resolve_again

SPEC = EnvironmentSpec(
    environment="x",
    observations=(ArraySpec(name="observation", dtype="float32", shape=(3,)),),
    actions=(discrete("action", 2),),
)
OWN = """
from seedbed.server.algorithms.vtrace import VTrace

class Mine(VTrace):
    @classmethod
    def defaults(cls, spec):
        return {**super().defaults(spec), "network.torso": "mine_torso:MLP"}
"""


def read(*argv: str) -> Given:
    return read_command_line(argv, prog="seedbed train")


@pytest.fixture(autouse=True)
def _start_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Two modules of a user's in the folder where the command is typed."""
    (tmp_path / "mine.py").write_text(OWN)
    (tmp_path / "mine_torso.py").write_text("from seedbed.server.networks.vectors import MLP\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(plugins, "_imported", {})
    yield
    for name in ("mine", "mine_torso"):
        sys.modules.pop(name, None)


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (
            ["--algorithm", "ppo", "--burn-in", "4"],
            "--burn-in belongs to ald, r2d2, sac and td3, and this run learns by ppo",
        ),
        (["--algorithm", "r2d2", "--clip-ratio=0.1"], "--clip-ratio belongs to ppo, and this run learns by r2d2"),
        (["--algorithm", "ppo", "--no-rescale-values"], "--no-rescale-values belongs to r2d2 and apex"),
        (["--algorithm", "ppo", "--lr", "1"], "unknown option '--lr', did you mean --learning-rate?"),
        (["--algorithm", "r2d2", "--burnin", "1"], "unknown option '--burnin', did you mean --burn-in?"),
        (["--lr=1"], "unknown option '--lr', did you mean --learning-rate?"),
        (["--xyzzy", "-1"], "unknown option '--xyzzy' "),
        (["--algorithm", "ppp"], "expected --algorithm to be one of vtrace, .*, got 'ppp' .did you mean ppo"),
    ],
)
def test_wrong_options_are_told_before_the_environment_is_described(argv: list[str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        check_flags(read(*argv))


def test_nothing_is_described_for_a_command_line_that_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opening, "describe", lambda *_: pytest.fail("it was described"))
    for argv in (["--lr", "1"], ["--algorithm", "ppo", "--burn-in", "4"]):
        with pytest.raises(UsageError):
            open_run(read("--env", "x", *argv))


def test_options_of_an_algorithm_that_is_not_named_may_be_its_own() -> None:
    check_flags(read("--clip-ratio", "0.1", "--target-return", "-1"))


def test_help_shows_first_what_everybody_needs(capsys: pytest.CaptureFixture[str]) -> None:
    print_help(read("--algorithm", "ppo"))
    out = capsys.readouterr().out
    places = [
        out.index(text) for text in ("\nmost used:", "\nalgorithm: ppo:", "\nthis start alone:", "\nenvironment:")
    ]
    assert places == sorted(places)
    first = out[places[0] : places[1]]
    assert first.count("  --") == len(FIRST) + 1 == 10
    assert all(flag in first for flag in ("--env ", "--preset ", "--algorithm ", "--learning-rate ", "--run-dir "))
    assert "--clip-ratio" in out[places[1] : places[2]]
    assert "--import-from" not in out
    assert out.count("  --learning-rate ") == 1


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.yaml", "algorithm: ppo\noptimiser:\n  learning_rate: 1\nalgorithm_options:\n  clip_ratio: 0.3\n"),
        ("a.toml", 'algorithm = "ppo"\n[optimiser]\nlearning_rate = 1\n[algorithm_options]\nclip_ratio = 0.3\n'),
        ("a.json", '{"algorithm": "ppo", "optimiser": {"learning_rate": 1}, "algorithm_options": {"clip_ratio": 0.3}}'),
    ],
)
def test_options_in_a_file_stand_between_presets_and_flags(name: str, text: str) -> None:
    Path(name).write_text(text)
    values = flatten(resolve(read("--config", name, "--preset", "cartpole", "--unroll-length", "7"), SPEC))
    assert values["algorithm"] == "ppo"
    assert values["optimiser.learning_rate"] == 1.0
    assert values["algorithm_options.clip_ratio"] == 0.3
    assert values["environment.env"] == "CartPole-v1"
    assert values["learning.unroll_length"] == 7
    values = flatten(resolve(read("--config", name, "--learning-rate", "2"), SPEC))
    assert values["optimiser.learning_rate"] == 2.0


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.yaml", "a: [", "--config a.yaml: "),
        ("a.toml", "a = ", "--config a.toml: "),
        ("a.json", "[1]", "--config a.json: expected options by name, got"),
        ("a.ini", "", "--config a.ini: expected a file that ends in .json, .toml, .yaml, .yml"),
        ("a.yaml", "learning:\n  unroll_length: x\n", "learning.unroll_length: expected an integer, got 'x'"),
        (
            "a.yaml",
            "learning:\n  unrol_length: 3\n",
            "expected options that this version has, got learning.unrol_length",
        ),
    ],
)
def test_files_that_hold_something_else(name: str, text: str, message: str) -> None:
    Path(name).write_text(text)
    with pytest.raises(ConfigError, match=message):
        read("--config", name).environment  # noqa: B018


def test_numbers_in_yaml_are_numbers() -> None:
    Path("a.yaml").write_text("optimiser: {learning_rate: 1e-3}\nrun: {max_steps: 2e6, max_seconds: .5e1}\n")
    values = flatten(resolve(read("--config", "a.yaml"), SPEC))
    assert values["optimiser.learning_rate"] == 0.001
    assert (values["run.max_steps"], values["run.max_seconds"]) == (2_000_000, 5.0)
    assert type(values["run.max_steps"]) is int


def test_a_file_that_is_not_there_is_told_in_words() -> None:
    with pytest.raises(ConfigError, match=r"^--config none.yaml: expected a file, there is none$"):
        read_options_file(Path("none.yaml"))
    Path("folder.json").mkdir()
    with pytest.raises(ConfigError, match=r"^--config folder.json: expected a file that can be read: Is a directory$"):
        read_options_file(Path("folder.json"))


def test_a_mistyped_preset_is_recognised() -> None:
    with pytest.raises(UsageError, match="got 'cartpol', did you mean 'cartpole'\\?"):
        task_values("cartpol")


def test_yaml_needs_a_package(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("a.yaml").write_text("a: 1")
    monkeypatch.setitem(sys.modules, "yaml", None)
    with pytest.raises(MissingExtraError, match='expected the extra "yaml" to be installed'):
        read_options_file(Path("a.yaml"))


def test_a_spec_in_a_file_stands_for_an_environment(tmp_path: Path) -> None:
    Path("spec.json").write_text(json.dumps(SPEC.to_json()))
    opened = open_run(read("--spec", "spec.json", "--algorithm", "ppo", "--run-dir", "new"))
    assert (opened.spec, opened.config.environment.env) == (SPEC, "x")
    assert open_run(read("--spec", "spec.json", "--env", "x")).directory.name == "x"
    assert not Path("new").exists()
    with pytest.raises(UsageError, match="expected the environment of --spec, x, got y"):
        read("--spec", "spec.json", "--env", "y")
    with pytest.raises(ConfigError, match=r"--spec none.json: expected a file, there is none"):
        read("--spec", "none.json")


@pytest.mark.parametrize(
    ("argv", "folder"),
    [
        (["--env", "mine:Env"], "mine-Env"),
        (["--env", "ALE/Pong-v5", "--algorithm", "mine:Mine"], "ALE-Pong-v5-mine-Mine"),
        (["--preset", "cartpole", "--algorithm", "ppo"], "cartpole-ppo"),
    ],
)
def test_folders_have_names_that_every_disk_takes(argv: list[str], folder: str) -> None:
    assert read(*argv).directory.path == Path("runs") / folder


def test_what_was_typed_is_imported_and_what_its_algorithm_names_too() -> None:
    config = resolve(read("--algorithm", "mine:Mine"), SPEC)
    assert config.network.torso == "mine_torso:MLP"
    assert find_algorithm("mine:Mine").__name__ == "Mine"


def test_modules_that_a_file_names_are_refused_unless_typed_again() -> None:
    run = RunFile(to_json(resolve(read("--algorithm", "mine:Mine"), SPEC)), SPEC, "0")
    RunDirectory(Path("run")).write(run)
    for name in ("mine", "mine_torso"):
        del sys.modules[name]
    plugins._imported.clear()
    with pytest.raises(ConfigError, match="--algorithm mine:Mine would import a module that a file names and nobody"):
        resolve_again(read(), run, "run")
    with pytest.raises(UsageError, match="--algorithm mine:Mine would import"):
        resolve(read("--config", "run/config.json"), SPEC)
    with pytest.raises(ConfigError, match="--algorithm mine:Mine would import"):
        config_of(run)
    assert not {"mine", "mine_torso"} & set(sys.modules)
    assert resolve_again(read("--algorithm", "mine:Mine"), run, "run").algorithm == "mine:Mine"
    plugins._imported.clear()
    assert resolve(read("--config", "run/config.json", "--allow-import"), SPEC).algorithm == "mine:Mine"


def test_a_torso_that_a_file_names_is_refused() -> None:
    Path("a.toml").write_text('algorithm = "ppo"\n[network]\ntorso = "mine_torso:MLP"\n')
    with pytest.raises(UsageError, match="--torso mine_torso:MLP would import"):
        resolve(read("--config", "a.toml"), SPEC)
    assert "mine_torso" not in sys.modules
    resolve(read("--config", "a.toml", "--torso", "mine_torso:MLP"), SPEC)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "mine_torso:MLP",
            "expected a subclass of seedbed.server.algorithms.interface.Algorithm, got <class '.*MLP",
        ),
        ("json:JSONDecoder", "expected a subclass of"),
    ],
)
def test_what_is_no_algorithm(name: str, message: str) -> None:
    with pytest.raises(UsageError, match=f"--algorithm {name}: {message}"):
        resolve(read("--algorithm", name), SPEC)
