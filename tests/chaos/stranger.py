"""Somebody who breaks the rules of the protocol on purpose, on a connection of its own; tells how it was answered."""

from __future__ import annotations

import random
import socket
from collections.abc import Callable, Mapping
from dataclasses import replace

import grpc
import numpy as np

from seedbed.common.codec import pack_hello, pack_steps
from seedbed.common.echo import echo_encode, echo_observations
from seedbed.common.specs import EnvironmentSpec
from seedbed.common.timestep import StepType, Timesteps
from seedbed.env_client.environments.echo import ECHO_SPECS
from seedbed.proto import seedbed_pb2 as pb
from seedbed.proto.seedbed_pb2_grpc import SeedbedStub

INDEX = 10_000
"""Of its environment: no client has it."""

NUM_ROWS = 1
_TIMEOUT_S = 5.0
_AWAY = frozenset({"UNAVAILABLE", "DEADLINE_EXCEEDED", "CANCELLED", "ABORTED"})  # a frontend or a server died meanwhile

ALLOWED: Mapping[str, frozenset[str]] = {
    # The second is refused: as one too many, or as another FIRST if the first one has been answered already. The lease
    # before this one, if there is one, may still be leaving.
    "pipelining": _AWAY | {"RESOURCE_EXHAUSTED", "INVALID_ARGUMENT", "ALREADY_EXISTS"},
    "garbage": frozenset({"closed"}),
    "another spec": _AWAY | {"FAILED_PRECONDITION"},
    "Steps before Hello": _AWAY | {"INVALID_ARGUMENT"},
}
"""What it does -> how it may be answered."""


def intrude(address: str, environment: str, name: str, seed: int) -> str:
    """Does what `ALLOWED` names and returns the name of the status it got."""
    if name == "garbage":
        return _send_garbage(address, random.Random(seed))
    spec = ECHO_SPECS[environment]
    messages: Mapping[str, Callable[[], list[pb.ClientMessage]]] = {
        "another spec": lambda: [_hello(seed, replace(spec, environment="seedbed/Catch-v0"))],
        "Steps before Hello": lambda: [_steps(spec, 1)],
        "pipelining": lambda: [_hello(seed, spec), *(_steps(spec, seq) for seq in range(1, 20))],
    }
    with grpc.insecure_channel(address, options=(("grpc.use_local_subchannel_pool", 1),)) as channel:
        try:
            for _ in SeedbedStub(channel).Act(iter(messages[name]()), timeout=_TIMEOUT_S):
                pass
        except grpc.RpcError as error:
            return str(error.code().name)
    return "OK"


def _send_garbage(address: str, generator: random.Random) -> str:
    """Bytes that are neither HTTP/2 nor anything else, until the other side has enough."""
    host, _, port = address.rpartition(":")
    try:
        with socket.create_connection((host, int(port)), timeout=_TIMEOUT_S) as connection:
            connection.sendall(generator.randbytes(4096))
            while connection.recv(4096):
                pass
    except OSError:  # refused, reset, or nobody there to read it now
        pass
    return "closed"


def _hello(seed: int, spec: EnvironmentSpec) -> pb.ClientMessage:
    return pack_hello(
        client_id="stranger",
        run_id=seed | 1,
        group=0,
        environment_indices=[INDEX],
        spec=spec,
    )


def _steps(spec: EnvironmentSpec, seq: int) -> pb.ClientMessage:
    """Always the same FIRST."""
    rows = Timesteps(
        step_type=np.full(NUM_ROWS, StepType.FIRST, np.uint8),
        reward=np.zeros(NUM_ROWS, np.float32),
        discount=np.ones(NUM_ROWS, np.float32),
        observations=echo_observations(spec, echo_encode([INDEX], 0, 0)),
    )
    return pack_steps(seq, rows)
