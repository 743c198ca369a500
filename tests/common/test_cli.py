"""The `seedbed` command, and how programs end."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import threading
import time
import tomllib
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace

import pytest

from seedbed.common import cli, logs
from seedbed.common.errors import MissingExtraError, SpecError, UsageError
from seedbed.common.extras import install_command

Tape = list[tuple[str, list[str]]]


@pytest.fixture
def tape(monkeypatch: pytest.MonkeyPatch) -> Tape:
    """What was called with which arguments; nothing is really imported."""
    calls: Tape = []

    def fake_import(name: str) -> SimpleNamespace:
        def main(argv: list[str]) -> int:
            calls.append((name, argv))
            return 7

        return SimpleNamespace(main=main)

    monkeypatch.setattr(cli.importlib, "import_module", fake_import)
    return calls


@pytest.fixture
def _own_logging() -> Iterator[None]:
    root = logging.getLogger()
    before, level = list(root.handlers), root.level
    root.handlers.clear()
    yield
    root.handlers[:] = before
    root.setLevel(level)


def test_verbs_start_their_module(tape: Tape) -> None:
    for verb in ("train", "server", "eval", "plot", "env"):
        assert cli.main([verb, "--x", "1"]) == 7
    server = "seedbed.server.__main__"
    assert tape == [(server, [verb, "--x", "1"]) for verb in ("train", "server", "eval", "plot")] + [
        ("seedbed.env_client.__main__", ["--x", "1"])
    ]


def test_verbs_read_the_command_line_of_the_process(tape: Tape, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["seedbed", "env", "--num-envs", "2"])
    assert cli.main() == 7
    assert tape == [("seedbed.env_client.__main__", ["--num-envs", "2"])]


@pytest.mark.parametrize(
    ("argv", "line"),
    [
        (["trian"], "seedbed: error: unknown verb 'trian', did you mean 'train'?"),
        (
            ["xyzzy"],
            "seedbed: error: unknown verb 'xyzzy', expected one of train, server, env, fleet, check, loadtest, top, "
            "eval, export, push, record, doctor, plot, list, completion",
        ),
        (["--verbose"], "seedbed: error: unknown verb '--verbose', did you mean 'server'?"),
    ],
)
def test_unknown_verb(argv: list[str], line: str, tape: Tape, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(argv) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert err.startswith(line.partition(",")[0])
    if "train" in line:
        assert err == f"{line}\n"
    assert tape == []


def test_help_and_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--help"]) == 0
    out = capsys.readouterr().out
    assert all(f"  {name:<10}  {verb.help}\n" in out for name, verb in cli.VERBS.items())
    assert cli.main([]) == 2
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out.endswith(f"seedbed {version('seedbed')}\n")


@pytest.mark.parametrize(("module", "extra"), [("torch.nn", "server"), ("cv2", "atari"), ("matplotlib", "plot")])
def test_missing_extra(
    module: str, extra: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(name: str) -> None:
        raise ModuleNotFoundError(f"No module named {module!r}", name=module)

    monkeypatch.setattr(cli.importlib, "import_module", fail)
    assert cli.main(["train"]) == MissingExtraError.exit_code
    top = module.partition(".")[0]
    assert capsys.readouterr().err == (
        f'seedbed: error: expected the extra "{extra}" to be installed ({install_command(extra)}): {top} is missing\n'
    )


def test_missing_module_of_ours_keeps_its_trace(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(name: str) -> None:
        raise ModuleNotFoundError("No module named 'seedbed.server.sevring'", name="seedbed.server.sevring")

    monkeypatch.setattr(cli.importlib, "import_module", fail)
    assert cli.main(["train"]) == 1
    err = capsys.readouterr().err
    assert err.startswith("Traceback")
    assert "sevring" in err


def test_extras_are_those_of_the_distribution() -> None:
    """Every optional dependency is known under the extra that pyproject.toml has it in."""
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    modules = {
        "ale-py": "ale_py",
        "opencv-python-headless": "cv2",
        "pyyaml": "yaml",
        "grpcio-health-checking": "grpc_health",
        "prometheus-client": "prometheus_client",
        "mlflow-skinny": "mlflow",
    }
    for extra, requirements in project["optional-dependencies"].items():
        names = [requirement.partition(">")[0].partition("[")[0] for requirement in requirements]
        if extra in ("dev", "browser", "docs"):
            continue
        for name in names:
            if name != "seedbed":
                assert cli._EXTRAS[modules.get(name, name)] == extra


def test_the_command_imports_neither_side() -> None:
    heavy = ("torch", "gymnasium", "numpy", "grpc", "seedbed.server", "seedbed.env_client")
    code = f"import sys, seedbed.common.cli; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def _raise(error: BaseException) -> int:
    raise error


@pytest.mark.parametrize(
    ("error", "code", "err"),
    [
        (SpecError("wrong spec"), 78, "seedbed: error: wrong spec\n"),
        (UsageError("first\nsecond"), 2, "seedbed: error: first; second\n"),
        (KeyboardInterrupt(), 130, ""),
    ],
)
def test_run_main_turns_errors_into_exit_codes(
    error: BaseException, code: int, err: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert logs.run_main(lambda argv: _raise(error), []) == code
    assert capsys.readouterr() == ("", err)


def test_a_thread_is_named_for_those_who_look_from_outside() -> None:
    done = threading.Event()

    def work() -> None:
        logs.name_thread("learner")
        done.wait()

    thread = threading.Thread(target=work)
    thread.start()
    comm = Path(f"/proc/self/task/{thread.native_id}/comm")
    deadline_s = time.monotonic() + 10
    while comm.read_text() != "learner\n" and time.monotonic() < deadline_s:
        time.sleep(0.001)
    assert comm.read_text() == "learner\n"
    done.set()
    thread.join()


def test_run_main_keeps_the_trace_of_defects(capsys: pytest.CaptureFixture[str]) -> None:
    assert logs.run_main(lambda argv: 1 // 0, []) == 1
    err = capsys.readouterr().err
    assert err.startswith("Traceback")
    assert "ZeroDivisionError" in err


def test_run_main_is_quiet_when_nobody_reads() -> None:
    code = "import sys; from seedbed.common.logs import run_main\nsys.exit(run_main(lambda argv: print('x') or 0, []))"
    # Buffered, as users run it: what is left in the buffer is written again at the very end.
    env = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=env)
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    err = process.stderr.read()
    process.stderr.close()
    assert (process.wait(), err) == (141, b"")


@pytest.mark.usefixtures("_own_logging")
def test_log_lines_name_their_process(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(logs.LEVEL_VARIABLE, raising=False)
    logs.setup_logging("frontend 0, 50% of them")
    logs.setup_logging("frontend 0, 50% of them")  # replaces, does not double
    logging.getLogger("x").info("serving %s", "Pong")
    logging.getLogger("x").debug("not seen")
    line = capsys.readouterr().err
    assert line[14:] == " INFO frontend 0, 50% of them: serving Pong\n"


@pytest.mark.usefixtures("_own_logging")
def test_log_level(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(os.environ, logs.LEVEL_VARIABLE, "ERROR")
    logs.setup_logging("server")
    logging.getLogger("x").warning("not seen")
    assert capsys.readouterr().err == ""
    logs.setup_logging("server", "debug")  # the option wins
    logging.getLogger("x").debug("seen")
    assert capsys.readouterr().err.endswith(" DEBUG server: seen\n")
    with pytest.raises(UsageError, match="expected a log level out of debug, info, warning, error, got 'loud'"):
        logs.setup_logging("server", "loud")
