"""The scripts of deploy/slurm on a real Slurm: this machine as three nodes."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.system.processes import eventually, read_metrics
from tests.system.slurm import Slurm, missing, wait_for_steps

FOLDER = Path(__file__).resolve().parents[2] / "deploy" / "slurm"
SERVER, ENV = FOLDER / "server.sbatch", FOLDER / "env.sbatch"
SMALL = ("--num-envs", "8", "--http-port", "none", "--log-interval-s", "0.5", "--checkpoint-interval-s", "2")


@pytest.mark.parametrize("script", [SERVER, ENV])
def test_scripts_are_bash_and_say_what_they_need(script: Path) -> None:
    subprocess.run(["bash", "-n", script], check=True, timeout=20)
    done = subprocess.run(["bash", script], capture_output=True, text=True, timeout=20)
    assert done.returncode != 0
    assert "expected" in done.stderr
    assert "run directory" in done.stderr


@pytest.fixture(scope="module")
def slurm() -> Iterator[Slurm]:
    if reason := missing():
        pytest.skip(reason)
    folder = Path(tempfile.mkdtemp(prefix="slurm-"))
    folder.chmod(0o755)
    try:
        with Slurm(folder) as slurm:
            yield slurm
    finally:
        shutil.rmtree(folder)


@pytest.mark.slow
@pytest.mark.system
@pytest.mark.timeout(900)
def test_a_killed_node_a_job_out_of_time_and_the_end_of_a_run(slurm: Slurm, tmp_path: Path) -> None:
    """No hand touches it: requeued, resumed, and all clients are back; at the end nothing is left to run."""
    options = ("--preset", "catch", *SMALL, "--target-return", "none", "--device", "cpu")
    server = slurm.submit(tmp_path, "--exclude=n3", "--output=server.log", SERVER, "runs/catch", *options)
    clients = slurm.submit(
        tmp_path, "--nodelist=n3", "--array=1-2", "--output=env-%a.log", ENV, "runs/catch", "--num-envs", "4"
    )
    metrics = tmp_path / "runs" / "catch" / "metrics.jsonl"
    log = tmp_path / "server.log"
    try:
        first = wait_for_steps(metrics, 500)
        assert (tmp_path / "runs" / "catch.cluster").stat().st_mode & 0o077 == 0

        node = slurm.job(server, "NodeList")
        slurm.kill_node(node)
        killed_s = time.monotonic()
        eventually(lambda: slurm.job(server, "Restarts") == "1", "the job to be requeued", 180)
        requeued_s = time.monotonic() - killed_s
        second = wait_for_steps(metrics, first)
        assert slurm.job(server, "NodeList") not in (node, "n3", "(null)")
        print(f"requeued after {requeued_s:.1f} s, more steps {time.monotonic() - killed_s:.1f} s after the kill")
        assert log.read_text().count("resuming runs/catch at") == 1

        slurm.ask("scancel", "--signal=USR1", "--batch", server)  # what Slurm sends before the time is up
        eventually(lambda: slurm.job(server, "Restarts") == "2", "the job to requeue itself", 60)
        assert "stopped; " in log.read_text()
        third = wait_for_steps(metrics, second)
        assert third > second
        assert log.read_text().count("resuming runs/catch at") == 2
    finally:
        for file in sorted(tmp_path.glob("*.log")):
            print(f"== {file.name}\n{file.read_text()[-3000:]}")
    assert slurm.ask("squeue", "-h", "--job", clients).count(" R ") == 2
    slurm.ask("scancel", server, clients)
    eventually(lambda: not slurm.ask("squeue", "-h"), "all jobs to end", 60)
    slurm.start_node(node)
    assert not (tmp_path / "runs" / "catch.cluster" / "finished").exists()


@pytest.mark.slow
@pytest.mark.system
@pytest.mark.timeout(900)
def test_replicas_on_several_nodes_one_of_which_is_killed(slurm: Slurm, tmp_path: Path) -> None:
    """One run of two learners; the job is requeued, on another pair of nodes, and its clients find both again."""
    options = ("--preset", "catch", *SMALL, "--target-return", "none", "--device", "cpu", "--insecure-cluster-network")
    nodes = ("--nodes=2", "--cpus-per-task=2")  # the first two, unless one is lost
    server = slurm.submit(tmp_path, *nodes, "--output=server.log", SERVER, "runs/catch", *options)
    clients = slurm.submit(
        tmp_path, "--nodelist=n3", "--array=1-2", "--output=env-%a.log", ENV, "runs/catch", "--num-envs", "8"
    )
    run = tmp_path / "runs" / "catch"
    try:
        first = wait_for_steps(run / "metrics.jsonl", 500)
        assert (tmp_path / "runs" / "catch.cluster" / "servers").read_text().count(",") == 1
        assert read_metrics(run)[-1]["replicas"] == 2
        slurm.ask("scancel", "--signal=USR1", "--batch", server)  # what Slurm sends before the time is up
        eventually(lambda: slurm.job(server, "Restarts") == "1", "the job to requeue itself", 90)
        second = wait_for_steps(run / "metrics.jsonl", first)
        assert slurm.job(server, "NodeList") == "n[1-2]"
        slurm.kill_node("n2")
        killed_s = time.monotonic()
        eventually(lambda: slurm.job(server, "Restarts") == "2", "the job to be requeued", 180)
        requeued_s = time.monotonic() - killed_s
        wait_for_steps(run / "metrics.jsonl", second)
        assert slurm.job(server, "NodeList") == "n[1,3]"
        print(f"requeued after {requeued_s:.1f} s, more steps {time.monotonic() - killed_s:.1f} s after the kill")
    finally:
        for file in sorted(tmp_path.glob("*.log")):
            print(f"== {file.name}\n{file.read_text()[-3000:]}")
    slurm.ask("scancel", server, clients)
    eventually(lambda: not slurm.ask("squeue", "-h"), "all jobs to end", 60)
    slurm.start_node("n2")


@pytest.mark.slow
@pytest.mark.system
@pytest.mark.timeout(600)
def test_a_finished_run_ends_its_clients_and_a_wrong_option_its_job(slurm: Slurm, tmp_path: Path) -> None:
    options = ("--preset", "catch", *SMALL, "--max-steps", "2000", "--device", "cpu")
    clients = slurm.submit(tmp_path, "--output=env.log", ENV, "runs/catch", "--num-envs", "8")
    server = slurm.submit(tmp_path, "--output=server.log", SERVER, "runs/catch", *options)
    wrong = slurm.submit(tmp_path, "--output=wrong.log", SERVER, "runs/other", "--preset", "pacman")
    eventually(lambda: not slurm.ask("squeue", "-h"), "all jobs to end by themselves", 180)
    states = {job: (slurm.job(job, "JobState"), slurm.job(job, "ExitCode")) for job in (server, clients, wrong)}
    assert states[server] == ("COMPLETED", "0:0"), (tmp_path / "server.log").read_text()
    assert states[clients] == ("COMPLETED", "0:0"), (tmp_path / "env.log").read_text()
    assert states[wrong] == ("FAILED", "2:0"), (tmp_path / "wrong.log").read_text()
    assert (tmp_path / "runs" / "catch.cluster" / "finished").exists()
