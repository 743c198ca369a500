"""`import seedbed`: what it costs, and what it has."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import version

import pytest

import seedbed


def cpu_seconds(program: str) -> float:
    """Of a process of its own: how long it takes says more of what else runs on this machine."""
    program = f"import time; {program}; print(time.process_time())"
    done = subprocess.run([sys.executable, "-c", program], check=True, timeout=60, capture_output=True, text=True)
    return float(done.stdout)


def test_it_costs_next_to_nothing() -> None:
    """Less than 0.05 s over an interpreter that does nothing: the best of a few, measured in turn."""
    pairs = [(cpu_seconds("pass"), cpu_seconds("import seedbed")) for _ in range(6)]
    empty, ours = (min(times) for times in zip(*pairs, strict=True))
    assert ours - empty < 0.05


def test_every_name_is_there() -> None:
    assert seedbed.__version__ == version("seedbed")
    for name in seedbed.__all__:
        value = getattr(seedbed, name)
        assert not isinstance(value, type(seedbed)), f"{name} is a module"
        assert getattr(seedbed, name) is value
    assert dir(seedbed) == sorted(seedbed.__all__), "nothing of how it is made"


def test_unknown_names_are_refused() -> None:
    with pytest.raises(AttributeError, match="leanr"):
        _ = seedbed.leanr


@pytest.mark.parametrize(
    ("name", "forbidden"),
    [
        ("connect", ("torch", "gymnasium", "seedbed.server")),
        ("spec_of", ("torch", "gymnasium", "grpc", "seedbed.server")),
        ("train", ("torch", "gymnasium", "grpc")),
        ("evaluate", ("torch", "gymnasium", "grpc")),
        ("load", ("gymnasium", "grpc")),
        ("__version__", ("torch", "numpy", "seedbed.common")),
    ],
)
def test_names_load_only_what_they_need(name: str, forbidden: tuple[str, ...]) -> None:
    program = f"import seedbed, sys; seedbed.{name}; print([name for name in {forbidden!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "[]"


def test_a_missing_extra_is_named() -> None:
    program = "import sys; sys.modules['torch'] = None; import seedbed; seedbed.load"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert "MissingExtraError" in done.stderr
    assert "server" in done.stderr
