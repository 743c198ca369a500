"""The least that a Python gRPC server can do: `python -m tests.bench.echo`, asyncio, no checks, no slots, no policy.

Every Steps is parsed and answered with as many zeros as it has rows. It prints its port, and ends with its input.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from typing import Any

import grpc.aio

from seedbed.common.codec import protocol_version, spec_to_message
from seedbed.common.garbage import collect_rarely
from seedbed.env_client.environments.building import describe
from seedbed.proto import seedbed_pb2 as pb
from seedbed.proto.seedbed_pb2_grpc import SeedbedServicer, add_SeedbedServicer_to_server

_ACTION_BYTES = 8


class BareEcho(SeedbedServicer):
    """Answers everybody."""

    def __init__(self, spec: pb.EnvironmentSpec) -> None:
        self._spec = spec

    async def Describe(self, request: pb.DescribeRequest, context: Any) -> pb.DescribeResponse:
        """What it pretends to serve."""
        return pb.DescribeResponse(protocol=protocol_version(), specs=[self._spec])

    async def Act(self, _: Any, context: Any) -> None:
        """Reads and answers until the client leaves."""
        hello = (await context.read()).hello
        actions = bytes(_ACTION_BYTES * len(hello.environments))
        await context.write(pb.ServerMessage(welcome=pb.Welcome(protocol=protocol_version())))
        while (message := await context.read()) is not grpc.aio.EOF:
            await context.write(pb.ServerMessage(actions=pb.Actions(seq=message.steps.seq, actions=[actions])))


async def serve(environment_id: str) -> None:
    """Until the input ends."""
    server = grpc.aio.server()
    add_SeedbedServicer_to_server(BareEcho(spec_to_message(describe(environment_id, ""))), server)
    print(server.add_insecure_port("127.0.0.1:0"), flush=True)
    await server.start()
    collect_rarely()  # as our frontends do
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)
    await server.stop(None)


def main() -> None:
    """Reads the options and serves."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.echo", description=__doc__)
    parser.add_argument("--env", default="seedbed/Synthetic-v0", help="environment whose spec it serves")
    asyncio.run(serve(parser.parse_args().env))


if __name__ == "__main__":
    main()
