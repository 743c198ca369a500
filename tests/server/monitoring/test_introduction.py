"""What a person is told when a run starts, and when it ends."""

from __future__ import annotations

from pathlib import Path

import pytest

from seedbed.common.options import override
from seedbed.common.specs import ArraySpec, EnvironmentSpec, discrete
from seedbed.server.monitoring.introduction import continuation, count, introduce, next_commands
from seedbed.server.options.config import ServerConfig

SPEC = EnvironmentSpec(
    environment="ALE/Pong-v5",
    preset="paper",
    observations=(ArraySpec(name="observation", dtype="uint8", shape=(84, 84), low=(0.0,), high=(255.0,)),),
    actions=(discrete("action", 6),),
)
CONFIG = override(
    ServerConfig(),
    {
        "algorithm": "apex",
        "fleet.num_envs": 32,
        "fleet.num_greedy_envs": None,
        "run.run_dir": Path("runs/pong"),
        "run.target_return": 18.0,
        "run.max_steps": 6_000_000,
        "run.max_seconds": 60.0,
        "network.core": "lstm",
    },
)


def test_a_start_in_a_few_lines() -> None:
    lines = introduce(CONFIG, SPEC, "cuda", 1_684_128, local=True, reasons=["mlp: vectors", "float32: numbers"])
    assert lines == [
        "task          ALE/Pong-v5, preset paper: sees 84 x 84 uint8, does one of 6",
        "learns by     apex on cuda; network impala_shallow and lstm, 1,684,128 parameters",
        "environments  32 on this machine; 8 of them only show the score",
        "until         a mean return of 18 or 6,000,000 agent steps or 60 s",
        "curves        tensorboard --logdir runs/pong, or seedbed plot runs/pong",
        "chosen        mlp: vectors",
        "              float32: numbers",
    ]
    assert "32 expected from elsewhere, room for 64" in introduce(CONFIG, SPEC, "cpu", 1, local=False)[2]


@pytest.mark.parametrize(
    ("reached", "more"),
    [
        (None, ""),
        ("reached 6,000,000 agent steps", " --max-steps 12000000"),
        ("reached 60 s", " --max-seconds none (or more)"),
        ("reached a mean return of 18.00 over a cohort of 104 episodes", " --target-return none (or a higher one)"),
    ],
)
def test_what_would_continue_a_run(reached: str | None, more: str) -> None:
    assert continuation(CONFIG, "train", reached) == f"seedbed train --run-dir runs/pong{more}"
    assert [line.split()[-1] for line in next_commands(CONFIG, "train", None)] == ["runs/pong"] * 3


@pytest.mark.parametrize(
    ("num_envs", "asked", "greedy"), [(32, None, 8), (3, None, 1), (2, None, 1), (1, None, 0), (32, 5, 5), (32, 0, 0)]
)
def test_a_quarter_of_the_environments_shows_the_score(num_envs: int, asked: int | None, greedy: int) -> None:
    fleet = override(CONFIG, {"fleet.num_envs": num_envs, "fleet.num_greedy_envs": asked}).fleet
    assert len(fleet.greedy_environments) == greedy
    assert sum(map(fleet.shows_score, range(num_envs))) == (greedy or num_envs)


def test_numbers_agree_with_their_nouns() -> None:
    assert [count(number, "episode") for number in (0, 1, 1000)] == ["0 episodes", "1 episode", "1,000 episodes"]
