"""The pods of deploy/kubernetes/overlays/replicas without a cluster: their commands, names, addresses and disks.

Each pod is namespaces of this machine. What Kubernetes would do the test does: a name that leads to all pods, and a
lost pod that comes back under its name.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import psutil
import pytest

from tests.reference.kustomize import render
from tests.system.namespaces import Node, connect, missing_rights
from tests.system.processes import eventually
from tests.system.slurm import wait_for_steps

pytestmark = [pytest.mark.system, pytest.mark.slow, pytest.mark.timeout(900)]

OVERLAY = Path(__file__).resolve().parents[2] / "deploy" / "kubernetes" / "overlays" / "replicas"
ADDRESSES = {"server-0": "10.77.0.1", "server-1": "10.77.0.2", "env": "10.77.0.3"}
SMALL = ("--device=cpu", "--target-return=none", "--log-interval-s=0.5", "--checkpoint-interval-s=2", "--num-envs=16")


def container(name: str) -> dict[str, Any]:
    """Of the pods of a workload."""
    pytest.importorskip("yaml", reason="PyYAML, of the extra `dev`, is not installed")
    found = [one for one in render(OVERLAY) if one["kind"] in ("StatefulSet", "Deployment")]
    [workload] = [one for one in found if one["metadata"]["name"] == name]
    [only] = workload["spec"]["template"]["spec"]["containers"]
    return dict(only)


class Pod:
    """A container of the overlay that runs on a node; use it as a context, which ends it the hard way."""

    def __init__(self, name: str, node: Node, folder: Path, *more: str) -> None:
        one = container(name.partition("-")[0])
        runs = [word.replace("/runs/pong", f"{folder}/runs/catch").replace("=pong", "=catch") for word in one["args"]]
        command = one.get("command", ["seedbed", "env"])  # or what the image begins with
        variables = {
            variable["name"]: variable.get("value", name.rpartition("-")[2]) for variable in one.get("env", [])
        }
        self.log = folder / f"{name}.log"
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [*node.prefix, f"--wdns={folder}", *command, *runs, *more],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={
                    **os.environ,
                    **variables,
                    "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
                    "OMP_NUM_THREADS": "1",
                    "CUDA_VISIBLE_DEVICES": "",
                },
            )

    def kill(self) -> None:
        """All of it at once, as if its machine were switched off."""
        with contextlib.suppress(psutil.NoSuchProcess):
            for process in (
                *psutil.Process(self.process.pid).children(recursive=True),
                psutil.Process(self.process.pid),
            ):
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.kill()
        self.process.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()


def wait_for_words(log: Path, words: str, times: int) -> None:
    """Until a log has them so often."""
    eventually(lambda: log.read_text().count(words) >= times, f"{words!r} {times} times in {log.name}")


@pytest.fixture
def nodes(tmp_path: Path) -> Iterator[dict[str, Node]]:
    """Machines with their names, and `servers` for both that serve."""
    if reason := missing_rights():
        pytest.skip(reason)
    hosts = ["127.0.0.1 localhost"]
    for name, address in ADDRESSES.items():
        hosts.append(f"{address} {name} {name}.servers servers" if name.startswith("server") else f"{address} {name}")
        (tmp_path / f"volume-{name}").mkdir()
    (tmp_path / "runs").mkdir()
    (tmp_path / "hosts").write_text("\n".join([*hosts, ""]))
    made = {
        name: Node(name, tmp_path / "hosts", (tmp_path / f"volume-{name}", tmp_path / "runs")) for name in ADDRESSES
    }
    connect({address: made[name] for name, address in ADDRESSES.items()})
    yield made
    for node in made.values():
        node.close()


def test_a_lost_pod_comes_back_and_so_does_the_first(nodes: dict[str, Node], tmp_path: Path) -> None:
    """Clients find both by one name; the run goes on from what was saved, whichever pod is lost."""
    metrics = tmp_path / "volume-server-0" / "catch" / "metrics.jsonl"
    with contextlib.ExitStack() as stack:
        zero, one = (stack.enter_context(Pod(f"server-{n}", nodes[f"server-{n}"], tmp_path, *SMALL)) for n in range(2))
        for number in range(2):
            client = stack.enter_context(Pod("env", nodes["env"], tmp_path, f"--client-id=c{number}"))
            wait_for_words(client.log, "connected to", number + 1)
        try:
            steps = wait_for_steps(metrics, 500)

            one.kill()
            lost_s = time.monotonic()
            one = stack.enter_context(Pod("server-1", nodes["server-1"], tmp_path, *SMALL))
            steps = wait_for_steps(metrics, steps)
            print(f"pod 1 lost: more steps after {time.monotonic() - lost_s:.1f} s")
            assert zero.process.poll() is None, "the other pod stays"

            zero.kill()
            lost_s = time.monotonic()
            assert one.process.wait(180) != 0  # its store is gone: the kubelet starts it again
            zero, one = (
                stack.enter_context(Pod(f"server-{n}", nodes[f"server-{n}"], tmp_path, *SMALL)) for n in range(2)
            )
            wait_for_steps(metrics, steps)
            print(f"pod 0 lost: more steps after {time.monotonic() - lost_s:.1f} s")

            for pod in (zero, one):
                pod.process.send_signal(signal.SIGTERM)
            for pod in (zero, one):
                pod.process.wait(90)
            assert "stopped; " in zero.log.read_text()
        finally:
            for file in sorted(tmp_path.glob("*.log")):
                print(f"== {file.name}\n{file.read_text()[-4000:]}")
