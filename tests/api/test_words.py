"""Messages that name an argument instead of a flag."""

from __future__ import annotations

import pytest

from seedbed.common.errors import UsageError
from seedbed.common.plugins import NOTHING_TYPED, check_trusted
from seedbed.words import in_words_of_python


def test_flags_become_arguments() -> None:
    with pytest.raises(UsageError, match="if that is meant, say allow_import=True"), in_words_of_python():
        check_trusted("--env", "mine:make", NOTHING_TYPED)
    with pytest.raises(UsageError, match=r"^expected --port, got none$"), in_words_of_python():
        raise UsageError("expected --port, got none")
