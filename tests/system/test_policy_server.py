"""The real server, its frontends in processes of their own, against the conformance tests."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

import pytest

from seedbed.common.echo import echo_actions
from seedbed.env_client.environments.echo import ECHO_SPECS
from tests.conformance.policy_server import PolicyServerConformance
from tests.conformance.wire import RawClient, Rows, ServerUnderTest
from tests.system.echo import EchoServer

pytestmark = pytest.mark.system


class _Conformance(PolicyServerConformance):
    """A subclass names what is served."""

    environment: ClassVar[str]

    @pytest.fixture(scope="class")
    @classmethod
    def server(cls) -> Iterator[ServerUnderTest]:
        """Answers with echoes: every answer is checked, whatever the observations."""
        spec = ECHO_SPECS[cls.environment]

        def echo(observations: Rows) -> Rows:
            return echo_actions(spec.actions, observations[0])

        with EchoServer(num_slots=256, grace_s=2.0, spec=spec) as server:
            yield ServerUnderTest(address=server.address, spec=spec, num_slots=256, grace_s=2.0, policy=echo)


class TestOneDiscreteAction(_Conformance):
    """All of it."""

    environment = "seedbed/Echo-v0"


class _OtherArrays(_Conformance):
    """What asks for no kind of array, and takes its time, is slow."""

    @pytest.mark.slow
    def test_a_lease_ends_when_its_grace_is_over(self, client: RawClient) -> None:
        super().test_a_lease_ends_when_its_grace_is_over(client)


class TestBox(_OtherArrays):
    """Actions are floats."""

    environment = "seedbed/EchoBox-v0"


class TestArraysOfEveryKind(_OtherArrays):
    """Several actions, several observations, and a mask."""

    environment = "seedbed/EchoMixed-v0"
