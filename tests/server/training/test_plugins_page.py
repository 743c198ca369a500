"""The code of docs/plugins.md is code that runs."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from types import ModuleType

import pytest
import yaml

from seedbed.common.options import from_json
from seedbed.common.plugins import GROUPS
from seedbed.common.specs import ArraySpec
from seedbed.server.trackers.interface import TrackedRun
from seedbed.server.trackers.tracking import Tracking
from seedbed.server.training.checks import check_torso
from seedbed.server.training.resolve import defaults_of

ROOT = Path(__file__).resolve().parents[3]
PAGE = (ROOT / "docs" / "plugins.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)


def module(code: str) -> ModuleType:
    made = ModuleType("page")
    exec(compile(code, "docs/plugins.md", "exec"), made.__dict__)
    return made


def test_the_environment() -> None:
    checker = pytest.importorskip("gymnasium.utils.env_checker")
    env = module(blocks("python")[0]).Guess(size=5)
    checker.check_env(env, skip_render_check=True)
    assert env.observation_space.shape == (5,)


def test_the_torso() -> None:
    vector = (ArraySpec(name="observation", dtype="float32", shape=(4,)),)
    check_torso(module(blocks("python")[1]).Attention, vector, (3,))


def test_the_tracker(tmp_path: Path) -> None:
    (source,) = [block for block in blocks("python") if "# my_tracker.py" in block]
    run = TrackedRun(name="x", directory=tmp_path, config={}, environment="X-v0", version="0")
    tracking = Tracking({"csv": module(source).Csv}, run)
    tracking.log({"train/loss": 0.5}, {}, 40)
    tracking.close({"ended": "the step limit"})
    assert (tmp_path / "loss.csv").read_text() == "40,0.5\n"


def test_the_options_in_a_file() -> None:
    config = from_json(defaults_of("ppo"), yaml.safe_load(blocks("yaml")[0]))
    assert config.algorithm_options.clip_ratio == 0.2


def test_the_package_is_the_one_in_tests() -> None:
    points = tomllib.loads(blocks("toml")[0])["project"]["entry-points"]
    real = tomllib.loads((ROOT / "tests" / "plugin" / "pyproject.toml").read_text())["project"]["entry-points"]
    for group, named in points.items():
        assert group.removeprefix("seedbed.") in GROUPS
        assert named.items() <= real[group].items()
