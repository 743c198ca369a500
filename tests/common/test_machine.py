"""What the doctor sees of a machine, with files and limits of machines that are not this one."""

from __future__ import annotations

import resource
import subprocess
from pathlib import Path
from typing import Any

import pytest

from seedbed.common import machine
from seedbed.common.machine import Check, check_machine


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A machine with 8 GiB free and no control groups."""
    write(tmp_path, "proc/meminfo", "MemTotal: 16777216 kB\nMemAvailable: 8388608 kB\n")
    write(tmp_path, "proc/self/cgroup", "0::/\n")
    return tmp_path


def write(root: Path, name: str, content: str) -> None:
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    (root / name).write_text(content)


def look(root: Path, subject: str) -> Check:
    [found] = [check for check in check_machine(root) if check.subject == subject]
    return found


def test_this_machine_has_no_problem() -> None:
    checks = list(check_machine())
    assert [check for check in checks if check.level == "problem"] == []
    assert {"python", "grpcio", "protobuf", "torch", "ale-py", "gpu", "cores", "memory", "open files", "processes"} <= {
        check.subject for check in checks
    }


def test_packages(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Missing ones are a problem where both sides need them."""
    versions = {"grpcio": "1.85.1", "protobuf": None, "numpy": "2.0", "torch": None}
    monkeypatch.setattr(machine, "version_of", versions.get)
    assert look(root, "grpcio") == Check("ok", "grpcio", "1.85.1")
    assert look(root, "torch") == Check("ok", "torch", "not installed (for a server only)")
    missing = look(root, "protobuf")
    assert (missing.level, missing.exit_code) == ("problem", 69)
    assert "pip install protobuf" in missing.finding


def test_stubs_that_are_newer_than_what_is_installed(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As gRPC itself says it."""
    monkeypatch.setattr("grpc.__version__", "1.0.0")
    monkeypatch.delitem(__import__("sys").modules, "seedbed.proto.seedbed_pb2_grpc")
    monkeypatch.delattr("seedbed.proto.seedbed_pb2_grpc")
    found = look(root, "protocol stubs")
    assert (found.level, found.exit_code) == ("problem", 69)
    assert "1.0.0" in found.finding


@pytest.mark.parametrize(
    ("limit", "level", "finding"),
    [
        (None, "ok", "8.0 GiB free"),
        ("max", "ok", "8.0 GiB free"),
        (str(2**40), "ok", "8.0 GiB free"),
        (str(2**31), "ok", "2.0 GiB allowed by the container"),
        (str(2**28), "warning", "0.2 GiB allowed by the container: expected at least 1 GiB"),
    ],
)
def test_memory(root: Path, limit: str | None, level: str, finding: str) -> None:
    if limit is not None:
        write(root, "sys/fs/cgroup/memory.max", f"{limit}\n")
    assert look(root, "memory") == Check(level, "memory", finding)  # type: ignore[arg-type]


def test_limits_of_outer_control_groups_hold_too(root: Path) -> None:
    write(root, "proc/self/cgroup", "1:name=systemd:/x\n0::/user.slice/mine\n")
    write(root, "sys/fs/cgroup/user.slice/memory.max", str(3 * 2**30))
    write(root, "sys/fs/cgroup/user.slice/mine/memory.max", "max")
    assert look(root, "memory").finding == "3.0 GiB allowed by the container"


def test_cores(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(8)))
    assert look(root, "cores").finding == "8"
    write(root, "sys/fs/cgroup/cpu.max", "max 100000\n")
    assert look(root, "cores").finding == "8"
    write(root, "sys/fs/cgroup/cpu.max", "50000 100000\n")
    assert look(root, "cores").finding == "0.5 of 8, limited by the container"


@pytest.mark.parametrize(
    ("soft", "hard", "level", "finding"),
    [
        (resource.RLIM_INFINITY, resource.RLIM_INFINITY, "ok", "unlimited"),
        (4096, 4096, "ok", "4096 at most"),
        (256, 4096, "warning", "256 at most: expected at least 1024 (ulimit -n 1024)"),
        (256, resource.RLIM_INFINITY, "warning", "256 at most: expected at least 1024 (ulimit -n 1024)"),
        (256, 256, "warning", "256 at most: expected at least 1024 (ask the administrator for more)"),
    ],
)
def test_open_files(
    root: Path, monkeypatch: pytest.MonkeyPatch, soft: int, hard: int, level: str, finding: str
) -> None:
    monkeypatch.setattr(machine.resource, "getrlimit", lambda _: (soft, hard))
    assert look(root, "open files") == Check(level, "open files", finding)  # type: ignore[arg-type]


def test_processes_of_a_container(root: Path) -> None:
    write(root, "sys/fs/cgroup/pids.max", "16\n")
    assert look(root, "processes").finding == "16 allowed by the container: expected at least 64"


@pytest.mark.parametrize(
    ("answer", "level", "words"),
    [
        ("12.8\nNVIDIA H200\nNVIDIA H200\n", "ok", "NVIDIA H200, NVIDIA H200"),
        ("None\n", "warning", "CPU build"),
        ("12.8\n", "warning", "torch (CUDA 12.8) sees no GPU"),
        (None, "warning", "torch does not start: ImportError: no such library"),
    ],
)
def test_gpus(root: Path, monkeypatch: pytest.MonkeyPatch, answer: str | None, level: str, words: str) -> None:
    """torch is asked only where something looks like one."""

    def ask(command: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        if answer is None:
            raise subprocess.CalledProcessError(1, command, stderr="Traceback\nImportError: no such library\n")
        return subprocess.CompletedProcess(command, 0, stdout=answer)

    monkeypatch.setattr(machine.subprocess, "run", ask)
    assert look(root, "gpu").finding == "none; a server learns on the CPU"
    write(root, "dev/nvidiactl", "")
    found = look(root, "gpu")
    assert found.level == level
    assert words in found.finding


@pytest.mark.gpu
def test_the_gpu_of_this_machine() -> None:
    found = look(Path("/"), "gpu")
    assert found.level == "ok"
    assert "none" not in found.finding
