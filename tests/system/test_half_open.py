"""Links of which only one side still knows: both notice within 15 s, and what was held is free again."""

from __future__ import annotations

import signal
import time
from contextlib import ExitStack

import pytest

from tests.system.echo import EchoServer
from tests.system.processes import Program, eventually
from tests.system.proxy import Proxy

pytestmark = pytest.mark.system

NOTICED_WITHIN_S = 15.0
"""Keepalive: 10 s of silence, then 5 s for the answer to a ping."""

MARGIN_S = 5.0  # of this test, on a busy machine


@pytest.mark.timeout(180)
def test_both_sides_notice_and_recover() -> None:
    """All at once, because each takes so long: a frozen client, and a black hole in either direction."""
    with ExitStack() as stack:
        echo = stack.enter_context(EchoServer(num_slots=64, grace_s=1.0, frontends=1))
        proxies = [stack.enter_context(Proxy(echo.address)) for _ in range(2)]
        addresses = (echo.address, *(proxy.address for proxy in proxies))
        options = ("--env", "seedbed/Echo-v0,check=1,step_ms=20", "--groups", 1)
        frozen, deaf, mute = (
            stack.enter_context(Program("env", "--server", address, *options)) for address in addresses
        )
        device = echo.server.vitals.device
        eventually(lambda: device["clients"] == 3, "three clients")
        began_s = time.monotonic()
        frozen.send(signal.SIGSTOP)
        proxies[0].to_client.black_hole = True
        proxies[1].to_server.black_hole = True
        within_s = NOTICED_WITHIN_S + MARGIN_S
        eventually(lambda: "next attempt" in deaf.stderr and "next attempt" in mute.stderr, "both to notice", within_s)
        eventually(lambda: device["clients"] == 0, "the server to notice all three", within_s)
        eventually(lambda: device["used_rows"] == 0, "their slots to be free", within_s)
        print(f"noticed, and the grace time over, after {time.monotonic() - began_s:.1f} s")
        frozen.send(signal.SIGCONT)
        proxies[0].to_client.black_hole = proxies[1].to_server.black_hole = False
        eventually(lambda: device["clients"] == 3, "all of them to be back", 30.0)
        steps = echo.num_steps
        eventually(lambda: echo.num_steps > steps + 50, "steps")
        for client in (frozen, deaf, mute):
            client.send(signal.SIGTERM)
            assert client.wait() == 0
    assert not echo.audit.problems
