"""The way to a server, against real gRPC servers: every step at which it can end."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest

from seedbed.common import doctor
from seedbed.common.address import Address
from seedbed.common.codec import protocol_version, spec_to_message
from seedbed.common.credentials import TOKEN_VARIABLE, ClientCredentials
from seedbed.common.doctor import check_way
from seedbed.common.errors import UsageError
from seedbed.common.extras import install_command
from seedbed.common.machine import Check
from seedbed.common.specs import ArraySpec, EnvironmentSpec
from seedbed.env_client.environments.echo import ECHO_SPECS
from seedbed.proto import seedbed_pb2 as pb
from seedbed.proto.seedbed_pb2_grpc import SeedbedServicer, add_SeedbedServicer_to_server
from tests.pki import Authority, Pair
from tests.system.echo import ECHO_SPEC

TOKEN = "0123456789abcdef"
WAY = ["name", "port", "encryption", "token", "protocol", "server", "environment"]


@dataclass
class Server(SeedbedServicer):
    """Says what it is told to say, to whoever has the token, if there is one."""

    token: str | None = None
    major: int = protocol_version().major
    specs: tuple[EnvironmentSpec, ...] = (ECHO_SPEC,)
    statuses: Sequence[pb.StatusResponse] = ()
    run_name: str = "far"

    def Status(self, request: pb.StatusRequest, context: Any) -> pb.StatusResponse:
        if not self.statuses:
            context.abort(grpc.StatusCode.UNIMPLEMENTED, "too old")
        self.statuses, first = self.statuses[1:], self.statuses[0]
        return first

    def Describe(self, request: pb.DescribeRequest, context: Any) -> pb.DescribeResponse:
        metadata = dict(context.invocation_metadata())
        if self.token is not None and metadata.get("authorization") != f"Bearer {self.token}":
            context.abort(grpc.StatusCode.UNAUTHENTICATED, "expected the token")
        return pb.DescribeResponse(
            protocol=pb.ProtocolVersion(major=self.major),
            specs=list(map(spec_to_message, self.specs)),
            run_name=self.run_name,
            server_version="0.1.0",
        )

    @contextmanager
    def serving(self, pair: Pair | None = None) -> Iterator[Address]:
        """On a port of its own."""
        server = grpc.server(ThreadPoolExecutor(1))
        add_SeedbedServicer_to_server(self, server)
        if pair is None:
            port = server.add_insecure_port("127.0.0.1:0")
        else:
            secrets = grpc.ssl_server_credentials([(pair.key.read_bytes(), pair.certificate.read_bytes())])
            port = server.add_secure_port("127.0.0.1:0", secrets)
        server.start()
        try:
            yield Address("127.0.0.1", port)
        finally:
            server.stop(None).wait()


@pytest.fixture(autouse=True)
def without_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(TOKEN_VARIABLE, raising=False)


@pytest.fixture
def token(tmp_path: Path) -> Path:
    (tmp_path / "token").write_text(TOKEN)
    return tmp_path / "token"


def follow(address: Address, credentials: ClientCredentials | None = None) -> list[Check]:
    async def collect() -> list[Check]:
        return [check async for check in check_way(address, credentials or ClientCredentials())]

    return asyncio.run(collect())


def assert_ends(checks: list[Check], subject: str, exit_code: int, *words: str) -> None:
    """All is well up to the step that is not."""
    *before, last = checks
    assert [check.subject for check in before] == WAY[: WAY.index(subject)] if subject in WAY else before == []
    assert {check.level for check in before} <= {"ok"}
    assert (last.level, last.subject, last.exit_code) == ("problem", subject, exit_code)
    missing = [word for word in words if word not in last.finding]
    assert not missing, f"expected {missing} in {last.finding!r}"


def test_all_the_way(tmp_path: Path, token: Path) -> None:
    authority = Authority(tmp_path)
    with Server(TOKEN).serving(authority.sign("server")) as address:
        checks = follow(address, ClientCredentials(tls_ca=authority.certificate, token_file=token))
    assert [(check.subject, check.level) for check in checks] == [(subject, "ok") for subject in WAY]
    findings = {check.subject: check.finding for check in checks}
    assert findings["encryption"] == "TLS, and the certificate is right"
    assert findings["token"] == "accepted"
    assert findings["server"] == "seedbed 0.1.0, run 'far'"
    assert findings["environment"] == "seedbed/Echo-v0"


def test_where_it_ends(tmp_path: Path, token: Path) -> None:
    authority = Authority(tmp_path)
    with_token = ClientCredentials(token_file=token)
    with Server(TOKEN).serving() as address:
        assert_ends(follow(address), "token", 77, "expected the token")
        assert_ends(follow(address, ClientCredentials(tls_ca=authority.certificate)), "encryption", 77, "--tls options")
    with Server(major=99).serving() as address:
        assert_ends(follow(address), "protocol", 78, "99")
    with Server().serving(authority.sign("old", days=-1)) as address:
        expired = follow(address, ClientCredentials(tls_ca=authority.certificate))
        assert_ends(expired, "encryption", 77, "expired on 20")
    assert_ends(follow(address), "port", 75, "nobody listens")
    assert_ends(follow(Address("nowhere.invalid", 1)), "name", 75, "nowhere.invalid")
    assert_ends(follow(Address("192.0.2.7", 1), with_token), "credentials", 2, "--tls-ca")
    assert_ends(follow(address, ClientCredentials(token_file=tmp_path / "none")), "credentials", 77, "none")
    assert_ends(follow(address, ClientCredentials(tls_ca=token)), "credentials", 77, "PEM")


def test_warnings(token: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It works, but perhaps not as it was meant."""
    pong = EnvironmentSpec(
        environment="ALE/Pong-v5",
        preset="modern",
        observations=(ArraySpec(name="observation", dtype="uint8", shape=(84, 84)),),
        actions=(ArraySpec(name="action", dtype="int64", low=(0,), high=(17,), kind="discrete"),),
    )
    monkeypatch.setattr(doctor, "version_of", lambda _: None)
    with Server(specs=(pong,)).serving() as address:
        checks = follow(address, ClientCredentials(token_file=token))
        monkeypatch.setattr(Address, "is_loopback", False)
        far = follow(address)
    warnings = [(check.subject, check.finding) for check in checks if check.level == "warning"]
    assert warnings[0] == ("token", "this client has one, the server demands none")
    assert warnings[1][0] == "environment"
    assert install_command("atari") in warnings[1][1]
    assert [check.subject for check in far if check.level == "warning"] == ["encryption", "token", "environment"]


def test_a_server_may_have_no_environment_yet_or_several() -> None:
    for specs, findings in (
        ((), ["none yet: the server takes that of the first client with --env"]),
        ((ECHO_SPEC, ECHO_SPECS["seedbed/EchoMixed-v0"]), ["seedbed/Echo-v0", "seedbed/EchoMixed-v0"]),
    ):
        with Server(specs=specs).serving() as address:
            checks = follow(address)
        assert {check.level for check in checks} == {"ok"}
        assert [check.finding for check in checks if check.subject == "environment"] == findings


def test_the_command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """One line a check, and the exit code of the first problem."""
    lines = [
        Check("ok", "first", "well"),
        Check("problem", "second", "broken", 69),
        Check("problem", "third", "too", 75),
    ]
    monkeypatch.setattr(doctor, "check_machine", lambda: iter(lines))
    assert doctor.main([]) == 69
    printed = capsys.readouterr().out.splitlines()
    assert [line.split() for line in printed[1:]] == [
        ["ok", "first", "well"],
        ["problem", "second", "broken"],
        ["problem", "third", "too"],
    ]
    monkeypatch.setattr(doctor, "check_machine", lambda: iter(lines[:1]))
    assert doctor.main([]) == 0
    with Server().serving() as address:
        assert doctor.main(["--server", str(address)]) == 0
    assert doctor.main(["--server", str(address)]) == 75


def status_after(seconds: float, learner_waits: float) -> pb.StatusResponse:
    """Of a server with two streams, 100 requests a second; inference stands still for a share of the time."""
    stages = {"residence": (0.004, 100), "inference": (0.002, 100), "back_pressure": (learner_waits / 10, 10)}
    return pb.StatusResponse(
        uptime_s=seconds,
        counters={"messages": 100 * seconds, "batches": 100 * seconds, "batch_rows": 800 * seconds},
        gauges={"num_slots": 16, "used_rows": 8, "streams": 2},
        stages={
            name: pb.Histogram(sum=mean_s * count * seconds, buckets=[round(count * seconds)])
            for name, (mean_s, count) in stages.items()
        },
    )


def test_a_server_that_is_held_up_is_told_by_what(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_WATCHED_S", 0.0)
    server = Server(statuses=[status_after(10, 0.5), status_after(20, 0.5)])
    with server.serving() as address:
        checks = follow(address)
    assert (checks[-1].subject, checks[-1].level) == ("bottleneck", "ok")
    assert checks[-1].finding.startswith("learner: inference stood still 50%")


def titles_and_lines(capsys: pytest.CaptureFixture[str]) -> tuple[list[str], list[str]]:
    printed = capsys.readouterr().out.splitlines()
    return [line for line in printed if line[0] != " "], [" ".join(line.split()) for line in printed if line[0] == " "]


def test_several_servers_one_after_the_other_and_together(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(doctor, "_WATCHED_S", 0.0)
    monkeypatch.setattr(doctor, "check_machine", lambda: iter(()))
    statuses = [status_after(10, 0.5), status_after(20, 0.5)]
    with Server(statuses=statuses).serving() as first, Server(statuses=statuses).serving() as second:
        assert doctor.main(["--server", f"{first},{second}"]) == 0
        titles, lines = titles_and_lines(capsys)
        assert titles[:3] == [f"the way to {first}", f"the way to {second}", f"the servers {first},{second}"]
        assert lines[-2:] == ["ok servers 2 of 2 reached", f"ok free rows {first} 8 of 16, {second} 8 of 16"]
    with Server().serving() as first:
        assert doctor.main(["--server", f"{first},{second}"]) == 75
        assert "warning servers 1 of 2 reached" in titles_and_lines(capsys)[1]


def test_servers_that_are_no_replicas_of_one_run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(doctor, "check_machine", lambda: iter(()))
    other = (ECHO_SPECS["seedbed/EchoMixed-v0"],)
    with Server().serving() as first, Server(run_name="near", specs=other).serving() as second:
        assert doctor.main(["--server", f"{first},{second}"]) == 78
        lines = "\n".join(titles_and_lines(capsys)[1])
    assert f"different runs, between which clients would be dealt out: 'far' at {first}, 'near' at {second}" in lines
    assert f"{first} serves seedbed/Echo-v0, {second} serves seedbed/EchoMixed-v0" in lines


def test_servers_that_are_no_list(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(UsageError, match="empty part"):
        doctor.main(["--server", "127.0.0.1:1,"])
    assert doctor.main(["--server", "dns:nowhere.invalid:1"]) == 75
    assert "problem name no address is known" in titles_and_lines(capsys)[1][0]
