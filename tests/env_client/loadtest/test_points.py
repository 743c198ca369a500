"""Ranges of loads."""

from __future__ import annotations

import pytest

from seedbed.common.errors import UsageError
from seedbed.env_client.loadtest.points import Load, make_loads, parse_range


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("4", (4,)),
        ("1,4,16", (1, 4, 16)),
        ("1:256", (1, 2, 4, 8, 16, 32, 64, 128, 256)),
        ("1:6", (1, 2, 4, 6)),
        ("3:3", (3,)),
        ("1:4,100", (1, 2, 4, 100)),
        ("16,1:16", (16, 1, 2, 4, 8)),
    ],
)
def test_ranges(text: str, values: tuple[int, ...]) -> None:
    assert parse_range("--clients", text) == values


@pytest.mark.parametrize("text", ["", "x", "1:", ":4", "1:2:3", "0", "0:4", "8:4", "-1", "1.5", "1,,2"])
def test_what_is_no_range_is_named(text: str) -> None:
    with pytest.raises(UsageError, match="expected --rate") as error:
        parse_range("--rate", text)
    assert repr(text) in str(error.value)


def test_loads_are_every_combination() -> None:
    loads = make_loads("1:2", "4,8", "100,200")
    assert [(load.clients, load.envs_per_client, load.rate) for load in loads] == [
        (1, 4, 100),
        (1, 4, 200),
        (1, 8, 100),
        (1, 8, 200),
        (2, 4, 100),
        (2, 4, 200),
        (2, 8, 100),
        (2, 8, 200),
    ]
    assert make_loads("3", "4", None) == [Load(clients=3, envs_per_client=4)]
    assert loads[-1].num_envs == 16
