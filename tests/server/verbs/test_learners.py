"""Several learners on one machine: started together, started again together, and ended together."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from seedbed.common.errors import UsageError
from seedbed.server.run.directory import RunDirectory, RunFile
from seedbed.server.training.stop_signal import StopSignal
from seedbed.server.verbs import learners
from seedbed.server.verbs.learners import check_room, gossips, run_learners, take_learners
from tests.reference.unequal import SPEC


def test_the_number_is_taken_from_the_command_line() -> None:
    assert take_learners(["--preset", "catch"]) == (1, ["--preset", "catch"])
    assert take_learners(["--learners", "3", "--num-envs", "4"]) == (3, ["--num-envs", "4"])
    assert take_learners(["--learners=2"]) == (2, [])


@pytest.mark.parametrize(
    "argv", [["--learners"], ["--learners", "0"], ["--learners=x"], ["--learners=2", "--learners=2"], ["--learners=-1"]]
)
def test_what_is_no_number_of_learners(argv: list[str]) -> None:
    with pytest.raises(UsageError, match="--learners"):
        take_learners(argv)


def test_not_within_torchrun(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UsageError, match="torchrun"):
        take_learners(["--learners=2"])


def test_a_number_that_would_stop_the_machine_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(learners.os, "sched_getaffinity", lambda pid: {0, 1})
    check_room(16)
    with pytest.raises(UsageError, match="expected --learners to be at most 16 on 2 cores, got 99"):
        check_room(99)


class Replicas:
    """Processes that end as they are told, instead of trainings.

    Attributes:
        starts: rank and store of each.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch, folder: Path, program: str) -> None:
        self.starts: list[tuple[str, str]] = []
        self._program = f"import os, pathlib, signal, sys, time; folder = pathlib.Path({str(folder)!r})\n{program}"
        self._popen = subprocess.Popen
        monkeypatch.setattr(learners.subprocess, "Popen", self._start)

    def _start(self, command: list[str], **options: object) -> subprocess.Popen[bytes]:
        environment = options["env"]
        assert isinstance(environment, dict)
        self.starts.append((environment["RANK"], Path(environment["SEEDBED_STORE"]).name))
        return self._popen([sys.executable, "-c", self._program], **options)  # type: ignore[call-overload]


DIES_ONCE = """
first = not (folder / "died").exists()
if os.environ["RANK"] == "1" and first:
    (folder / "died").touch()
    os.kill(os.getpid(), signal.SIGKILL)
while first and not (folder / "died").exists():
    time.sleep(0.01)
sys.exit(75 if first and os.environ["RANK"] == "0" else 0)
"""


def test_when_one_dies_all_are_started_again(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """With a new store: in the old one stand the addresses of the dead."""
    replicas = Replicas(monkeypatch, tmp_path, DIES_ONCE)
    assert run_learners("train", [], 2, StopSignal()) == 0
    assert sorted(replicas.starts) == [("0", "store-0"), ("0", "store-1"), ("1", "store-0"), ("1", "store-1")]


def test_what_another_start_would_not_mend_ends_the_run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    program = "sys.exit(78 if os.environ['RANK'] == '1' else 75)"
    replicas = Replicas(monkeypatch, tmp_path, program)
    assert run_learners("train", [], 2, StopSignal()) == 78
    assert len(replicas.starts) == 2


def test_one_that_does_not_leave_is_killed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(learners, "_LEAVE_S", 0.3)
    program = "time.sleep(60) if os.environ['RANK'] == '0' else sys.exit(1)"
    Replicas(monkeypatch, tmp_path, program)
    begun_s = time.monotonic()
    assert run_learners("train", [], 2, StopSignal()) == 1
    assert time.monotonic() - begun_s < 30


def test_what_says_stop_is_handed_on_to_all(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    program = (
        "signal.signal(signal.SIGHUP, lambda *_: sys.exit(0)); (folder / os.environ['RANK']).touch(); time.sleep(60)"
    )
    Replicas(monkeypatch, tmp_path, program)
    stop = StopSignal()
    monkeypatch.setattr(learners, "patient_signal", lambda: signal.SIGHUP)

    class Waits(StopSignal):
        @property
        def name(self) -> str | None:
            return "SIGTERM" if all((tmp_path / rank).exists() for rank in "01") else None

        @name.setter
        def name(self, value: str | None) -> None:
            return

    stop = Waits()
    assert run_learners("train", [], 2, stop) == 0


def test_replicas_end_when_who_started_them_is_gone() -> None:
    program = (
        "import sys, time\nfrom seedbed.server.training.stop_signal import StopSignal\n"
        "stop = StopSignal(); stop.at_end_of_input()\n"
        "while stop.name is None: time.sleep(0.01)\nprint(stop.name)"
    )
    process = subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.poll() is None
    output, _ = process.communicate(timeout=30)
    assert output.strip() == b"the end of its parent"


def test_told_to_stop_before_they_have_begun(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """One ends by the signal, for nobody takes it yet, and the other misses it: that is no failure."""
    program = "time.sleep(60) if os.environ['RANK'] == '1' else (time.sleep(1), sys.exit(75))"
    Replicas(monkeypatch, tmp_path, program)
    monkeypatch.setattr(learners, "patient_signal", lambda: signal.SIGTERM)
    stop = StopSignal()
    stop.name = "SIGTERM"
    assert run_learners("train", [], 2, stop) == 0


GOES_ON = """
if os.environ["RANK"] == "1":
    os.kill(os.getpid(), signal.SIGKILL)
(folder / os.environ["RANK"]).touch()
while not (folder / "end").exists():
    time.sleep(0.01)
"""


def test_learners_that_gossip_go_on_without_one(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """However long: the others came to the end of the run, and so has the run."""
    monkeypatch.setattr(learners, "_LEAVE_S", 0.1)
    monkeypatch.setattr(learners, "setup_logging", lambda _: None)
    replicas = Replicas(monkeypatch, tmp_path, GOES_ON)
    threading.Timer(1.0, (tmp_path / "end").touch).start()
    begun_s = time.monotonic()
    assert run_learners("train", [], 3, StopSignal(), lambda: True) == 0
    assert time.monotonic() - begun_s >= 0.9
    assert len(replicas.starts) == 3
    assert "learner 1 ended with -9: the others go on" in caplog.text


def test_learners_that_gossip_are_all_started_again_without_the_first(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    program = DIES_ONCE.replace('"1" and first', '"0" and first').replace('== "0" else 0', '== "1" else 0')
    replicas = Replicas(monkeypatch, tmp_path, program)
    assert run_learners("train", [], 2, StopSignal(), lambda: True) == 0
    assert len(replicas.starts) == 4


def test_a_first_learner_that_the_others_gave_up_is_killed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """It stands still; all are started again."""
    monkeypatch.setattr(learners, "_LEAVE_S", 0.3)
    program = (
        "first = not (folder / 'gave-up').exists()\n"
        "if first and os.environ['RANK'] == '0':\n"
        "    (folder / 'stops').touch()\n    os.kill(os.getpid(), signal.SIGSTOP)\n"
        "while not (folder / 'stops').exists():\n    time.sleep(0.01)\n"
        "(folder / 'gave-up').touch()\n"
        "sys.exit(75 if first else 0)"
    )
    replicas = Replicas(monkeypatch, tmp_path, program)
    assert run_learners("train", [], 2, StopSignal(), lambda: True) == 0
    assert len(replicas.starts) == 4


def test_what_another_start_would_not_mend_ends_learners_that_gossip(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """In order: nobody else would end by itself."""
    program = (
        "signal.signal(signal.SIGHUP, lambda *_: ((folder / 'asked').touch(), sys.exit(0)));"
        "(folder / os.environ['RANK']).touch()\n"
        "while os.environ['RANK'] == '1' and not (folder / '0').exists():\n    time.sleep(0.01)\n"
        "sys.exit(78) if os.environ['RANK'] == '1' else time.sleep(60)"
    )
    Replicas(monkeypatch, tmp_path, program)
    monkeypatch.setattr(learners, "patient_signal", lambda: signal.SIGHUP)
    assert run_learners("train", [], 2, StopSignal(), lambda: True) == 78
    assert (tmp_path / "asked").exists()


def test_a_run_that_gossips_says_so(tmp_path: Path) -> None:
    directory = RunDirectory(tmp_path)
    assert not gossips(directory)
    for exchange in ("all_reduce", "gossip"):
        run = RunFile({"replicas": {"exchange": exchange}}, SPEC, "0")
        directory.config_file.write_text(json.dumps(run.to_json()))
        assert gossips(directory) is (exchange == "gossip")
    directory.config_file.write_text("{")
    assert not gossips(directory)
