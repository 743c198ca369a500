"""The server that a load test starts: its command line, as the server itself reads it."""

from __future__ import annotations

from pathlib import Path

import pytest

from seedbed.common.errors import SeedbedError, UsageError
from seedbed.env_client.loadtest.options import SpawnOptions
from seedbed.env_client.loadtest.spawn import server_arguments, spawned_server
from seedbed.server.__main__ import resolve
from seedbed.server.config import ServerConfig


def config_of(options: SpawnOptions, tmp_path: Path, num_envs: int = 48) -> ServerConfig:
    verb, *arguments = server_arguments(options, num_envs, 100.0)
    assert verb == "server"
    return resolve([*arguments, "--run-dir", str(tmp_path / "run")], prog="seedbed server")[0]


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
