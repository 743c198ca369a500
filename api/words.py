"""Words of messages: options as Python has them, where the command line would be told otherwise."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from seedbed.common.errors import SeedbedError

_ARGUMENTS = {"--allow-import": "allow_import=True", "--task NAME": "task=NAME"}


@contextlib.contextmanager
def in_words_of_python() -> Iterator[None]:
    """Errors raised within name an argument where they named a flag.

    Raises:
        SeedbedError: of the same class, in these words.
    """
    try:
        yield
    except SeedbedError as error:
        text = str(error)
        for flag, argument in _ARGUMENTS.items():
            text = text.replace(flag, argument)
        if text == str(error):
            raise
        raise type(error)(text) from error
