"""What a person is told when a run starts."""

from __future__ import annotations

from seedbed.common.specs import ArraySpec, EnvironmentSpec, discrete
from seedbed.server.training.command_line import read_command_line
from seedbed.server.training.introduction import introduce
from seedbed.server.training.resolve import resolve

SCREEN = ArraySpec(name="screen", dtype="uint8", shape=(84, 84), low=(0,), high=(255,))
STATE = ArraySpec(name="state", dtype="float32", shape=(4,))


def lines_of(
    *shown: ArraySpec, preset: str = "", address: str | None = None, argv: tuple[str, ...] = ()
) -> dict[str, str]:
    spec = EnvironmentSpec(environment="x", preset=preset, observations=shown, actions=(discrete("action", 3),))
    config = resolve(read_command_line(("--run-dir", "runs/x", *argv), prog="seedbed train"), spec)
    lines = introduce(config, spec, "cuda", 1_684_128, address=address)
    return {line.split()[0]: line[14:] for line in lines}


def test_a_start_says_what_was_chosen_and_why() -> None:
    lines = lines_of(SCREEN, STATE, preset="modern", argv=("--num-greedy-envs", "2", "--target-return", "18"))
    assert list(lines) == ["environment", "algorithm", "network", "device", "environments", "target", "curves"]
    assert lines["environment"] == "x (modern): shows a grey image of 84 x 84 and 4 numbers; takes one of 3 values"
    assert lines["algorithm"] == "vtrace: unrolls of 20 steps; rewards clipped to [-1, 1], as is usual for Atari"
    network = lines["network"]
    assert network.startswith("torso auto, an encoder for each array; 4 frames of a grey image of 84 x 84 at once; ")
    assert "; numbers to mean 0 and spread 1; images in bf" in network
    assert network.endswith("; 1,684,128 parameters")
    assert lines["device"] == "cuda"
    assert lines["environments"] == "64 on this machine, the number for pixels; 2 of them only show the score"
    assert lines["target"].startswith("a return of 18, or 20,000,000 steps")
    assert lines["curves"] == "tensorboard --logdir runs/x, or seedbed plot runs/x"
    spaced = lines_of(STATE, argv=("--run-dir", "my runs/x"))
    assert spaced["curves"] == "tensorboard --logdir 'my runs/x', or seedbed plot 'my runs/x'"


def test_without_images_and_elsewhere() -> None:
    lines = lines_of(STATE, argv=("--num-envs", "7"), address="127.0.0.1:7777")
    assert lines["environments"] == "7 expected from elsewhere"
    assert lines["clients"] == "seedbed env --server 127.0.0.1:7777; room for 14"
    assert lines["target"].startswith("none: ends after 1,000,000 steps; --target-return X")
    assert "float32; no memory" in lines["network"]
    assert lines_of(STATE)["environments"] == "16 on this machine, fewer than for pixels: steps are cheap"


def test_the_command_of_a_client_has_what_lets_it_in() -> None:
    argv = ("--env", "mine:Maze", "--token-file", "token", "--tls-cert", "server.pem", "--tls-key", "server.key")
    clients = lines_of(STATE, argv=argv, address="far:7777")["clients"]
    assert clients.startswith("seedbed env --server far:7777 --tls-ca CA --token-file token --env mine:Maze; ")
