"""A small real Slurm: this machine as three nodes, everything on loopback, in a folder that goes with it.

apt-get install --no-install-recommends slurm-wlm munge
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Self

import psutil

from tests.system.processes import eventually

_PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "scancel", "scontrol", "squeue", "openssl")
_NODES = ("n1", "n2", "n3")

# CredExpire is why a job that lost its node waits two minutes before it runs again; here it is as short as it may be.
_CONFIGURATION = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={port}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge/socket,cred_expire=5
CredType=cred/munge
CommunicationParameters=NoInAddrAny,NoCtldInAddrAny
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/%n.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
MpiDefault=none
SwitchType=switch/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SchedulerParameters=sched_interval=2,bf_interval=2
SlurmdTimeout=10
KillWait=20
ReturnToService=2
"""


def missing() -> str:
    """Why there can be no Slurm here; empty if there can."""
    absent = [name for name in _PROGRAMS if shutil.which(name) is None]
    if absent:
        return f"{', '.join(absent)} not found: apt-get install slurm-wlm munge"
    return "" if os.geteuid() == 0 else "Slurm's daemons need root"


class Slurm:
    """Three nodes of two cores; use it as a context, which ends it and every job.

    Args:
        folder: for keys, state and logs; short, because a socket lies in it.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._daemons: dict[str, subprocess.Popen[bytes]] = {}
        self._environment = {
            **os.environ,
            "SLURM_CONF": str(folder / "slurm.conf"),
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "OMP_NUM_THREADS": "1",
            "CUDA_VISIBLE_DEVICES": "",
            "SEEDBED_HOST": "127.0.0.1",
            "SEEDBED_PORT": str(free_port()),
        }

    def __enter__(self) -> Self:
        folder = self._folder
        for name in ("munge", "state", "logs", *_NODES):
            (folder / name).mkdir(mode=0o755)
        key = folder / "munge" / "key"
        key.touch(mode=0o600)
        key.write_bytes(secrets.token_bytes(1024))
        ports = [free_port() for _ in _NODES]
        nodes = [
            f"NodeName={name} NodeHostname={socket.gethostname()} NodeAddr=127.0.0.1 Port={port} CPUs=2 RealMemory=1000"
            for name, port in zip(_NODES, ports, strict=True)
        ]
        partition = f"PartitionName=all Nodes={','.join(_NODES)} Default=YES MaxTime=INFINITE State=UP"
        configuration = _CONFIGURATION.format(host=socket.gethostname(), port=free_port(), folder=folder)
        (folder / "slurm.conf").write_text("\n".join([configuration, *nodes, partition, ""]))
        files = {"key-file": "key", "socket": "socket", "pid-file": "pid", "log-file": "log", "seed-file": "seed"}
        munge = [f"--{option}={folder}/munge/{name}" for option, name in files.items()]
        try:
            self._start("munged", "munged", "--foreground", "--force", *munge)
            eventually((folder / "munge" / "socket").exists, "munged to listen", 20)
            self._start("slurmctld", "slurmctld", "-i", "-D")
            for name in _NODES:
                self.start_node(name)
            eventually(lambda: self.ask("sinfo", "-h", "-o", "%T") == "idle", "three idle nodes", 60)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(subprocess.SubprocessError, AssertionError):
            self.ask("scancel", "--user=root")
            eventually(lambda: not self.ask("squeue", "-h"), "all jobs to end", 40)
        for daemon in reversed(self._daemons.values()):
            daemon.terminate()
        for name, daemon in self._daemons.items():
            with contextlib.suppress(subprocess.TimeoutExpired):
                daemon.wait(10)
            daemon.kill()
            daemon.wait()
            print(f"== {name}\n{(self._folder / 'logs' / name).read_text(errors='replace')[-1500:]}")
        for process in self._processes(self._environment["SLURM_CONF"]):
            process.kill()

    def start_node(self, name: str) -> None:
        """Its daemon."""
        self._start(name, "slurmd", "-N", name, "-D")

    def ask(self, *command: str | Path, cwd: Path | None = None) -> str:
        """Runs one of Slurm's commands and returns what it says."""
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=self._environment, cwd=cwd)
        if done.returncode:
            raise subprocess.SubprocessError(f"{command}: {done.stderr}")
        return done.stdout.strip()

    def submit(self, cwd: Path, *command: str | Path) -> str:
        """`sbatch`; returns the number of the job."""
        return self.ask("sbatch", "--parsable", *command, cwd=cwd)

    def job(self, number: str, what: str) -> str:
        """A field of `scontrol show job`."""
        shown = self.ask("scontrol", "show", "job", number)
        found = re.search(rf"\b{what}=(\S*)", shown)
        assert found is not None, shown
        return found[1]

    def kill_node(self, name: str, job: str) -> None:
        """As if the machine were switched off: its daemon, and all there is of a job that ran there alone."""
        daemon = self._daemons.pop(name)
        daemon.kill()
        daemon.wait()
        # First what would tell of the end of the others.
        lost = [process for process in psutil.process_iter() if f"slurmstepd: [{job}." in _command(process)]
        assert lost, f"expected job {job} to run"
        lost += self._processes(f"SLURMD_NODENAME={name}")
        for process in lost:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(signal.SIGKILL)

    def _start(self, name: str, *command: str) -> None:
        log = (self._folder / "logs" / name).open("ab")
        with log:
            self._daemons[name] = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=self._environment, start_new_session=True
            )

    def _processes(self, variable: str) -> Sequence[psutil.Process]:
        """Those of this cluster's jobs that have a word in their environment."""
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                words = [f"{key}={value}" for key, value in process.environ().items()]
                ours = f"SLURM_CONF={self._environment['SLURM_CONF']}" in words
                if ours and any(variable in word for word in words) and "SLURM_JOB_ID" in process.environ():
                    found.append(process)
        return found


def free_port() -> int:
    """One that nobody has now."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def wait_for_steps(metrics: Path, more_than: float, within_s: float = 180.0) -> float:
    """Waits until a run has made more agent steps than these; returns how many."""

    def steps() -> float:
        lines = metrics.read_text().splitlines() if metrics.exists() else []
        found = re.findall(r'"agent_steps": (\d+)', lines[-1]) if lines else []
        return float(found[0]) if found and float(found[0]) > more_than else 0.0

    began_s = time.monotonic()
    count = eventually(steps, f"more than {more_than:,.0f} agent steps", within_s)
    print(f"more than {more_than:,.0f} agent steps after {time.monotonic() - began_s:.1f} s: {count:,.0f}")
    return count


def _command(process: psutil.Process) -> str:
    with contextlib.suppress(psutil.Error):
        return " ".join(process.cmdline())
    return ""
