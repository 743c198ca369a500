"""The real client, `seedbed env` in a process of its own, against the conformance tests."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import ClassVar

import pytest

from seedbed.env_client.environments.echo import ECHO_SPECS
from tests.conformance.client import ClientConformance, ClientConversation, RunningClient, StartClient
from tests.conformance.program_client import ProgramClient
from tests.system.processes import Program

pytestmark = pytest.mark.system


class _Client(ClientConversation):
    """Five environments in two groups. A subclass names what is stepped."""

    environment: ClassVar[str]
    num_envs = 5
    num_groups = 2

    @pytest.fixture(scope="class")
    @classmethod
    def start_client(cls) -> StartClient:
        """Starts `seedbed env`."""

        @contextmanager
        def start(address: str) -> Iterator[RunningClient]:
            options = ("--env", cls.environment, "--num-envs", cls.num_envs, "--first-index", 0)
            with Program("env", "--server", address, *options) as program:
                yield ProgramClient(program.process)

        return start


class TestOneDiscreteAction(_Client, ClientConformance):
    """All of it."""

    environment = "seedbed/Echo-v0"
    spec = ECHO_SPECS[environment]


class TestArraysOfEveryKind(_Client):
    """Several actions, several observations, and a mask."""

    environment = "seedbed/EchoMixed-v0"
    spec = ECHO_SPECS[environment]


@pytest.mark.slow
class TestArraysOfEveryKindInTrouble(_Client, ClientConformance):
    """The same, all of it: what happens to a stream asks for no kind of array."""

    environment = "seedbed/EchoMixed-v0"
    spec = ECHO_SPECS[environment]
