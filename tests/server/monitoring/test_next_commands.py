"""What a person is told when a run ends."""

from __future__ import annotations

from pathlib import Path

import pytest

from seedbed.common.options import override
from seedbed.server.monitoring.next_commands import continuation, next_commands
from seedbed.server.options.config import ServerConfig

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


@pytest.mark.parametrize(
    ("reached", "more"),
    [
        (None, ""),
        ("reached 6,000,000 agent steps", " --max-steps 12000000"),
        ("reached 60 s", " --max-seconds none (or more)"),
        ("reached a mean return of 18.00 over a cohort of 104 episodes", " --target-return none (or a higher one)"),
        (
            "reached a mean return of 0.800 of people's over a cohort of every task",
            " --target-score none (or a higher one)",
        ),
        (
            "reached the return of every task with a target (Catch 0.95)",
            " --tasks FILE, the same tasks with higher targets",
        ),
    ],
)
def test_what_would_continue_a_run(reached: str | None, more: str) -> None:
    assert continuation(CONFIG, "train", reached) == f"seedbed train --run-dir runs/pong{more}"
    assert [line.split()[-1] for line in next_commands(CONFIG, "train", None)] == ["runs/pong"] * 3


def test_more_steps_are_more_than_the_run_has() -> None:
    few = override(CONFIG, {"run.max_steps": 5})
    reached = "reached 5 agent steps"
    assert continuation(few, "train", reached, steps=6).endswith(" --max-steps 10")
    assert continuation(few, "train", reached, steps=10).endswith(" --max-steps 15")
    assert next_commands(few, "train", reached, steps=4008)[-1].endswith(" --max-steps 4010")


def test_a_folder_with_a_space_in_its_name_is_one_word() -> None:
    spaced = override(CONFIG, {"run.run_dir": Path("my runs/é")})
    for line in next_commands(spaced, "train", None):
        assert "'my runs/é'" in line


def test_who_may_reach_a_server_is_said_again() -> None:
    far = override(
        CONFIG,
        {
            "serving.host": "0.0.0.0",
            "serving.credentials.token_file": Path("my token"),
            "serving.credentials.tls_cert": Path("server.pem"),
            "serving.credentials.tls_key": Path("server.key"),
        },
    )
    assert continuation(far, "server", None) == (
        "seedbed server --run-dir runs/pong --host=0.0.0.0 '--token-file=my token' --tls-cert=server.pem "
        "--tls-key=server.key"
    )


def test_a_best_checkpoint_is_named_where_there_is_one() -> None:
    score = next_commands(CONFIG, "train", None, has_best=True)[0]
    assert score == "score     seedbed eval runs/pong  (--best: the best checkpoint)"


def test_modules_that_only_a_file_names_are_allowed_by_the_command() -> None:
    mine = override(CONFIG, {"environment.env": "mine:make"})
    score, curves, go_on = next_commands(mine, "train", None)
    assert score.endswith("seedbed eval runs/pong --allow-import")
    assert go_on.endswith("seedbed train --run-dir runs/pong --allow-import")
    assert "allow" not in curves


@pytest.mark.parametrize(
    ("num_envs", "asked", "greedy"), [(32, None, 8), (3, None, 1), (2, None, 1), (1, None, 0), (32, 5, 5), (32, 0, 0)]
)
def test_a_quarter_of_the_environments_shows_the_score(num_envs: int, asked: int | None, greedy: int) -> None:
    fleet = override(CONFIG, {"fleet.num_envs": num_envs, "fleet.num_greedy_envs": asked}).fleet
    assert len(fleet.greedy_environments) == greedy
    assert sum(map(fleet.shows_score, range(num_envs))) == (greedy or num_envs)
