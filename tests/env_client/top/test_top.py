"""`seedbed top` against a server that answers `Describe` and `Status`: one page, and a terminal."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest

from seedbed.common.codec import protocol_version, spec_to_message
from seedbed.common.errors import AuthError, UnavailableError, UsageError
from seedbed.env_client.top.__main__ import main
from seedbed.proto import seedbed_pb2 as pb
from seedbed.proto.seedbed_pb2_grpc import SeedbedServicer, add_SeedbedServicer_to_server
from tests.env_client.top.test_screen import status
from tests.system.echo import ECHO_SPEC

TOKEN = "0123456789abcdef"


class Server(SeedbedServicer):
    """Counts 1000 steps between two answers; lets in who has the token."""

    def __init__(self) -> None:
        self.asked = 0

    def Describe(self, request: pb.DescribeRequest, context: Any) -> pb.DescribeResponse:
        if dict(context.invocation_metadata()).get("authorization") != f"Bearer {TOKEN}":
            context.abort(grpc.StatusCode.UNAUTHENTICATED, "expected the token")
        return pb.DescribeResponse(protocol=protocol_version(), specs=[spec_to_message(ECHO_SPEC)], run_name="far")

    def Status(self, request: pb.StatusRequest, context: Any) -> pb.StatusResponse:
        self.asked += 1
        return status(self.asked, 1000 * self.asked)


@pytest.fixture
def address() -> Iterator[str]:
    server = grpc.server(ThreadPoolExecutor(1))
    add_SeedbedServicer_to_server(Server(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield f"127.0.0.1:{port}"
    server.stop(None)


@pytest.fixture
def token(tmp_path: Path) -> str:
    file = tmp_path / "token"
    file.write_text(TOKEN)
    return str(file)


def test_once_prints_a_page(address: str, token: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([address, "--once", "--token-file", token]) == 0
    out = capsys.readouterr().out
    assert out.startswith(f"far   {address}   seedbed/Echo-v0   serving for 0:00:02")
    (steps_per_s,) = (float(line.split()[1].replace(",", "")) for line in out.splitlines() if line.startswith("steps"))
    assert 200 < steps_per_s < 1000  # 1000 steps in a little more than a second


def test_who_is_not_let_in_or_finds_nobody_is_told(address: str) -> None:
    with pytest.raises(AuthError, match="expected the token"):
        main([address, "--once"])
    with pytest.raises(UnavailableError, match=r"nobody listens on 127\.0\.0\.1:1: is the server running"):
        main(["127.0.0.1:1", "--once"])
    with pytest.raises(UsageError, match="expected seedbed top HOST:PORT"):
        main([])
    with pytest.raises(UsageError, match="expected a terminal, or --once"):
        main([address])


def test_terminal(address: str, token: str) -> None:
    """Drawn again and again, sorted by keys, ended by q; the terminal is as it was."""
    ours, theirs = pty.openpty()
    before = termios.tcgetattr(theirs)
    program = "import sys; from seedbed.common.cli import main; sys.exit(main())"
    process = subprocess.Popen(
        [sys.executable, "-c", program, "top", address, "--token-file", token],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
    )
    try:
        seen = read_until(ours, "steps/s")
        assert seen.startswith("\x1b[?1049h")
        os.write(ours, b"sr")
        seen = read_until(ours, "q quit")
        os.write(ours, b"q")
        seen = read_until(ours, "\x1b[?1049l")
        assert process.wait(30) == 0
        assert termios.tcgetattr(theirs) == before
    finally:
        process.kill()
        process.wait()
        os.close(ours)
        os.close(theirs)


def read_until(file: int, expected: str, within_s: float = 60.0) -> str:
    """What a terminal was sent, up to a text."""
    seen, deadline_s = "", time.monotonic() + within_s
    while expected not in seen:
        assert time.monotonic() < deadline_s, f"expected {expected!r}, got {seen!r}"
        seen += os.read(file, 4096).decode()
    return seen
