"""RUN as the operand of a verb: a run directory or one checkpoint in it, beside the verb's options."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

from seedbed.common.options import OptionParser, add_options, explicit, override

_Options = TypeVar("_Options")


def parse_run(
    argv: Sequence[str], verb: str, description: str, defaults: _Options, **more: str
) -> tuple[Namespace, _Options]:
    """Reads the command line of a verb about a run.

    Args:
        argv: without the verb.
        verb: for its help.
        description: likewise.
        defaults: of its options.
        **more: operands behind RUN, and their help.

    Returns:
        The operands, None where they are missing; and the options.
    """
    parser = OptionParser(f"seedbed {verb}", description, operands=" ".join(["RUN", *map(str.upper, more)]))
    parser.add_argument(
        "run", metavar="RUN", nargs="?", type=Path, help="a run directory, or one checkpoint folder in it"
    )
    for name, words in more.items():
        parser.add_argument(name, metavar=name.upper(), nargs="?", help=words)
    add_options(parser, defaults)
    namespace = parser.parse(argv)
    return namespace, override(defaults, explicit(namespace, defaults))
