"""The Hello that brings an environment: what is taken, and what is refused without ending the wait."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from seedbed.common.codec import pack_hello
from seedbed.common.specs import ArraySpec, EnvironmentSpec, discrete
from seedbed.proto import seedbed_pb2 as pb
from seedbed.server.frontend.admission import MAX_SPEC_BYTES, FrontendConfig
from seedbed.server.frontend.first_hello import FirstHello

SPEC = EnvironmentSpec(
    environment="Guess-v0",
    observations=(ArraySpec(name="observation", dtype="uint8", shape=(10, 10), low=(0,), high=(255,)),),
    actions=(discrete("action", 2),),
)
FREE_BYTES = 100 * 100 * 8
"""Enough for 8 environments."""


class Aborted(Exception):
    pass


class Context:
    """What a call sees of gRPC: messages to read, and what was answered."""

    def __init__(self, *messages: Any) -> None:
        self.messages = list(messages)
        self.written: list[pb.ServerMessage] = []

    async def read(self) -> Any:
        return self.messages.pop(0)

    async def write(self, message: pb.ServerMessage) -> None:
        self.written.append(message)

    async def abort(self, code: Any, details: str, trailing_metadata: Any) -> None:
        raise Aborted(details)

    def peer(self) -> str:
        return "somebody"


def hello(num_environments: int = 1, spec: EnvironmentSpec = SPEC) -> pb.ClientMessage:
    return pack_hello(client_id="c", run_id=1, group=0, environment_indices=range(num_environments), spec=spec)


def changed(**fields: Any) -> pb.ClientMessage:
    message = hello()
    for name, value in fields.items():
        setattr(message.hello, name, value)
    return message


def served(context: Context) -> tuple[EnvironmentSpec | None, str]:
    """What came of a call: the spec that was found, and why the call was refused."""

    async def serve() -> tuple[EnvironmentSpec | None, str]:
        config = FrontendConfig(
            number=0,
            address="",
            spec=SPEC,
            num_slots=100,
            run_name="",
            server_version="",
            grace_s=1.0,
            stall_limit_s=1.0,
        )
        service, refused = FirstHello(config, FREE_BYTES), ""
        assert not (await service.Describe(pb.DescribeRequest(), context)).specs
        try:
            await service.Act(None, context)
        except Aborted as error:
            refused = str(error)
        return service.found.result() if service.found.done() else None, refused

    return asyncio.run(serve())


def test_a_hello_is_taken_and_its_client_sent_away() -> None:
    other = EnvironmentSpec(environment="Other-v0", observations=SPEC.observations, actions=SPEC.actions)
    for spec in (SPEC, other):
        context = Context(hello(8, spec))
        assert served(context) == (spec, "")
        [answer] = context.written
        assert answer.drain.reason == pb.Drain.REASON_RESTARTING
        assert answer.drain.retry_after_ms > 0


@pytest.mark.parametrize(
    ("message", "why"),
    [
        (hello(9), "expected environments whose rows fit into 80000 free bytes, 100 rows of each take 90000"),
        (hello(101), "expected 1 to 100 environments, got 101"),
        (pb.ClientMessage(), "expected Hello first, got None"),
        (changed(run_id=0), "expected a run_id that is not 0"),
        (changed(client_id="\n"), "expected a client_id of 1 to 128 printable characters"),
    ],
)
def test_others_are_refused(message: pb.ClientMessage, why: str) -> None:
    context = Context(message)
    found, refused = served(context)
    assert found is None
    assert why in refused
    assert not context.written


def test_a_spec_is_measured_before_it_is_read() -> None:
    message = hello()
    message.hello.spec.environment = "x" * MAX_SPEC_BYTES
    found, refused = served(Context(message))
    assert (found, refused.startswith(f"Hello: expected a spec of at most {MAX_SPEC_BYTES} bytes")) == (None, True)


def test_a_spec_that_is_none() -> None:
    message = hello()
    message.hello.spec.ClearField("actions")
    assert served(Context(message))[0] is None
