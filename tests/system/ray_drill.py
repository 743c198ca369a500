"""A fleet on a real Ray of three nodes: `python -m tests.system.ray_drill FOLDER`, in namespaces of its own.

Ray listens on all addresses and kills by name, so it is given a network of loopback alone and sees no process but its
own; whatever it leaves ends with the namespace. Prints what it measured, one word and a number a line.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import grpc
import psutil

from seedbed.proto import seedbed_pb2 as pb
from seedbed.proto.seedbed_pb2_grpc import SeedbedStub
from tests.system.processes import Program, eventually, run

_RAY = "127.0.0.1:6399"
_ENV = "seedbed/Synthetic-v0,shape=4,dtype=float32,actions=3,length=10,step_ms=20"
_NUM_ENVS = 16


def main(folder: Path) -> None:
    """Runs the drill; an assertion that fails ends it."""
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    os.environ |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(16), "RAY_DISABLE_USAGE_STATS": "1"}
    _start("--head", "--port=6399", "--num-cpus=0", "--include-dashboard=false", f"--temp-dir={folder}/ray")
    for _ in range(2):
        _start(f"--address={_RAY}", "--num-cpus=4")
    token = folder / "token"
    token.write_text(secrets.token_hex(16))
    arguments = ("--env", _ENV, "--num-envs", _NUM_ENVS, "--no-train", "--http-port", "none", "--device", "cpu")
    serve = ("server", *arguments, "--run-dir", folder / "run", "--token-file", token)
    fleet = ("fleet", "--ray", _RAY, "--token-file", token, "--num-envs", _NUM_ENVS, "--envs-per-client", 4)
    with Program(*serve) as server:
        address = server.address
        refused = run(*fleet, "--server", address, "--env", "seedbed/Catch-v0")
        refused.assert_error(78, "not the one this server serves")
        started_s = time.monotonic()
        with Program(*fleet, "--server", address) as clients:

            def live_rows() -> int:
                return _gauge(address, token, "live_rows")

            clients.eventually(lambda: live_rows() == _NUM_ENVS, "all rows")
            _say("rows_live_s", started_s)
            nodes = _clients_by_raylet()
            print("clients by node:", sorted(nodes.values()), flush=True)
            assert len(nodes) == 2, "spread over both nodes"
            killed_s = time.monotonic()
            next(iter(nodes)).kill()
            clients.eventually(lambda: live_rows() < _NUM_ENVS, "the loss to be seen", 30)
            clients.eventually(lambda: live_rows() == _NUM_ENVS, "all rows again")
            _say("rows_back_s", killed_s)
            clients.send(signal.SIGTERM)
            stopped_s = time.monotonic()
            assert clients.wait() == 0, clients.stderr
            eventually(lambda: _gauge(address, token, "used_rows") == 0, "all to say goodbye", 5)
            _say("left_s", stopped_s)


def _gauge(address: str, token: Path, name: str) -> int:
    metadata = (("authorization", f"Bearer {token.read_text()}"),)
    with grpc.insecure_channel(address) as channel:
        return int(SeedbedStub(channel).Status(pb.StatusRequest(), timeout=10, metadata=metadata).gauges[name])


def _start(*options: str) -> None:
    command = [str(Path(sys.executable).parent / "ray"), "start", "--node-ip-address=127.0.0.1", *options]
    done = subprocess.run([*command, "--object-store-memory=80000000"], capture_output=True, text=True, timeout=180)
    assert done.returncode == 0, done.stdout + done.stderr


def _clients_by_raylet() -> Counter[psutil.Process]:
    """How many clients each node runs: workers are children of their raylet."""
    found: Counter[psutil.Process] = Counter()
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if " ".join(process.cmdline()).startswith("ray::seedbed env") and (parent := process.parent()):
                found[parent] += 1
    return found


def _say(what: str, since_s: float) -> None:
    print(f"{what} {time.monotonic() - since_s:.1f}", flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
