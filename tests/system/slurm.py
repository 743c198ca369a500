"""A small real Slurm: three nodes with a name, an address and a network of their own, in namespaces of this machine.

apt-get install --no-install-recommends slurm-wlm munge
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Self

import psutil

from tests.system.namespaces import Node, connect, missing_rights
from tests.system.processes import eventually

_PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "scancel", "scontrol", "squeue", "openssl")
_NODES = {"n1": "10.77.0.1", "n2": "10.77.0.2", "n3": "10.77.0.3"}

# CredExpire is why a job that lost its node waits two minutes before it runs again; here it is as short as it may be.
_CONFIGURATION = """
ClusterName=test
SlurmctldHost=n1
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge/socket,cred_expire=5
CredType=cred/munge
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
SlurmdParameters=config_overrides
KillWait=20
ReturnToService=2
"""


def missing() -> str:
    """Why there can be no Slurm here; empty if there can."""
    absent = [name for name in _PROGRAMS if shutil.which(name) is None]
    if absent:
        return f"{', '.join(absent)} not found: apt-get install slurm-wlm munge"
    return missing_rights() or ("" if os.geteuid() == 0 else "Slurm's daemons need root")


class Slurm:
    """Three nodes of four cores; use it as a context, which ends it and every job.

    Args:
        folder: for keys, state and logs; short, because a socket lies in it.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._machines: dict[str, Node] = {}
        self._daemons: dict[str, subprocess.Popen[bytes]] = {}
        self._environment = {
            **os.environ,
            "SLURM_CONF": str(folder / "slurm.conf"),
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "OMP_NUM_THREADS": "1",
            "CUDA_VISIBLE_DEVICES": "",
        }

    def __enter__(self) -> Self:
        folder = self._folder
        for name in ("munge", "state", "logs", *_NODES):
            (folder / name).mkdir(mode=0o755)
        key = folder / "munge" / "key"
        key.touch(mode=0o600)
        key.write_bytes(secrets.token_bytes(1024))
        nodes = [f"NodeName={name} CPUs=4 RealMemory=1000 Weight={weight}" for weight, name in enumerate(_NODES, 1)]
        partition = f"PartitionName=all Nodes={','.join(_NODES)} Default=YES MaxTime=INFINITE State=UP"
        (folder / "slurm.conf").write_text("\n".join([_CONFIGURATION.format(folder=folder), *nodes, partition, ""]))
        hosts = ["127.0.0.1 localhost", *(f"{address} {name}" for name, address in _NODES.items()), ""]
        (folder / "hosts").write_text("\n".join(hosts))
        files = {"key-file": "key", "socket": "socket", "pid-file": "pid", "log-file": "log", "seed-file": "seed"}
        munge = [f"--{option}={folder}/munge/{name}" for option, name in files.items()]
        try:
            self._machines = {name: Node(name, folder / "hosts") for name in _NODES}
            connect({address: self._machines[name] for name, address in _NODES.items()})
            self._start("munged", "munged", "--foreground", "--force", *munge)
            eventually((folder / "munge" / "socket").exists, "munged to listen", 20)
            self._start("slurmctld", "slurmctld", "-i", "-D")
            for name in _NODES:
                self.start_node(name)
            eventually(lambda: self.ask("sinfo", "-h", "-o", "%D %T") == "3 idle", "three idle nodes", 60)
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
        for machine in self._machines.values():
            machine.close()

    def start_node(self, name: str) -> None:
        """Its daemon."""
        self._start(name, "slurmd", "-N", name, "-D")

    def ask(self, *command: str | Path, cwd: Path | None = None) -> str:
        """Runs one of Slurm's commands and returns what it says."""
        words = [*self._machines["n1"].prefix, *([f"--wdns={cwd}"] if cwd else []), *map(str, command)]
        done = subprocess.run(words, capture_output=True, text=True, timeout=60, env=self._environment)
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

    def kill_node(self, name: str) -> None:
        """As if the machine were switched off: its daemon, and all that its jobs run there."""
        daemon = self._daemons.pop(name)
        daemon.kill()
        daemon.wait()
        tasks = self._processes(f"SLURMD_NODENAME={name}")
        keepers = {parent for task in tasks if (parent := _parent(task)) and "slurmstepd" in _command(parent)}
        assert keepers, f"expected a job on {name}"
        for process in (*keepers, *tasks):  # first those that would tell of the end of the others
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(signal.SIGKILL)

    def _start(self, name: str, *command: str) -> None:
        log = (self._folder / "logs" / name).open("ab")
        with log:
            self._daemons[name] = subprocess.Popen(
                [*self._machines.get(name, self._machines["n1"]).prefix, *command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=self._environment,
                start_new_session=True,
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


def _parent(process: psutil.Process) -> psutil.Process | None:
    with contextlib.suppress(psutil.Error):
        return process.parent()
    return None


def _command(process: psutil.Process) -> str:
    with contextlib.suppress(psutil.Error):
        return " ".join(process.cmdline())
    return ""
