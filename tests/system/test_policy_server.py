"""The real server, its frontends in processes of their own, against the conformance tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from seedbed.common.echo import echo_action
from tests.conformance.policy_server import PolicyServerConformance
from tests.conformance.wire import Rows, ServerUnderTest
from tests.system.echo import ECHO_SPEC, EchoServer

pytestmark = pytest.mark.system


def _echo(observations: Rows) -> Rows:
    return [echo_action(observations[0])]


@pytest.fixture(scope="module")
def server() -> Iterator[ServerUnderTest]:
    """Answers with echoes: every answer is checked."""
    with EchoServer(num_slots=256, grace_s=2.0) as echo:
        yield ServerUnderTest(address=echo.address, spec=ECHO_SPEC, num_slots=256, grace_s=2.0, policy=_echo)


class TestPolicyServer(PolicyServerConformance):
    """All of it."""
