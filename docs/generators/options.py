"""The pages of options: every flag of every verb with its default, and what presets change."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from seedbed.common.doctor import DoctorConfig
from seedbed.common.option_fields import Option, option_groups
from seedbed.common.options import flatten
from seedbed.env_client.check import CheckOptions
from seedbed.env_client.config import EnvConfig
from seedbed.env_client.fleets.options import FleetOptions
from seedbed.env_client.loadtest.options import LoadTestOptions
from seedbed.env_client.top.__main__ import TopOptions
from seedbed.exporting import ExportConfig
from seedbed.hub import PushConfig
from seedbed.server.algorithms.registry import ALGORITHMS, SUMMARIES, find_algorithm
from seedbed.server.options.config import ServerConfig
from seedbed.server.presets.registry import PRESETS
from seedbed.server.presets.registry import SUMMARIES as PRESET_SUMMARIES
from seedbed.server.verbs.eval_options import EvalConfig
from seedbed.server.verbs.plot import PlotOptions
from seedbed.server.verbs.record import RecordConfig

_VERBS: Mapping[str, Any] = {
    "seedbed eval RUN": EvalConfig(),
    "seedbed export RUN": ExportConfig(),
    "seedbed push RUN": PushConfig(),
    "seedbed record RUN": RecordConfig(),
    "seedbed plot RUN...": PlotOptions(),
    "seedbed env": EnvConfig(),
    "seedbed fleet": FleetOptions(),
    "seedbed check ENV": CheckOptions(),
    "seedbed loadtest": LoadTestOptions(),
    "seedbed top HOST:PORT": TopOptions(),
    "seedbed doctor": DoctorConfig(),
}

_OPTIONS_HEAD = """# Options

Written by `make docs` from the code; `seedbed VERB --help` shows the same. The second column is where an option
stands in a run's `config.json` and in a file for `--config`. Python takes them with underscores:
`seedbed.train(learning_rate=1e-3)`. A switch has a `--no-` form. `none` stands for no value where the default is none.

The defaults of `seedbed train` and `seedbed server` stand here before an environment is known: what it shows, the
algorithm and the preset change them ([defaults.md](../defaults.md), [presets.md](presets.md)), and a start says what it
took.
"""

_PRESETS_HEAD = """# Presets

Written by `make docs` from the code: what a preset changes. Options that are typed win over it.
"""


def options_page() -> str:
    """Every verb's options."""
    lines = [_OPTIONS_HEAD, "## seedbed train, seedbed server", ""]
    lines += _groups(ServerConfig(), with_paths=True)
    lines += ["## Options of the algorithms", ""]
    for name in ALGORITHMS:
        options = find_algorithm(name).Options()
        lines += [f"### --algorithm {name}", "", f"{_sentence(SUMMARIES.get(name, ''))}", ""]
        lines += _table(
            [leaf for _, leaves in option_groups(options) for leaf in leaves], flatten(options), "algorithm_options."
        )
    for verb, tree in _VERBS.items():
        lines += [f"## {verb}", "", *_groups(tree, with_paths=False)]
    return "\n".join(lines)


def presets_page() -> str:
    """Every preset's values."""
    lines = [_PRESETS_HEAD]
    for name, (task, algorithms) in PRESETS.items():
        lines += [f"## --preset {name}", "", _sentence(PRESET_SUMMARIES.get(name, "")), "", *_values(task)]
        for algorithm, values in algorithms.items():
            lines += [f"### {name} by {algorithm}", ""]
            lines += _values(values) if values else ["Nothing beside what holds for the task.", ""]
    return "\n".join(lines)


def _groups(tree: Any, *, with_paths: bool) -> list[str]:
    values = flatten(tree)
    lines = []
    for title, leaves in option_groups(tree):
        shown = [leaf for leaf in leaves if not leaf.hidden]
        if shown:
            heading = "general" if title == "All of it" else title
            lines += [f"### {heading}" if with_paths else f"{_sentence(heading)}", ""]
            lines += _table(shown, values, "" if with_paths else None)
    return lines


def _table(leaves: Iterable[Option], values: Mapping[str, Any], prefix: str | None) -> list[str]:
    """A row for each option.

    Args:
        leaves: the options.
        values: their defaults, by path.
        prefix: of their paths in config.json; None: they stand in none.
    """
    head = ["| option | default | |", "|---|---|---|"]
    if prefix is not None:
        head = ["| option | in config.json | default | |", "|---|---|---|---|"]
    rows = []
    for leaf in leaves:
        if leaf.hidden:
            continue
        value = "" if leaf.kind is bool else f" {leaf.metavar}"
        path = "" if prefix is None else f" `{prefix}{leaf.path}` |"
        rows.append(f"| `{_cell(leaf.flag + value)}` |{path} {_default(values[leaf.path])} | {_cell(leaf.help)} |")
    return [*head, *rows, ""]


def _values(values: Mapping[str, Any]) -> list[str]:
    rows = [f"| `{path}` | `{value}` |" for path, value in sorted(values.items())]
    return ["| option | value |", "|---|---|", *rows, ""]


def _default(value: Any) -> str:
    return "none" if value is None or value == "" else f"`{str(value).lower() if isinstance(value, bool) else value}`"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}." if text else ""
