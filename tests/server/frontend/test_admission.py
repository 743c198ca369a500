"""What a client is held to after its Hello. What Hello itself must say is tested over the wire (tests/conformance)."""

from __future__ import annotations

import numpy as np
import pytest

from seedbed.common.errors import InvalidMessageError
from seedbed.server.frontend.admission import check_first


@pytest.mark.parametrize("step_types", [b"\0\0", b"\1\2"])
def test_first_stands_where_it_is_expected(step_types: bytes) -> None:
    check_first(step_types, np.full(2, step_types == b"\0\0"))


@pytest.mark.parametrize(
    ("step_types", "expected", "got"),
    [
        (b"\1\0\2", [True, True, False], r"got \[1\] in rows \[0\]"),
        (b"\0\0\2", [False, True, False], r"got \[0\] in rows \[0\]"),
        (b"\0\1\2", [False, True, True], r"got \[0, 1, 2\] in rows \[0, 1, 2\]"),
    ],
)
def test_first_elsewhere_is_refused_with_the_rows(step_types: bytes, expected: list[bool], got: str) -> None:
    with pytest.raises(InvalidMessageError, match=f"expected FIRST at the start of a lease and after LAST.*{got}"):
        check_first(step_types, np.array(expected))
