"""Which algorithm runs is asked by nobody: their names and classes stand in algorithms/ and presets/ alone.

Papers may be cited: comments and docstrings are left out where arithmetic (losses/), networks or published scores say
where they come from, and so is arithmetic that has a paper's name.
"""

from __future__ import annotations

import ast
import io
import re
import tokenize
from pathlib import Path

import pytest

from seedbed.server.algorithms.registry import ALGORITHMS

SERVER = Path(__file__).resolve().parents[3] / "server"
MAY_NAME = ("algorithms", "presets")
CITE = ("losses", "networks", "learning/optimisers.py", "experience/replay.py", "run/human_scores.py")

CLASSES = {place.partition(":")[2] for place in ALGORITHMS.values()}
SPELLINGS = {"V-trace", "PPO", "A2C", "A3C", "R2D2", "Ape-X", "Sarsa"}
NAMED = re.compile(r"(?<![A-Za-z0-9_-])(" + "|".join(sorted({*ALGORITHMS, *CLASSES})) + r")(?![A-Za-z0-9_])")
SPOKEN = re.compile("|".join(sorted({NAMED.pattern, *map(re.escape, SPELLINGS)})))


def code_of(source: str) -> list[tuple[int, str]]:
    """Lines without comments and docstrings; strings stay."""
    docstrings: set[int] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            docstrings |= set(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    kept = [(token.start[0], token.string) for token in tokens if token.type in (tokenize.NAME, tokenize.STRING)]
    return [(line, text) for line, text in kept if line not in docstrings]


def found(path: str, source: str) -> list[str]:
    """Places of a file of the server where an algorithm is named."""
    if path.startswith(MAY_NAME):
        return []
    if path.startswith(CITE):
        lines = [] if path.startswith("losses") else code_of(source)
        return [f"{path}:{line}: {text}" for line, text in lines if NAMED.search(text)]
    return [f"{path}:{n}: {line}" for n, line in enumerate(source.splitlines(), 1) if SPOKEN.search(line)]


def test_nobody_names_an_algorithm() -> None:
    places = [
        place for path in SERVER.rglob("*.py") for place in found(str(path.relative_to(SERVER)), path.read_text())
    ]
    assert not places, "\n".join(places)


@pytest.mark.parametrize(
    ("path", "line"),
    [
        ("training/run.py", 'if config.algorithm == "ppo":'),
        ("training/run.py", "from seedbed.server.algorithms.vtrace import VTrace"),
        ("learning/learner.py", "if isinstance(self._algorithm, R2D2):"),
        ("options/serving.py", 'help = "a2c and ppo: how long"'),
        ("inference/policy.py", '"""As PPO does."""'),
        ("networks/cores.py", 'kind = "r2d2"'),
        ("run/human_scores.py", "from seedbed.server.algorithms import one_step_q"),
    ],
)
def test_it_would_be_seen(path: str, line: str) -> None:
    assert found(path, f"{line}\n    pass" if line.endswith(":") else line)


@pytest.mark.parametrize(
    ("path", "line"),
    [
        ("presets/pong.py", 'TABLES = {"vtrace": {}}'),
        ("networks/dueling.py", '"""With an LSTM as in R2D2."""'),
        ("losses/vtrace.py", "def vtrace() -> None: ..."),
        ("training/run.py", 'regime = "rounds"'),
    ],
)
def test_papers_may_be_cited(path: str, line: str) -> None:
    assert not found(path, line)
