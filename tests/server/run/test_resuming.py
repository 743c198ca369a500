"""config.json: older ones are read, strange ones refused, and nobody is let in because an earlier start let them in."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from seedbed.common.errors import ConfigError
from seedbed.common.options import flatten, override, to_json
from seedbed.common.specs import ArraySpec, EnvironmentSpec
from seedbed.server.options.config import ServerConfig
from seedbed.server.run.directory import RunDirectory, RunFile
from seedbed.server.run.resuming import is_exposure, remarks
from seedbed.server.training.command_line import read_command_line
from seedbed.server.training.resolve import config_of, defaults_of, omitted_in, resolve, resolve_again

SPEC = EnvironmentSpec(
    environment="x",
    observations=(ArraySpec(name="observation", dtype="float32", shape=(3,)),),
    actions=(ArraySpec(name="action", dtype="int64", low=(0,), high=(1,), kind="discrete"),),
)
OPEN = {
    "serving.host": "0.0.0.0",
    "serving.credentials.insecure": True,
    "serving.credentials.token_file": Path("token"),
    "serving.credentials.max_connection_age_s": 60.0,
    "monitoring.http_host": "0.0.0.0",
}
KEPT = {"serving.port": 7777, "monitoring.http_port": 9090, "learning.batch_size": 5}


@pytest.fixture
def directory(tmp_path: Path) -> RunDirectory:
    """Of a run that was last started open to everybody."""
    found = RunDirectory(tmp_path)
    found.write(RunFile(to_json(override(defaults_of("ppo"), {**OPEN, **KEPT})), SPEC, "0.0.1"))
    return found


def resumed(directory: RunDirectory, *argv: str) -> ServerConfig:
    run = directory.read()
    assert run is not None
    return resolve_again(read_command_line(argv, prog="seedbed server"), run, "runs/x")


def resume(directory: RunDirectory, *argv: str) -> dict[str, Any]:
    return flatten(resumed(directory, *argv))


def change(directory: RunDirectory, by: Callable[[dict[str, Any]], object]) -> None:
    """Does something to the options in config.json."""
    data = json.loads(directory.config_file.read_text())
    by(data["config"])
    directory.config_file.write_text(json.dumps(data))


def test_options_that_are_younger_than_a_run_have_their_defaults(directory: RunDirectory) -> None:
    """Also those of what is learnt, and also where the file lacks a whole part."""
    change(directory, lambda config: config["serving"].pop("settle_s"))
    change(directory, lambda config: config["learning"].pop("publish_every"))
    change(directory, lambda config: config.pop("algorithm_options"))
    run = directory.read()
    assert run is not None
    younger = omitted_in(run)
    own = ["algorithm_options.lambda_", "algorithm_options.clip_ratio"]
    assert {"learning.publish_every", "serving.settle_s", *own} < set(younger)
    values, defaults = resume(directory), flatten(defaults_of("ppo"))
    assert {path: values[path] for path in younger} == {path: defaults[path] for path in younger}
    assert values["learning.batch_size"] == 5
    told, *_ = remarks(config_of(run), resumed(directory), younger, run.version)
    assert "seedbed 0.0.1, which had no algorithm_options.lambda_ (0.95)" in told
    assert "learning.publish_every (1)" in told


def test_fixed_options_are_kept_and_others_may_change_with_a_remark(directory: RunDirectory) -> None:
    with pytest.raises(ConfigError, match="unroll_length: 20 in the run, 4 now"):
        resume(directory, "--unroll-length", "4")
    now = resumed(directory, "--learning-rate", "0.5", "--clip-ratio", "0.3")
    run = directory.read()
    assert run is not None
    told, _ = remarks(config_of(run), now, (), run.version)
    assert told.startswith(
        "changed since the last start: clip_ratio: 0.1 in the run, 0.3 now; learning_rate: 0.0006 in"
    )


def test_a_run_of_another_format_is_refused_with_a_sentence(directory: RunDirectory) -> None:
    data = json.loads(directory.config_file.read_text())
    directory.config_file.write_text(json.dumps({**data, "format": 1}))
    with pytest.raises(ConfigError, match="expected format 2, got 1: such a run cannot go on, start a new one"):
        directory.read()


def test_options_that_this_version_has_not_are_refused(directory: RunDirectory) -> None:
    change(directory, lambda config: config["serving"].update(teleport=True))
    with pytest.raises(ConfigError, match=r"config\.json, written by seedbed 0\.0\.1: .* got serving\.teleport"):
        resume(directory)


@pytest.mark.parametrize("text", ["{}", "[]", "3", "", '{"format": 1, "seedbed_version": "9"}'])
def test_what_is_no_config_is_named(directory: RunDirectory, text: str) -> None:
    directory.config_file.write_text(text)
    with pytest.raises(ConfigError, match=r"config\.json"):
        resume(directory)


def test_who_may_reach_a_server_is_said_at_every_start(directory: RunDirectory) -> None:
    """What is left out is as on a first start; everything else is the run's."""
    values, defaults = resume(directory), flatten(ServerConfig())
    assert {path: values[path] for path in OPEN} == {path: defaults[path] for path in OPEN}
    assert {path: values[path] for path in KEPT} == KEPT
    again = resume(directory, "--host", "::1", "--token-file", "other")
    assert (again["serving.host"], again["serving.credentials.token_file"]) == ("::1", Path("other"))
    assert not again["serving.credentials.insecure"]


def test_a_start_that_is_less_open_than_the_last_one_says_so(directory: RunDirectory) -> None:
    run = directory.read()
    assert run is not None
    before = config_of(run)
    assert remarks(before, before, (), run.version) == []
    [told] = remarks(before, resumed(directory), (), run.version)
    for change_of in ("host: 0.0.0.0 in the run, 127.0.0.1 now", "insecure: True in the run, False now"):
        assert change_of in told
    assert "port" not in told


def test_nor_does_a_file_that_is_repeated_let_anybody_in(directory: RunDirectory, tmp_path: Path) -> None:
    argv = ["--config", str(directory.config_file), "--run-dir", str(tmp_path / "another")]
    config = resolve(read_command_line(argv, prog="seedbed server"), SPEC)
    values, defaults = flatten(config), flatten(ServerConfig())
    assert {path: values[path] for path in OPEN} == {path: defaults[path] for path in OPEN}
    assert {path: values[path] for path in KEPT} == KEPT


def test_every_option_of_credentials_is_one_of_exposure() -> None:
    found = {path for path in flatten(ServerConfig()) if is_exposure(path)}
    assert found >= {path for path in flatten(ServerConfig()) if "credentials" in path or path.endswith("host")}
    assert "serving.port" not in found
