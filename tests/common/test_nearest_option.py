"""What is suggested for options that there are not."""

from __future__ import annotations

import pytest

from seedbed.common.nearest_option import nearest_option
from seedbed.common.option_fields import options_of
from seedbed.server.options.config import ServerConfig

OPTIONS = {leaf.flag: leaf.help for leaf in options_of(ServerConfig())}


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("--lr", "--learning-rate"),
        ("--learning_rate", "--learning-rate"),
        ("--learning-rat", "--learning-rate"),
        ("--envs", "--num-envs"),
        ("--steps", "--max-steps"),
        ("--batch", "--batch-size"),
        ("--env-id", "--env"),
        ("--gamma", "--discount"),
        ("--devise", "--device"),
        ("--xyzzy", None),
        ("--", None),
    ],
)
def test_the_nearest(typed: str, meant: str | None) -> None:
    assert nearest_option(typed, OPTIONS) == meant
