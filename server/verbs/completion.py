"""`seedbed completion bash|zsh`: completion of verbs, options and names, made by shtab from the help of the verbs.

seedbed completion bash > ~/.local/share/bash-completion/completions/seedbed
seedbed completion zsh > ~/.zfunc/_seedbed
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
from collections.abc import Iterator, Mapping, Sequence

from seedbed.common.cli import VERBS, naming_extras
from seedbed.common.errors import MissingExtraError, UsageError
from seedbed.common.options import OptionParser, captured_help
from seedbed.common.plugins import names
from seedbed.server.algorithms.registry import ALGORITHMS
from seedbed.server.networks.registry import CORES, TORSOS
from seedbed.server.presets.registry import PRESETS
from seedbed.server.trackers.registry import TRACKERS

_SHELLS = ("bash", "zsh")
_FILES = ("FILE", "PATH", "DIR")


def main(argv: Sequence[str]) -> int:
    """Prints the script.

    Raises:
        UsageError: no such shell.
        MissingExtraError: shtab is not installed.
    """
    parser = OptionParser("seedbed completion", "Completion for a shell, on standard output.", operands="bash|zsh")
    parser.add_argument("shell", metavar="bash|zsh", nargs="?")
    shell = parser.parse(argv).shell
    if shell not in _SHELLS:
        raise UsageError(f"expected seedbed completion bash or seedbed completion zsh, got {shell!r}")
    with naming_extras():
        import shtab

        print(shtab.complete(make_parser(), shell=shell))
    return 0


def make_parser() -> argparse.ArgumentParser:
    """The whole command line as one parser; verbs whose extra is missing have no options in it."""
    parser = argparse.ArgumentParser(prog="seedbed")
    parser.add_argument("--version", action="store_true", help="show the version")
    verbs = parser.add_subparsers()
    known = _known()
    for verb, entry in VERBS.items():
        whole = verbs.add_parser(verb, help=entry.help.replace("%", "%%"), add_help=False)
        seen: set[str] = set()
        for action in _options(verb):
            if not seen.intersection(action.option_strings) and action.help != argparse.SUPPRESS:
                seen.update(action.option_strings)
                _teach(action, known)
                whole._add_action(action)
    return parser


def _options(verb: str) -> Iterator[argparse.Action]:
    """All options of a verb: those that its help shows, and those of every built-in algorithm where it takes one."""
    common = _helped([verb])
    yield from common
    if any("--algorithm" in action.option_strings for action in common):
        for name in ALGORITHMS:
            yield from _helped([verb, "--algorithm", name])


def _helped(words: Sequence[str]) -> list[argparse.Action]:
    """What the help of a verb shows."""
    verb, *rest = words
    module = importlib.import_module(VERBS[verb].module)
    with captured_help() as parsers, contextlib.suppress(SystemExit, MissingExtraError), naming_extras():
        module.main([*words, "--help"] if VERBS[verb].shared else [*rest, "--help"])
    return [action for parser in parsers for action in parser._actions]


def _known() -> Mapping[str, Sequence[str]]:
    """Option -> names that it takes."""
    tables = {"algorithm": ALGORITHMS, "torso": TORSOS, "core": CORES}
    found = {
        f"--{option}": [one.name for one in names(f"{option}s", table) if not one.hidden]
        for option, table in tables.items()
    }
    return found | {"--preset": list(PRESETS), "--track": list(TRACKERS)}


def _teach(action: argparse.Action, known: Mapping[str, Sequence[str]]) -> None:
    """Says which values an option takes, in a form that shtab reads."""
    import shtab

    metavar = action.metavar if isinstance(action.metavar, str) else ""
    for flag in action.option_strings:
        if flag in known:
            action.choices = known[flag]
    if metavar.startswith("{"):
        action.choices = metavar.strip("{}").split(",")
    elif metavar in _FILES:
        action.complete = shtab.DIRECTORY if metavar == "DIR" else shtab.FILE  # type: ignore[attr-defined]
