"""What a server agrees on with every client before it gives it anything, and what it holds it to afterwards."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from seedbed.common import codec
from seedbed.common.credentials import ServerCredentials
from seedbed.common.errors import InvalidMessageError, SpecError
from seedbed.common.joint_spec import served
from seedbed.common.specs import EnvironmentSpec
from seedbed.common.timestep import StepType
from seedbed.proto import seedbed_pb2 as pb
from seedbed.server.shared.insight import Sight

_IS_FIRST = bytes(value == StepType.FIRST for value in range(256))  # for `bytes.translate`
MAX_SPEC_BYTES = 64 * 1024
"""Of the spec in a Hello. Reading a megabyte of array specs would take a frontend seconds, and it has other clients."""

ANY_TASK = ""
"""In a Hello: the server chooses."""

_MAX_ENVIRONMENT_BYTES = 16  # of one Hello.environments, beside the task's name
_MAX_NAME_LENGTH = 128  # it goes into logs, and is remembered when its client is long gone


@dataclass(frozen=True, slots=True, kw_only=True)
class FrontendConfig:
    """What a frontend process needs to know.

    Attributes:
        number: which frontend this is.
        address: HOST:PORT to listen on, shared with the others.
        spec: the contract of rows; of several tasks the one that they have in common.
        served: what Describe lists; a Hello that differs from all of them is refused.
        num_slots: largest lease there can be.
        run_name, server_version: for people.
        grace_s: told to clients.
        stall_limit_s: see `health.examine`.
        credentials: what clients must show, and are shown.
        sight: where the fleet is written down while somebody looks; None: nowhere.
    """

    number: int
    address: str
    spec: EnvironmentSpec
    num_slots: int
    run_name: str
    server_version: str
    grace_s: float
    stall_limit_s: float
    credentials: ServerCredentials = field(default_factory=ServerCredentials)
    sight: Sight | None = None
    served: tuple[EnvironmentSpec, ...] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "served", served(self.spec))

    def serving(self, spec: EnvironmentSpec) -> FrontendConfig:
        """The same with another contract."""
        return replace(self, spec=spec)


def check_hello(hello: pb.Hello, config: FrontendConfig) -> list[int | None]:
    """Refuses a client that is not one for this server.

    Returns:
        The task of each row, which of `served` it is; None: the row is to be given one.

    Raises:
        VersionError: it speaks another protocol.
        SpecError: it has another environment.
        InvalidMessageError: it does not say who it is, or asks for more than there is.
    """
    codec.check_protocol(hello.protocol, "client")
    _check_sizes(hello, config)
    tasks = {spec.environment: number for number, spec in enumerate(config.served)}
    expected = config.served[tasks.get(hello.spec.environment, 0)]
    differences = expected.differences(codec.spec_from_message(hello.spec))
    if differences:
        if hello.spec.environment not in tasks and len(tasks) > 1:
            raise SpecError(f"expected one of the environments {sorted(tasks)}, got {hello.spec.environment!r}")
        raise SpecError(
            "the client's environment is not the one this server serves (here is the server's, there the client's): "
            + "; ".join(differences)
        )
    if not 1 <= len(hello.client_id) <= _MAX_NAME_LENGTH or not hello.client_id.isprintable():
        raise InvalidMessageError(
            f"Hello: expected a client_id of 1 to {_MAX_NAME_LENGTH} printable characters, "
            f"got {hello.client_id[:_MAX_NAME_LENGTH]!r} of {len(hello.client_id)}"
        )
    if not hello.run_id or hello.group > 1:
        raise InvalidMessageError(
            f"Hello: expected a run_id that is not 0, and group 0 or 1, got {hello.run_id} and {hello.group}"
        )
    named = [environment.task for environment in hello.environments]
    if unknown := sorted(set(named) - set(tasks) - {ANY_TASK}):
        raise SpecError(f"expected tasks out of {sorted(tasks)}, got {unknown}")
    return [tasks.get(task) for task in named]


def _check_sizes(hello: pb.Hello, config: FrontendConfig) -> None:
    """Before anything is read into objects."""
    num_environments = len(hello.environments)
    if not 1 <= num_environments <= config.num_slots:
        raise InvalidMessageError(f"Hello: expected 1 to {config.num_slots} environments, got {num_environments}")
    spec_bytes, rest_bytes = hello.spec.ByteSize(), hello.ByteSize() - hello.spec.ByteSize()
    if spec_bytes > MAX_SPEC_BYTES:
        raise InvalidMessageError(f"Hello: expected a spec of at most {MAX_SPEC_BYTES} bytes, got {spec_bytes}")
    task_bytes = max(len(spec.environment.encode()) for spec in config.served)
    most_bytes = MAX_SPEC_BYTES + num_environments * (task_bytes + _MAX_ENVIRONMENT_BYTES)
    if rest_bytes > most_bytes:
        raise InvalidMessageError(f"Hello: expected at most {most_bytes} bytes beside the spec, got {rest_bytes}")


def check_first(step_types: bytes, expected: NDArray[np.bool_]) -> None:
    """Refuses a Steps in which FIRST stands elsewhere than at the start of a lease and after LAST.

    Args:
        step_types: as received, one byte a row.
        expected: `[E]`, the rows that must be FIRST.

    Raises:
        InvalidMessageError: names the rows.
    """
    if step_types.translate(_IS_FIRST) == expected.tobytes():
        return
    step_type = np.frombuffer(step_types, np.uint8)
    wrong = np.flatnonzero((step_type == StepType.FIRST) != expected)
    raise InvalidMessageError(
        "step_type: expected FIRST at the start of a lease and after LAST, and only there; "
        f"got {step_type[wrong].tolist()} in rows {wrong.tolist()}"
    )
