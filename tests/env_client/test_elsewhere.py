"""Clients on Windows and macOS, as far as a Python without what only Unix has can tell; on those systems for real."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from seedbed.common import cpu, platforms, stop_signals
from seedbed.common.cli import VERBS
from seedbed.common.errors import UsageError
from seedbed.common.machine import check_machine
from seedbed.common.platforms import expect_linux
from seedbed.env_client.config import EnvConfig
from tests.env_client.test_main import ServerThread

ON_LINUX = sys.platform == "linux"
REAL = ["-c", "import sys; from seedbed.common.cli import main; sys.exit(main(sys.argv[1:]))"]
SEEDBED = [sys.executable, *([str(Path(__file__).with_name("lacking.py"))] if ON_LINUX else REAL)]


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*SEEDBED, *arguments], capture_output=True, text=True, timeout=60, check=False)


def test_a_client_steps_environments_and_leaves_when_its_parent_does() -> None:
    thread = ServerThread()
    try:
        command = [*SEEDBED, "env", "--server", f"127.0.0.1:{thread.server.port}", "--exit-with-parent"]
        command += ["--env", "seedbed/Echo-v0", "--num-envs", "2"]
        pipe = subprocess.PIPE
        with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True) as client:
            deadline_s = time.monotonic() + 40
            while thread.server.num_steps < 20:
                assert client.poll() is None, client.communicate()[1]
                assert time.monotonic() < deadline_s
                time.sleep(0.02)
            assert client.stdin is not None
            client.stdin.close()  # whoever started it is gone
            assert client.wait(20) == 0
    finally:
        thread.close()


def test_what_needs_linux_says_so_in_a_line() -> None:
    if not ON_LINUX:
        pytest.skip("simulated on Linux")
    done = run("train", "--preset", "catch")
    assert done.returncode == 2, done.stderr
    assert "seedbed train needs Linux, this is Windows: here run seedbed env" in done.stderr
    assert "Traceback" not in done.stderr
    linux_only = {verb for verb, details in VERBS.items() if details.needs_linux}
    assert linux_only == {"train", "server", "eval", "record", "loadtest"}


def test_the_doctor_looks_at_what_there_is() -> None:
    done = run("doctor")
    assert done.returncode == 0, done.stderr + done.stdout
    assert "cores" in done.stdout
    assert "open files" not in done.stdout or not ON_LINUX


def test_gymnasium_environments_are_stepped() -> None:
    done = run("check", "CartPole-v1", "--steps", "50")
    assert done.returncode == 0, done.stderr
    assert "seedbed train --env=CartPole-v1" in done.stdout


def test_isolation_is_refused_where_it_cannot_be_had(monkeypatch: pytest.MonkeyPatch) -> None:
    config = EnvConfig(server="x:1")
    isolated = replace(config, care=replace(config.care, isolate=True))
    isolated.validate()
    monkeypatch.setattr(platforms.sys, "platform", "win32")
    with pytest.raises(UsageError, match="expected no --isolate on Windows"):
        isolated.validate()
    with pytest.raises(UsageError, match="seedbed train needs Linux, this is Windows"):
        expect_linux("seedbed train")


def test_signals_are_those_that_exist() -> None:
    assert {signal.SIGINT, signal.SIGTERM} <= set(stop_signals.URGENT)
    assert stop_signals._existing("SIGINT", "SIGNOTHING") == (signal.SIGINT,)


def test_a_machine_that_does_not_say_how_busy_it_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(cpu, "_STAT", tmp_path / "none")
    assert cpu.busy_share(cpu.busy_s(), cpu.busy_s(), 2.0) is None
    assert cpu.busy_share(1.0, 1.0 + cpu.NUM_CORES, 2.0) == 0.5
    found = {check.subject: check.finding for check in check_machine(tmp_path)}
    assert found["memory"].startswith("not known on")
