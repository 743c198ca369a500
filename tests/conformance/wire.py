"""A client that says what it is told to, right or wrong: raw messages, no helpful library in between."""

from __future__ import annotations

import itertools
import queue
import secrets
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Self

import grpc
import numpy as np
from numpy.typing import NDArray

from seedbed.common.codec import protocol_version, spec_to_message
from seedbed.common.errors import ERROR_NAME_KEY
from seedbed.common.specs import ArraySpec, EnvironmentSpec
from seedbed.common.timestep import StepType
from seedbed.proto import seedbed_pb2 as pb

PATIENCE_S = 10.0
"""For what must happen soon, on a machine that is busy with other things."""

Rows = Sequence[NDArray[Any]]
_names = itertools.count()
_fleets = itertools.count(1)  # from 1: a server may have clients of its own, which begin at index 0
_END = object()


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerUnderTest:
    """A running policy server.

    Attributes:
        address: HOST:PORT.
        spec: what it serves.
        num_slots: rows it has room for.
        grace_s: how long it keeps a lost lease.
        policy: the actions `[E, ...]` that must answer observations `[E, ...]`, where that is known.
    """

    address: str
    spec: EnvironmentSpec
    num_slots: int
    grace_s: float
    policy: Callable[[Rows], Rows] | None = None


@dataclass(eq=False)
class Ended(Exception):
    """How a stream ended: gRPC status, its text, and the class of error that the server named."""

    status: grpc.StatusCode
    details: str
    error_name: str | None


_LONGEST_S = 1800.0  # of a call: more than the slowest test takes; what a test waits for has limits of its own


class RawStream:
    """One Act call that carries any bytes. Every wait is bounded."""

    def __init__(self, address: str) -> None:
        # A connection of its own, as every client process has: with several frontends any of them may get it.
        options = (("grpc.use_local_subchannel_pool", 1), ("grpc.enable_http_proxy", 0))
        self._channel = grpc.insecure_channel(address, options=options)
        act = self._channel.stream_stream("/seedbed.v1.Seedbed/Act")
        self._outgoing: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._incoming: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._call = act(iter(self._outgoing.get, None), timeout=_LONGEST_S)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def send(self, message: pb.ClientMessage | bytes) -> None:
        """Sends a message, or bytes that may be none."""
        self._outgoing.put(message if isinstance(message, bytes) else message.SerializeToString())

    def receive(self, within_s: float = PATIENCE_S) -> pb.ServerMessage:
        """The next message.

        Raises:
            Ended: there will be none.
            queue.Empty: nothing came in time.
        """
        got = self._incoming.get(timeout=within_s)
        if got is _END:
            self._incoming.put(_END)
            trailing = dict(self._call.trailing_metadata() or ())
            raise Ended(self._call.code(), self._call.details() or "", trailing.get(ERROR_NAME_KEY))
        return pb.ServerMessage.FromString(got)

    def end(self, within_s: float = PATIENCE_S) -> Ended:
        """How the stream ends, passing over what is said before."""
        while True:
            try:
                self.receive(within_s)
            except Ended as ended:
                return ended

    def break_off(self) -> None:
        """Drops the connection without a word."""
        self._call.cancel()
        self._outgoing.put(None)
        self._reader.join(PATIENCE_S)
        self._channel.close()

    def _read(self) -> None:
        try:
            for message in self._call:
                self._incoming.put(message)
        except grpc.RpcError:
            pass  # `receive` asks the call
        self._incoming.put(_END)


class RawClient:
    """One lease of make-believe environments: row r has episodes of 3 + r % 3 steps, with any observations.

    Attributes:
        first_index: of its environments; no two clients share one unless a test says so.
        seq: of the last Steps that `steps` made.
        stream: the present one.
    """

    def __init__(
        self,
        server: ServerUnderTest,
        *,
        num_envs: int = 2,
        group: int = 0,
        client_id: str | None = None,
        run_id: int | None = None,
    ) -> None:
        self.server = server
        self.num_envs = num_envs
        self.group = group
        self.client_id = client_id or f"conformance-{next(_names)}"
        self.run_id = run_id or secrets.randbits(63) + 1
        self.first_index = 1000 * next(_fleets)
        self._rng = np.random.default_rng(self.run_id)
        self._streams: list[RawStream] = []
        self.start_over()

    def start_over(self) -> None:
        """As a client does whose lease is new: seq from 1, all rows FIRST."""
        self.seq = 0
        self._ages = np.full(self.num_envs, -1)
        self._observations: tuple[NDArray[Any], ...] = ()

    def another(self, *, run_id: int | None = None, group: int | None = None) -> RawClient:
        """A client of the same name, of the same run and group unless told otherwise."""
        return RawClient(
            self.server,
            num_envs=self.num_envs,
            group=self.group if group is None else group,
            client_id=self.client_id,
            run_id=run_id or self.run_id,
        )

    def hello(self) -> pb.ClientMessage:
        """A Hello as it should be."""
        spec = self.server.spec
        hello = pb.Hello(
            protocol=protocol_version(),
            client_id=self.client_id,
            run_id=self.run_id,
            group=self.group,
            environments=[
                pb.Environment(task=spec.environment, index=self.first_index + row) for row in range(self.num_envs)
            ],
            spec=spec_to_message(spec),
        )
        return pb.ClientMessage(hello=hello)

    def dial(self) -> RawStream:
        """Opens a stream and says nothing yet."""
        self.stream = RawStream(self.server.address)
        self._streams.append(self.stream)
        return self.stream

    def connect(self) -> pb.Welcome:
        """Opens a stream and agrees.

        Raises:
            Ended: it was refused.
        """
        stream = self.dial()
        stream.send(self.hello())
        message = stream.receive()
        assert message.WhichOneof("body") == "welcome", f"expected Welcome first, got {message}"
        return message.welcome

    def step_types(self) -> NDArray[np.uint8]:
        """Of the next timestep, `[E]`."""
        lengths = 3 + np.arange(self.num_envs) % 3
        self._ages = np.where(self._ages == lengths, 0, self._ages + 1)
        types = np.where(self._ages == 0, StepType.FIRST, np.where(self._ages == lengths, StepType.LAST, StepType.MID))
        return types.astype(np.uint8)

    def steps(self) -> pb.ClientMessage:
        """The next Steps as it should be."""
        self.seq += 1
        types = self.step_types()
        spec = self.server.spec
        self._observations = tuple(_sample(array, self.num_envs, self._rng) for array in spec.observations)
        steps = pb.Steps(
            seq=self.seq,
            step_type=types.tobytes(),
            reward=np.where(types == StepType.FIRST, 0, 1).astype("<f4").tobytes(),
            discount=np.where(types == StepType.LAST, 0, 1).astype("<f4").tobytes(),
            observations=[array.tobytes() for array in self._observations],
        )
        return pb.ClientMessage(steps=steps)

    def exchange(self, within_s: float = PATIENCE_S) -> pb.Actions:
        """Sends the next Steps and returns its answer, checked."""
        self.stream.send(self.steps())
        return self.answer(within_s)

    def answer(self, within_s: float = PATIENCE_S) -> pb.Actions:
        """The answer to the last Steps: its seq, byte lengths and bounds are right, and so are the actions."""
        message = self.stream.receive(within_s)
        assert message.WhichOneof("body") == "actions", f"expected Actions, got {message}"
        actions = message.actions
        assert actions.seq == self.seq
        specs = self.server.spec.actions
        assert [len(part) for part in actions.actions] == [self.num_envs * spec.row_bytes for spec in specs]
        arrays = [np.frombuffer(part, spec.numpy_dtype) for part, spec in zip(actions.actions, specs, strict=True)]
        for array, spec in zip(arrays, specs, strict=True):
            rows = array.reshape(self.num_envs, *spec.shape)
            assert ((rows >= spec.sent_low) & (rows <= spec.sent_high)).all()
        if self.server.policy is not None:
            for array, expected in zip(arrays, self.server.policy(self._observations), strict=True):
                np.testing.assert_array_equal(array, expected.ravel())
        return actions

    def say_goodbye(self) -> Ended:
        """Gives the rows back."""
        self.stream.send(pb.ClientMessage(goodbye=pb.Goodbye(reason="the test is over")))
        return self.stream.end()

    def leave(self) -> None:
        """Gives the rows back if a stream still holds them, and closes every stream there was."""
        for stream in self._streams:
            stream.send(pb.ClientMessage(goodbye=pb.Goodbye()))
            stream.end()
            stream.break_off()
        self._streams.clear()

    def __enter__(self) -> Self:
        self.connect()
        return self

    def __exit__(self, *_: object) -> None:
        self.leave()


def _sample(spec: ArraySpec, num_rows: int, rng: np.random.Generator) -> NDArray[Any]:
    """Anything within the bounds; floats have fractions."""
    low = np.ceil(np.maximum(spec.lower, -100))
    high = np.floor(np.minimum(spec.upper, np.maximum(low + 100, 255)))
    shape = (num_rows, *spec.shape)
    if spec.dtype == "float32":
        return rng.uniform(low, high, shape).astype(spec.numpy_dtype)
    return rng.integers(low, high, shape, endpoint=True).astype(spec.numpy_dtype)
