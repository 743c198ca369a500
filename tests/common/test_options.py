"""Options: what the command line and JSON make of dataclasses."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pytest

from seedbed.common.errors import ConfigError, UsageError
from seedbed.common.options import (
    OptionParser,
    add_options,
    difference,
    explicit,
    flatten,
    from_json,
    omitted,
    option,
    override,
    parse,
    to_argv,
    to_json,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Inner:
    """inner things"""

    learning_rate: float = option(1e-3, "at the start, 50% of it later")
    lambda_: float = option(1.0, "of traces", flag="--lambda")
    low: int = option(1, "at most --high")
    high: int = option(2, "at least --low")

    def __post_init__(self) -> None:
        if self.low > self.high:
            raise UsageError(f"expected --low <= --high, got {self.low} and {self.high}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Outer:
    """outer things"""

    name: str = option("pong", "a name")
    count: int = option(3, "a count", minimum=1)
    limit: int | None = option(None, "a limit")
    warm: bool = option(False, "be warm")
    where: Path | None = option(None, "a place")
    mode: Literal["fast", "slow"] = option("fast", "a mode")
    bound: float = option(float("inf"), "a bound")
    share: float = option(0.5, "a share", minimum=0, maximum=1)
    decay: float = option(0.9, "a decay", above=0, below=1)
    inner: Inner = field(default_factory=Inner)


ALL_CHANGED = Outer(
    name="breakout",
    count=4,
    limit=5,
    warm=True,
    where=Path("a/b"),
    mode="slow",
    bound=2.5,
    inner=Inner(learning_rate=6.0, lambda_=0.5, low=8, high=9),
)


def read(*argv: str, defaults: Outer | None = None) -> Outer:
    return parse(Outer() if defaults is None else defaults, argv, prog="seedbed test")


def test_every_type_from_text() -> None:
    argv = (
        "--name breakout --count 4 --limit 5 --warm --where a/b --mode slow --bound 2.5 "
        "--learning-rate 6 --lambda 0.5 --low 8 --high 9"
    )
    assert read(*argv.split()) == ALL_CHANGED
    assert read() == Outer()


@pytest.mark.parametrize(
    ("argv", "path", "value"),
    [
        (("--count", "2e3"), "count", 2000),
        (("--count", "1"), "count", 1),
        (("--count=20_000",), "count", 20_000),
        (("--limit", "-7"), "limit", -7),
        (("--bound=-inf",), "bound", float("-inf")),
    ],
)
def test_forms_of_values(argv: tuple[str, ...], path: str, value: Any) -> None:
    found = flatten(read(*argv))[path]
    assert (found, type(found)) == (value, type(value))


def test_none_and_no_undo_a_default() -> None:
    changed = read("--limit", "none", "--no-warm", "--where", "None", defaults=ALL_CHANGED)
    assert (changed.limit, changed.warm, changed.where) == (None, False, None)
    assert changed.name == "breakout"


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (("--count", "x"), "--count: expected an integer, got 'x' (see seedbed test --help)"),
        (("--count", "1.5"), "--count: expected an integer, got '1.5'"),
        (("--count", "inf"), "--count: expected an integer, got 'inf'"),
        (("--count", "none"), "--count: expected an integer, got 'none'"),
        (("--count", "0"), "--count: expected at least 1, got 0"),
        (("--where", ""), "--where: expected a path, got ''"),
        (("--share", "1.5"), "--share: expected at most 1, got 1.5"),
        (("--decay", "0"), "--decay: expected more than 0, got 0.0"),
        (("--decay", "1"), "--decay: expected less than 1, got 1.0"),
        (("--count",), "--count: expected one argument"),
        (("--learning-rate", "nan"), "--learning-rate: expected a number, got 'nan'"),
        (("--mode", "fasst"), "--mode: expected one of fast, slow, got 'fasst'"),
        (("--lerning-rate", "1"), "unknown option '--lerning-rate', did you mean --learning-rate?"),
        (("--nam", "x"), "unknown option '--nam'"),
        (("stray",), "unexpected argument 'stray'"),
        (("--low", "3"), "expected --low <= --high, got 3 and 2"),
    ],
)
def test_wrong_options_are_one_line(argv: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(UsageError) as caught:
        read(*argv)
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)
    assert capsys.readouterr() == ("", "")


def test_explicit_names_what_was_given_even_if_it_is_the_default() -> None:
    parser = OptionParser("test")
    parser.add_argument("--other")
    add_options(parser, Outer())
    assert explicit(parser.parse(["--learning-rate", "1e-3", "--no-warm", "--other", "x"]), Outer()) == {
        "inner.learning_rate": 1e-3,
        "warm": False,
    }


def test_override_sets_all_at_once() -> None:
    # Neither alone would pass the check of Inner.
    assert override(Outer(), {"inner.low": 5, "inner.high": 6}).inner == Inner(low=5, high=6)
    start = Outer()
    assert override(start, {"count": 9}).inner is start.inner
    with pytest.raises(ValueError, match=r"expected options of Outer, got inner\.lowest"):
        override(Outer(), {"inner.lowest": 5})


def test_help_shows_groups_types_and_the_defaults_given(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        read("--help", defaults=ALL_CHANGED)
    assert caught.value.code == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "usage: seedbed test [OPTION ...]" in text
    assert "outer things: --name TEXT a name (default: breakout)" in text
    assert "inner things: --learning-rate X at the start, 50% of it later (default: 6.0)" in text
    assert "--mode {fast,slow}" in text


@pytest.mark.parametrize("config", [Outer(), ALL_CHANGED, override(Outer(), {"bound": float("-inf")})])
def test_json_round_trip(config: Outer) -> None:
    text = json.dumps(to_json(config), allow_nan=False)
    assert from_json(Outer(), json.loads(text)) == config
    assert flatten(from_json(Outer(), json.loads(text))) == flatten(config)


def _changed_json(path: str, value: Any) -> dict[str, Any]:
    data = to_json(Outer())
    *parents, name = path.split(".")
    inner = data
    for parent in parents:
        inner = inner[parent]
    inner[name] = value
    return data


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("count", "3", "count: expected an integer, got '3'"),
        ("count", True, "count: expected an integer, got True"),
        ("count", 3.5, r"count: expected an integer, got 3\.5"),
        ("count", None, "count: expected an integer, got None"),
        ("count", 0, "count: expected at least 1, got 0"),
        ("share", 2, r"share: expected at most 1, got 2\.0"),
        ("share", float("nan"), "share: expected a number, got nan"),
        ("warm", 1, "warm: expected true or false, got 1"),
        ("name", 3, "name: expected a text, got 3"),
        ("mode", "middling", "mode: expected one of fast, slow, got 'middling'"),
        ("inner.learning_rate", "x", r"inner\.learning_rate: expected a number, got 'x'"),
        ("inner.learning_rate", False, r"inner\.learning_rate: expected a number, got False"),
        ("inner", 3, "inner: expected an object, got 3"),
        ("inner.surprise", 3, r"expected options that this version has, got inner\.surprise$"),
        ("low", 3, r"got low \(did you mean inner\.low\?\)$"),
        ("inner.lerning_rate", 3, r"got inner\.lerning_rate \(did you mean inner\.learning_rate\?\)$"),
        ("inner.low", 3, "expected --low <= --high, got 3 and 2"),
    ],
)
def test_wrong_json_is_named(path: str, value: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        from_json(Outer(), _changed_json(path, value))


def test_missing_json_has_its_defaults_and_is_named() -> None:
    data = to_json(ALL_CHANGED)
    assert omitted(Outer(), data) == ()
    del data["count"], data["inner"]["learning_rate"]
    assert omitted(Outer(), data) == ("count", "inner.learning_rate")
    missing = {path: flatten(Outer())[path] for path in ("count", "inner.learning_rate")}
    assert from_json(Outer(), data) == override(ALL_CHANGED, missing)
    del data["inner"]
    assert from_json(Outer(), data).inner == Outer().inner


def test_integers_in_json_are_numbers() -> None:
    found = from_json(Outer(), _changed_json("inner.learning_rate", 1)).inner.learning_rate
    assert (found, type(found)) == (1.0, float)


def test_difference() -> None:
    changed = override(Outer(), {"inner.learning_rate": 3e-4, "limit": 5})
    assert difference(Outer(), changed) == [
        "limit: None in the run, 5 now",
        "learning_rate: 0.001 in the run, 0.0003 now",
    ]
    assert difference(Outer(), Outer()) == []


@dataclass(frozen=True)
class Twice:
    """twice"""

    low: int = option(1, "collides with that of Inner")
    inner: Inner = field(default_factory=Inner)


@dataclass(frozen=True)
class Undeclared:
    """undeclared"""

    low: int = 1


@dataclass(frozen=True)
class Odd:
    """odd"""

    low: complex = option(1j, "no such kind")


def test_two_options_of_one_name_are_refused() -> None:
    """One of them may be a plug-in's."""
    with pytest.raises(UsageError, match="expected options of different names, got two of --low"):
        parse(Twice(), [], prog="test")


@pytest.mark.parametrize(
    ("cls", "message"),
    [(Undeclared, "expected option"), (Odd, "no options of type")],
)
def test_defects_of_ours_are_assertions(cls: type, message: str) -> None:
    with pytest.raises(AssertionError, match=message):
        parse(cls(), [], prog="test")


def test_imports_nothing_heavy() -> None:
    code = "import sys, seedbed.common.options; print([m for m in ('numpy', 'torch', 'grpc') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("tree", [Outer(), ALL_CHANGED])
def test_a_command_line_says_what_a_tree_has(tree: Outer) -> None:
    assert read(*to_argv(tree)) == tree
    assert {f"--count={tree.count}", f"--lambda={tree.inner.lambda_}"} < set(to_argv(tree))


@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    """things that host others"""

    seed: int = option(0, "a seed", fixed=True)
    rate: float = option(1.0, "a rate")
    guest: Any = field(default_factory=Inner)


@dataclass(frozen=True, slots=True, kw_only=True)
class Guest:
    """guest things"""

    width: int = option(4, "a width", fixed=True)


def test_a_part_may_be_of_another_class_in_another_tree() -> None:
    tree = Host(guest=Guest())
    assert list(flatten(tree)) == ["seed", "rate", "guest.width"]
    assert parse(tree, ["--width", "7"], prog="seedbed test").guest == Guest(width=7)
    assert from_json(tree, json.loads(json.dumps(to_json(override(tree, {"guest.width": 9}))))).guest.width == 9
    with pytest.raises(UsageError, match="unknown option '--low'"):
        parse(tree, ["--low", "7"], prog="seedbed test")


def test_fixed_options_are_told_from_the_others() -> None:
    now = override(Host(guest=Guest()), {"seed": 1, "rate": 2.0, "guest.width": 5})
    assert difference(Host(guest=Guest()), now, fixed=True) == [
        "seed: 0 in the run, 1 now",
        "width: 4 in the run, 5 now",
    ]
    assert len(difference(Host(guest=Guest()), now)) == 3
