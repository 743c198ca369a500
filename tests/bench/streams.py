"""A process that holds many Act streams and steps nothing: `python -m tests.bench.streams --server HOST:PORT`.

The streams are opened in waves, as a fleet would come, and wait: a line is printed when every one of them has been
answered once. The first line on standard input starts them: each sends one prepared message of E rows as soon as the
last one is answered. Each further line ends a window, whose figures are printed as one line of JSON; the end of the
input ends the process.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import grpc.aio
import numpy as np

from seedbed.common.codec import described_specs, pack_hello, pack_steps
from seedbed.common.garbage import collect_rarely
from seedbed.common.specs import EnvironmentSpec
from seedbed.common.timestep import StepType, Timesteps
from seedbed.proto import seedbed_pb2 as pb
from seedbed.proto.seedbed_pb2_grpc import SeedbedStub

_STREAMS_PER_CHANNEL = 2  # as a client's two groups
_RUN_ID = 1
_OPENING_AT_ONCE = 16  # a thousand at once would overrun the time in which a slow server wants a Hello


@dataclass(slots=True)
class Window:
    """What happened since the last line of input."""

    began_s: float = field(default_factory=time.monotonic)
    latencies_s: list[float] = field(default_factory=list)

    def summary(self, rows: int) -> dict[str, float]:
        """Messages, steps and round trips in milliseconds."""
        elapsed_s = time.monotonic() - self.began_s
        count = len(self.latencies_s)
        p50, p99 = np.percentile(self.latencies_s, (50, 99)) * 1000 if count else (float("nan"),) * 2
        return {
            "seconds": elapsed_s,
            "messages": count,
            "steps": count * rows,
            "round_trip_p50_ms": float(p50),
            "round_trip_p99_ms": float(p99),
        }


class Fleet:
    """All streams of this process."""

    def __init__(self, target: str, num_streams: int, num_rows: int, name: str, first_index: int) -> None:
        self._target = target
        self._num_streams = num_streams
        self._num_rows = num_rows
        self._name = name
        self._first_index = first_index
        self._waiting = num_streams
        self._opening = asyncio.Semaphore(_OPENING_AT_ONCE)
        self._begun = asyncio.Event()
        self.window = Window()

    async def run(self) -> None:
        """Until the input ends."""
        channels = [self._open() for _ in range(-(-self._num_streams // _STREAMS_PER_CHANNEL))]
        described = await SeedbedStub(channels[0]).Describe(pb.DescribeRequest())
        spec = described_specs(described)[0]
        async with asyncio.TaskGroup() as group:
            streams = [
                group.create_task(self._stream(SeedbedStub(channels[number // _STREAMS_PER_CHANNEL]), number, spec))
                for number in range(self._num_streams)
            ]
            await self._report(streams)
        for channel in channels:
            await channel.close()

    def _open(self) -> grpc.aio.Channel:
        # Channels of one process to one address would share a connection otherwise.
        return grpc.aio.insecure_channel(self._target, options=(("grpc.use_local_subchannel_pool", 1),))

    async def _report(self, streams: Sequence[asyncio.Task[None]]) -> None:
        loop = asyncio.get_running_loop()
        while self._waiting:
            await asyncio.sleep(0.01)
        print(json.dumps({"streams": len(streams)}), flush=True)
        if await loop.run_in_executor(None, sys.stdin.readline):
            self.window = Window()
            self._begun.set()
        while await loop.run_in_executor(None, sys.stdin.readline):
            window, self.window = self.window, Window()
            print(json.dumps(window.summary(self._num_rows)), flush=True)
        for stream in streams:
            stream.cancel()

    async def _stream(self, stub: SeedbedStub, number: int, spec: EnvironmentSpec) -> None:
        group, rows = number % _STREAMS_PER_CHANNEL, self._num_rows
        first = self._first_index + number * rows
        client_id = f"{self._name}-{number // _STREAMS_PER_CHANNEL}"
        indices = range(first, first + rows)
        hello = pack_hello(client_id=client_id, run_id=_RUN_ID, group=group, environment_indices=indices, spec=spec)
        async with self._opening:
            call = stub.Act()  # only now: the server gives a stream 10 s for its Hello
            await self._exchange(call, hello)
            await self._exchange(call, pack_steps(1, make_rows(spec, rows, StepType.FIRST)))
        self._waiting -= 1
        await self._begun.wait()
        message = pack_steps(2, make_rows(spec, rows, StepType.MID))
        while True:
            began_s = time.monotonic()
            await self._exchange(call, message)
            self.window.latencies_s.append(time.monotonic() - began_s)
            message.steps.seq += 1

    async def _exchange(self, call: grpc.aio.StreamStreamCall, message: pb.ClientMessage) -> None:
        await call.write(message)
        reply = await call.read()
        if reply is grpc.aio.EOF:
            raise ConnectionError("the server ended a stream")


def make_rows(spec: EnvironmentSpec, num_rows: int, step_type: StepType) -> Timesteps:
    """Rows of zeros in the midst of an episode, or at its start."""
    return Timesteps(
        step_type=np.full(num_rows, step_type, np.uint8),
        reward=np.zeros(num_rows, np.float32),
        discount=np.ones(num_rows, np.float32),
        observations=tuple(np.zeros((num_rows, *array.shape), array.numpy_dtype) for array in spec.observations),
    )


def main() -> None:
    """Reads the options and runs the fleet."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.streams", description=__doc__)
    parser.add_argument("--server", required=True, metavar="HOST:PORT")
    parser.add_argument("--streams", type=int, default=16)
    parser.add_argument("--rows", type=int, default=1, help="E, environments in one message (default: 1)")
    parser.add_argument("--name", default="streams", help="what client ids begin with")
    parser.add_argument("--first-index", type=int, default=0, help="of the environments")
    options = parser.parse_args()
    fleet = Fleet(options.server, options.streams, options.rows, options.name, options.first_index)
    collect_rarely()  # it shares cores with what is measured
    asyncio.run(fleet.run())


if __name__ == "__main__":
    main()
