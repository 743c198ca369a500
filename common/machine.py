"""What this machine has for seedbed: versions, GPU, memory, cores, limits. Looks, and changes nothing.

Containers count: a control group may give a process less than the machine has.
"""

from __future__ import annotations

import importlib.metadata
import platform
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from seedbed.common.cpu import usable_cores
from seedbed.common.errors import MissingExtraError, SeedbedError

try:
    import resource
except ImportError:  # Windows
    resource = None  # type: ignore[assignment]

GIB = 2**30

_MIN_MEMORY_BYTES = GIB  # a server with a small network, or ten environment clients
_MIN_DESCRIPTORS = 1024
_MIN_PROCESSES = 64
_GPU_TIMEOUT_S = 60.0
_GPU_SIGNS = ("proc/driver/nvidia/version", "dev/nvidiactl", "dev/kfd", "dev/dxg")  # NVIDIA, AMD, Windows below Linux

# Distribution -> what it is for.
_PACKAGES = {
    "grpcio": "both sides",
    "protobuf": "both sides",
    "numpy": "both sides",
    "torch": "a server",
    "gymnasium": "environments",
    "ale-py": "Atari",
}
_REQUIRED = ("grpcio", "protobuf", "numpy")

# In a process of its own: a broken driver can hang or end the one that asks.
_ASK_TORCH = (
    "import torch; from torch import cuda;"
    "print(torch.version.cuda, *map(cuda.get_device_name, range(cuda.device_count())), sep='\\n')"
)


@dataclass(frozen=True, slots=True)
class Check:
    """One line of a report.

    Attributes:
        level: "problem": seedbed will not work; "warning": it may not, or not well.
        subject: what was looked at.
        finding: what was seen, and what to do about it.
        exit_code: of a problem.
    """

    level: Literal["ok", "warning", "problem"]
    subject: str
    finding: str
    exit_code: int = 0

    @classmethod
    def problem(cls, subject: str, error: SeedbedError) -> Check:
        """What an error says."""
        return cls("problem", subject, str(error), error.exit_code)


def check_machine(root: Path = Path("/")) -> Iterator[Check]:
    """All checks of this machine.

    Args:
        root: where /proc and /sys are.
    """
    yield Check("ok", "python", f"{platform.python_version()} in {sys.executable}")
    yield from _check_packages()
    yield _check_gpu(root)
    yield _check_cores(root)
    yield _check_memory(root)
    if resource is not None:
        yield _check_limit("open files", resource.RLIMIT_NOFILE, "ulimit -n", _MIN_DESCRIPTORS)
        yield _check_processes(root)


def version_of(distribution: str) -> str | None:
    """Of an installed package, or None."""
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


def _check_packages() -> Iterator[Check]:
    for name, purpose in _PACKAGES.items():
        version = version_of(name)
        if version is not None:
            yield Check("ok", name, version)
        elif name in _REQUIRED:
            yield Check.problem(name, MissingExtraError(f"not installed, needed by {purpose}: pip install {name}"))
        else:
            yield Check("ok", name, f"not installed (for {purpose} only)")
    try:
        from seedbed.proto import seedbed_pb2, seedbed_pb2_grpc  # noqa: F401  # they check what they run on
    except Exception as error:  # of several classes, one of them protobuf's own
        reason = " ".join(str(error).split())
        yield Check.problem("protocol stubs", MissingExtraError(f"{reason} (pip install --upgrade grpcio protobuf)"))


def _check_gpu(root: Path) -> Check:
    if not any((root / name).exists() for name in _GPU_SIGNS):
        return Check("ok", "gpu", "none; a server learns on the CPU")
    if version_of("torch") is None:
        return Check("ok", "gpu", "there is one, for a server: without torch it does not matter")
    try:
        asked = subprocess.run(
            [sys.executable, "-P", "-c", _ASK_TORCH], capture_output=True, text=True, timeout=_GPU_TIMEOUT_S, check=True
        )
    except (subprocess.SubprocessError, OSError) as error:
        lines = str(getattr(error, "stderr", None) or error).strip().splitlines()
        return Check("warning", "gpu", f"torch does not start: {lines[-1]}")
    cuda, *names = asked.stdout.splitlines()
    if names:
        return Check("ok", "gpu", ", ".join(names))
    if cuda == "None":
        return Check("warning", "gpu", "there is a driver, but this torch is a CPU build: install the CUDA one")
    why = f"there is a driver, but torch (CUDA {cuda}) sees no GPU: driver too old, or hidden?"
    return Check("warning", "gpu", why)


def _check_cores(root: Path) -> Check:
    cores = usable_cores()
    shares = []
    for text in _control_group_values(root, "cpu.max"):
        quota, _, period = text.partition(" ")
        if quota != "max":
            shares.append(int(quota) / int(period))
    if shares and min(shares) < cores:
        return Check("ok", "cores", f"{min(shares):g} of {cores}, limited by the container")
    return Check("ok", "cores", str(cores))


def _check_memory(root: Path) -> Check:
    try:
        lines = (root / "proc/meminfo").read_text().splitlines()
    except OSError:
        return Check("ok", "memory", f"not known on {platform.system()}")
    free = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
    whose = "free"
    limits = [int(text) for text in _control_group_values(root, "memory.max") if text != "max"]
    if limits and min(limits) < free:
        free, whose = min(limits), "allowed by the container"
    if free < _MIN_MEMORY_BYTES:
        return Check(
            "warning", "memory", f"{free / GIB:.1f} GiB {whose}: expected at least {_MIN_MEMORY_BYTES / GIB:g} GiB"
        )
    return Check("ok", "memory", f"{free / GIB:.1f} GiB {whose}")


def _check_processes(root: Path) -> Check:
    limits = [int(text) for text in _control_group_values(root, "pids.max") if text != "max"]
    if limits and min(limits) < _MIN_PROCESSES:
        return Check(
            "warning", "processes", f"{min(limits)} allowed by the container: expected at least {_MIN_PROCESSES}"
        )
    return _check_limit("processes", resource.RLIMIT_NPROC, "ulimit -u", _MIN_PROCESSES)


def _check_limit(subject: str, number: int, command: str, least: int) -> Check:
    soft, hard = resource.getrlimit(number)
    if soft == resource.RLIM_INFINITY:
        return Check("ok", subject, "unlimited")
    if soft >= least:
        return Check("ok", subject, f"{soft} at most")
    remedy = (
        f"{command} {least}" if hard == resource.RLIM_INFINITY or hard >= least else "ask the administrator for more"
    )
    return Check("warning", subject, f"{soft} at most: expected at least {least} ({remedy})")


def _control_group_values(root: Path, name: str) -> list[str]:
    """A file of this process's control group (version 2) and of all that contain it."""
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return []
    group = next((line.removeprefix("0::/") for line in lines if line.startswith("0::/")), "")
    top = root / "sys/fs/cgroup"
    folders = [top / group, *(top / group).parents][: len(Path(group).parts) + 1]
    return [(folder / name).read_text().strip() for folder in folders if (folder / name).is_file()]
