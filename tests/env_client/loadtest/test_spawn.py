"""The server that a load test starts: its command line, as the server itself reads it."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from seedbed.common.errors import SeedbedError, UnavailableError, UsageError
from seedbed.common.specs import ArraySpec, EnvironmentSpec, discrete
from seedbed.env_client.loadtest import spawn
from seedbed.env_client.loadtest.options import SpawnOptions
from seedbed.env_client.loadtest.spawn import server_arguments, spawned_server
from seedbed.server.options.config import ServerConfig
from seedbed.server.training.command_line import read_command_line
from seedbed.server.training.resolve import resolve

SPEC = EnvironmentSpec(
    environment="seedbed/Synthetic-v0",
    observations=(ArraySpec(name="observation", dtype="uint8", shape=(84, 84), low=(0,), high=(255,)),),
    actions=(discrete("action", 6),),
)


def config_of(options: SpawnOptions, tmp_path: Path, num_envs: int = 48) -> ServerConfig:
    verb, *arguments = server_arguments(options, num_envs, 100.0)
    assert verb == "server"
    given = read_command_line([*arguments, "--run-dir", str(tmp_path / "run")], prog="seedbed server")
    return resolve(given, SPEC)


def test_the_default_is_a_training_of_images(tmp_path: Path) -> None:
    config = config_of(SpawnOptions(), tmp_path)
    assert config.environment.env == "seedbed/Synthetic-v0"
    assert config.num_slots == config.fleet.num_envs == 48
    assert config.run.train
    assert (config.run.max_seconds, config.run.target_return) == (100.0, None)


def test_a_preset_brings_its_environment_but_no_end(tmp_path: Path) -> None:
    config = config_of(SpawnOptions(preset="pong", train=False, device="cpu"), tmp_path)
    assert config.environment.env == "ALE/Pong-v5"
    assert config.run.target_return is None
    assert config.run.max_steps >= 10**12
    assert (config.run.train, config.run.device) == (False, "cpu")
    named = config_of(SpawnOptions(preset="pong", env="seedbed/Synthetic-v0,shape=64x64x3"), tmp_path)
    assert named.environment.env == "seedbed/Synthetic-v0,shape=64x64x3"


def test_options_of_the_user_win(tmp_path: Path) -> None:
    options = SpawnOptions(server_options="--frontends 2 --num-slots 100 --torso mlp")
    config = config_of(options, tmp_path)
    assert (config.serving.frontends, config.num_slots, config.network.torso) == (2, 100, "mlp")


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        (SpawnOptions(server_options="--frontends none"), UsageError, "--frontends"),
        (SpawnOptions(server_options="--config no-such-file"), SeedbedError, "no-such-file"),
    ],
)
@pytest.mark.system
def test_a_server_that_does_not_start_says_why(options: SpawnOptions, error: type[SeedbedError], words: str) -> None:
    with pytest.raises(error, match=words), spawned_server(options, 8, 10.0):
        pytest.fail("it started")


_SERVES = (
    "from seedbed.common.errors import SeedbedError\n"
    "from seedbed.common.report import claim, report, report_error\n"
    "claim(); report({'serving': '127.0.0.1:1'})\n"
)


@pytest.fixture
def fake_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A module that is started in place of the server; the test writes it."""
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr(spawn, "_MODULE", "fake_server")
    return tmp_path / "fake_server.py"


def test_the_address_is_reported_and_the_server_ends_with_the_block(fake_server: Path) -> None:
    fake_server.write_text(_SERVES + "import time; time.sleep(100)")
    start_s = time.monotonic()
    with spawned_server(SpawnOptions(), 8, 10.0) as address:
        assert address == "127.0.0.1:1"
    assert time.monotonic() - start_s < 90


def test_a_server_that_dies_says_why(fake_server: Path) -> None:
    """All that its clients see is that it is away."""
    fake_server.write_text(_SERVES + "report_error(SeedbedError('it is too hot')); raise SystemExit(1)")
    with (
        pytest.raises(SeedbedError, match="the server ended: it is too hot"),
        spawned_server(SpawnOptions(), 8, 10.0),
    ):
        raise UnavailableError("away")


def test_a_server_that_lives_lets_the_error_pass(fake_server: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spawn, "_DYING_S", 0.1)
    fake_server.write_text(_SERVES + "import time; time.sleep(100)")
    with pytest.raises(UnavailableError, match="away"), spawned_server(SpawnOptions(), 8, 10.0):
        raise UnavailableError("away")
