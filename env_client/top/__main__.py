"""`seedbed top HOST:PORT`: how a server is doing, in a terminal: rates, stages, processes and the fleet, once a second.

Keys: q ends it, s sorts the fleet by the next column, r turns the order round. `--once` prints one page for scripts.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import grpc.aio

from seedbed.common import cpu
from seedbed.common.codec import check_protocol
from seedbed.common.credentials import ClientCredentials
from seedbed.common.errors import SeedbedError, UnavailableError, UsageError
from seedbed.common.logs import run_main
from seedbed.common.options import OptionParser, add_options, explicit, option, override
from seedbed.env_client.connection import REPLY_TIMEOUT_S, Endpoint, error_from_rpc, explained
from seedbed.env_client.top.figures import Figures, figures_between
from seedbed.env_client.top.screen import Line, Order, SortKey, clean, cut, draw
from seedbed.proto import seedbed_pb2 as pb
from seedbed.proto.seedbed_pb2_grpc import SeedbedStub

if TYPE_CHECKING:
    from seedbed.env_client.top.terminal import Terminal

_EVERY_S = 1.0
_ONCE_S = 2.5  # the server begins to gather the fleet when it is asked for, and needs two looks at it
_DESCRIPTION = "How a server is doing, in a terminal. q quits, s sorts by the next column, r turns the order round."
_HINT = Line("q quit   s sort by the next column   r the other way round", "quiet")
_WIDE = 10_000  # columns of a page for scripts: nothing is cut


@dataclass(frozen=True, slots=True, kw_only=True)
class TopOptions:
    """top"""

    once: bool = option(False, "print one page and end; figures are over two and a half seconds")
    sort: SortKey = option("think", "column of the fleet that it is sorted by")
    credentials: ClientCredentials = field(default_factory=ClientCredentials)


def main(argv: Sequence[str]) -> int:
    """Shows it.

    Args:
        argv: without the program's name.

    Returns:
        0.

    Raises:
        SeedbedError: wrong options; with `--once` and at the start a server that cannot be reached.
    """
    parser = OptionParser("seedbed top", _DESCRIPTION, operands="HOST:PORT")
    parser.add_argument("server", metavar="HOST:PORT", nargs="?")
    add_options(parser, TopOptions())
    namespace = parser.parse(argv)
    if namespace.server is None:
        raise UsageError("expected seedbed top HOST:PORT, the address of a server")
    options: TopOptions = override(TopOptions(), explicit(namespace, TopOptions()))
    if not options.once and not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise UsageError("expected a terminal, or --once")
    if not options.once and sys.platform == "win32":
        raise UsageError("expected --once on Windows: its console takes no single keys")
    endpoint = Endpoint(target=namespace.server, credentials=options.credentials)
    asyncio.run(_once(endpoint, options) if options.once else _live(endpoint, options))
    return 0


class Server:
    """A server that is asked again and again.

    Attributes:
        where: its address and what it serves, for people.
    """

    def __init__(self, endpoint: Endpoint) -> None:
        """Asks nothing yet."""
        self._endpoint = endpoint
        self._channel: grpc.aio.Channel | None = None
        self._last: tuple[float, float, pb.StatusResponse] | None = None
        self.where = str(endpoint.address)

    async def connect(self) -> None:
        """Asks what it serves.

        Raises:
            SeedbedError: it cannot be reached, or lets nobody in.
        """
        self._channel = self._endpoint.open_channel(1 << 20)
        reply: pb.DescribeResponse = await self._call("Describe", pb.DescribeRequest())
        check_protocol(reply.protocol, "server")
        environments = ", ".join(clean(spec.environment) for spec in reply.specs)
        self.where = f"{self._endpoint.address}   {environments}".rstrip()

    async def look(self) -> Figures | None:
        """What happened since the last look; None the first time, and after the server was restarted.

        Raises:
            SeedbedError: it is away.
        """
        status: pb.StatusResponse = await self._call("Status", pb.StatusRequest(clients=True))
        now_s, busy_s = time.monotonic(), cpu.busy_s()
        before, self._last = self._last, (now_s, busy_s, status)
        if before is None:
            return None
        elapsed_s = now_s - before[0]
        here = self._endpoint.address.is_loopback and elapsed_s > 0
        busy = cpu.busy_share(before[1], busy_s, elapsed_s) if here else None
        return figures_between(before[2], status, elapsed_s, busy)

    async def _call(self, name: str, request: pb.DescribeRequest | pb.StatusRequest) -> Any:
        stub = SeedbedStub(self._channel)
        try:
            return await getattr(stub, name)(request, timeout=REPLY_TIMEOUT_S, metadata=self._endpoint.metadata)
        except grpc.aio.AioRpcError as error:
            raise await explained(error_from_rpc(error), self._endpoint) from None

    async def close(self) -> None:
        """Hangs up."""
        if self._channel is not None:
            await self._channel.close(grace=None)


async def _once(endpoint: Endpoint, options: TopOptions) -> None:
    server = Server(endpoint)
    try:
        await server.connect()
        await server.look()
        await asyncio.sleep(_ONCE_S)
        figures = await server.look()
    finally:
        await server.close()
    if figures is None:
        raise UnavailableError(f"{endpoint.address} was restarted meanwhile")
    for line in draw(figures, server.where, Order(options.sort), _WIDE):
        print(line.text.rstrip())


async def _live(endpoint: Endpoint, options: TopOptions) -> None:
    from seedbed.env_client.top.terminal import Terminal  # Windows has none of what it needs

    server = Server(endpoint)
    order = Order(options.sort)
    try:
        await server.connect()
        with Terminal() as terminal:
            page = _Page(server, terminal)
            async for key in _keys(terminal, page):
                if key == "q":
                    break
                order = order.next() if key == "s" else Order(order.key, not order.reverse) if key == "r" else order
                page.show(order)
    finally:
        await server.close()


class _Page:
    """What stands on the screen."""

    def __init__(self, server: Server, terminal: Terminal) -> None:
        self._server = server
        self._terminal = terminal
        self._figures: Figures | None = None
        self._trouble = ""

    async def look(self) -> None:
        """Asks the server; whatever is wrong is shown."""
        try:
            self._figures = await self._server.look() or self._figures
            self._trouble = ""
        except SeedbedError as error:
            self._trouble = clean(" ".join(str(error).split()))

    def show(self, order: Order) -> None:
        """Draws what is known."""
        width, height = self._terminal.size()
        lines = [Line("...")]
        if self._figures is not None:
            lines = draw(self._figures, self._server.where, order, width, height - 1)
        last = _HINT if not self._trouble else Line(f"no answer, trying again: {self._trouble}", "mark")
        self._terminal.show([*lines, Line(cut(last.text, width), last.style)])


async def _keys(terminal: Terminal, page: _Page) -> AsyncIterator[str]:
    """Keys as they are pressed, and "" once a second after a look at the server."""
    next_s = time.monotonic()
    while True:
        try:
            async with asyncio.timeout_at(asyncio.get_running_loop().time() + max(0.0, next_s - time.monotonic())):
                key = await terminal.keys.get()
        except TimeoutError:
            key = ""
            next_s = time.monotonic() + _EVERY_S
            await page.look()
        yield key


if __name__ == "__main__":
    sys.exit(run_main(main))
