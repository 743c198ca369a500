"""Bounds of numbers among the options: times, ports and shares that nothing could be done with are refused."""

from __future__ import annotations

from typing import Any

import pytest

from seedbed.common.errors import UsageError
from seedbed.common.options import options_of, parse
from seedbed.env_client.config import EnvConfig
from seedbed.env_client.loadtest.options import LoadTestOptions
from seedbed.server.options.config import ServerConfig
from seedbed.server.verbs.eval_options import EvalConfig

TREES = (ServerConfig(), EnvConfig(), LoadTestOptions(), EvalConfig())
_ENDINGS = ("_s", "_ms", "seconds", "port", "seed", "_steps", "_rate", "fps")


@pytest.mark.parametrize("tree", TREES, ids=lambda tree: type(tree).__name__)
def test_times_ports_seeds_and_rates_have_a_least_value(tree: Any) -> None:
    flags = [leaf.flag for leaf in options_of(tree) if leaf.kind in (int, float) and leaf.path.endswith(_ENDINGS)]
    assert flags
    for flag in flags:
        with pytest.raises(UsageError, match=flag):
            parse(tree, [f"{flag}=-1"], prog="seedbed train")


@pytest.mark.parametrize(
    ("flag", "value", "expected"),
    [
        ("--discount", "1.5", "at most 1"),
        ("--discount", "-0.1", "at least 0"),
        ("--beta1", "1", "less than 1"),
        ("--decay", "7", "less than 1"),
        ("--max-seconds", "0", "more than 0"),
        ("--log-interval-s", "0", "more than 0"),
        ("--port", "99999", "at most 65535"),
        ("--http-port", "-1", "at least 0"),
        ("--grace-s", "-1", "at least 0"),
        ("--max-inference-batch", "0", "at least 1"),
    ],
)
def test_what_nothing_could_be_done_with(flag: str, value: str, expected: str) -> None:
    with pytest.raises(UsageError, match=f"^{flag}: expected {expected}, got"):
        parse(ServerConfig(), [f"{flag}={value}"], prog="seedbed train")
