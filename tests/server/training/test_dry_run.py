"""What --dry-run says: figures that fit what is then built, and nothing on the disk."""

from __future__ import annotations

import json
import re
from contextlib import nullcontext
from pathlib import Path

import pytest

from seedbed.common.errors import UsageError
from seedbed.common.options import override, to_json
from seedbed.common.specs import ArraySpec, EnvironmentSpec, discrete
from seedbed.server.training.assemble import assemble
from seedbed.server.training.command_line import read_command_line
from seedbed.server.training.dry_run import describe_dry_run
from seedbed.server.training.opening import open_run
from seedbed.server.training.stop_signal import StopSignal
from seedbed.server.verbs.learners import place_of_dry_run
from seedbed.server.verbs.train import train

SPEC = EnvironmentSpec(
    environment="x",
    observations=(ArraySpec(name="observation", dtype="float32", shape=(3,)),),
    actions=(discrete("action", 2),),
)
SOURCES = {"vtrace": ("queue", 8), "ppo": ("rounds", 4), "r2d2": ("replay", 70)}


@pytest.mark.parametrize("algorithm", SOURCES)
def test_figures(algorithm: str, tmp_path: Path) -> None:
    file = tmp_path / "spec.json"
    file.write_text(json.dumps(SPEC.to_json()))
    own = ["--replay-capacity", "70", "--replay-min-size", "10"] if algorithm == "r2d2" else []
    argv = ["--spec", str(file), "--algorithm", algorithm, "--num-envs", "2", "--batch-size", "4", *own]
    opened = open_run(read_command_line([*argv, "--run-dir", str(tmp_path / "run")], prog="seedbed train"))
    text = describe_dry_run(opened)
    parts = assemble(override(opened.config, {"run.device": "cpu"}), SPEC)
    parameters = sum(p.numel() for p in parts.learner.learnt.parameters())
    assert f"{parameters:,} parameters" in text
    source, capacity = SOURCES[algorithm]
    assert re.search(rf"^{source} +{capacity} unrolls, \d", text, re.MULTILINE)
    assert f"unroll       {parts.algorithm.num_rows} rows" in text
    assert json.loads(text.partition("\nconfig")[2]) == to_json(opened.config)
    assert not (tmp_path / "run").exists()


def test_several_learners_are_not_started_but_judged(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "spec.json"
    file.write_text(json.dumps(SPEC.to_json()))
    argv = ["--spec", str(file), "--num-envs", "2", "--exchange", "gossip", "--run-dir", str(tmp_path / "run")]
    for algorithm in ("a2c", "pqn"):
        given = read_command_line([*argv, "--algorithm", algorithm, "--dry-run"], prog="seedbed train")
        refused = pytest.raises(UsageError, match="expected --exchange all_reduce with --algorithm pqn, got gossip")
        with place_of_dry_run(3) as place, refused if algorithm == "pqn" else nullcontext():
            assert train(given, StopSignal(), local=False, place=place) == 0
    assert re.search(r"^learners +3, each with all of this; gossip$", capsys.readouterr().out, re.MULTILINE)
    assert not (tmp_path / "run").exists()
