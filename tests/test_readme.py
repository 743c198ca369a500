"""The README is true where that can be computed: the tree of folders, the targets, the options and the lag bound."""

from __future__ import annotations

import re
from pathlib import Path

from seedbed.common.cli import VERBS
from seedbed.common.options import options_of
from seedbed.env_client.check import CheckOptions
from seedbed.env_client.config import EnvConfig
from seedbed.env_client.fleets.options import FleetOptions
from seedbed.env_client.loadtest.options import LoadTestOptions
from seedbed.env_client.top.__main__ import TopOptions
from seedbed.exporting import ExportConfig
from seedbed.hub import PushConfig
from seedbed.server.algorithms.registry import ALGORITHMS
from seedbed.server.training.command_line import make_parser
from seedbed.server.training.resolve import defaults_of
from seedbed.server.verbs.evaluate import EvalConfig
from seedbed.server.verbs.plot import PlotOptions
from seedbed.server.verbs.record import RecordConfig
from tests.reference.configs import preset_config

ROOT = Path(__file__).resolve().parent.parent
VERB_OPTIONS = (
    EnvConfig(),
    EvalConfig(),
    FleetOptions(),
    ExportConfig(),
    PushConfig(),
    PlotOptions(),
    RecordConfig(),
    LoadTestOptions(),
    CheckOptions(),
    TopOptions(),
)
README = (ROOT / "README.md").read_text()
DOCUMENTS = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "SECURITY.md",
    ROOT / "proto" / "README.md",
    *(ROOT / "docs").glob("*.md"),
]


def test_tree_names_every_folder() -> None:
    tree = README.partition("## The code")[2].partition("```\n")[2].partition("```")[0]
    packages = ("api", "proto", "common", "env_client", "server")
    sources = [path for folder in packages for path in (ROOT / folder).rglob("*.py")]
    folders = {path.parent.name for path in sources}
    assert folders - set(re.findall(r"([a-z_]+)/", tree)) == set()


def test_targets_exist() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = {
        name for path in DOCUMENTS for name in re.findall(r"(?:^|`)make ([a-z-]+)", path.read_text(), re.MULTILINE)
    }
    assert named
    assert named - targets - {"itself"} == set()


def test_options_and_verbs_exist() -> None:
    servers = [defaults_of(name) for name in ALGORITHMS]
    trees = (*servers, *VERB_OPTIONS)
    leaves = [leaf for tree in trees for leaf in options_of(tree)]
    flags = {leaf.flag for leaf in leaves} | {f"--no-{leaf.flag[2:]}" for leaf in leaves if leaf.kind is bool}
    flags |= set(make_parser("seedbed train", "", servers[0])._option_string_actions)
    known = flags | {"--group", "--logdir", "--return-scale"}
    commands = [
        line
        for path in DOCUMENTS
        for line in path.read_text().splitlines()
        if re.search(r"\bseedbed [a-z]+ |make train", line)
    ]
    assert {flag for line in commands for flag in re.findall(r"--[a-z][a-z-]*", line)} - known == set()
    named = {verb for line in commands for verb in re.findall(r"(?:bin/|^|`)seedbed ([a-z]+) ", line)}
    assert {"train", "server", "env", "eval", "plot"} <= named | {"server"}
    assert named - set(VERBS) - {"trains"} == set()


def test_links_lead_somewhere() -> None:
    for path in DOCUMENTS:
        for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", path.read_text()):
            assert (path.parent / target).exists(), f"{path}: {target}"


def test_lag_bound_of_the_pong_preset() -> None:
    config = preset_config("pong", "vtrace")
    bound = (config.queue_unrolls + 2 * config.fleet.num_envs) / config.learning.batch_size + 1
    assert f"({bound:g} for Pong's preset)" in README
