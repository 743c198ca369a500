"""What goes wrong for users is told in one line with its own exit code, never in a stack trace."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from seedbed.common.extras import install_command
from tests.system.processes import FAST, Program, eventually, run

pytestmark = pytest.mark.system

# Exit codes, from the table in common/errors.py.
USAGE, MISSING_EXTRA, PORT_IN_USE, UNAVAILABLE, SPEC = 2, 69, 73, 75, 78

TRAIN = ("train", "--preset", "cartpole", *FAST)

IMPATIENT = "import seedbed.common.binding; seedbed.common.binding.PATIENCE_S = 0.1"
"""A start waits seconds for an earlier server to leave the port; here nobody ever leaves it."""


@pytest.mark.parametrize(
    ("options", "code", "words"),
    [
        (["train", "--env", "ALE/Pnog-v5"], SPEC, ["ALE/Pnog-v5", "ALE/Pong-v5"]),
        (["train", "--env", "Pendulum-v1", "--algorithm", "r2d2"], SPEC, ["one discrete action", "float32"]),
        (["env", "--describe", "--env", "CratPole-v1"], SPEC, ["CratPole-v1"]),
        (["env", "--describe", "--env", "seedbed/Nothing-v0"], SPEC, ["seedbed/Nothing-v0"]),
        pytest.param(
            ["train", "--env", "FrozenLake-v1", "--env-kwargs", '{"map": 3}'],
            SPEC,
            ["FrozenLake-v1", "'map'"],
            marks=pytest.mark.slow,
        ),
        pytest.param(
            ["train", "--env", "FrozenLake-v1", "--env-kwargs", "{map: 3}"],
            USAGE,
            ["--env-kwargs", "JSON"],
            marks=pytest.mark.slow,
        ),
        (["check", "MountainCar-v9"], SPEC, ["MountainCar-v0"]),
        ([*TRAIN, "--host", "0.0.0.0"], USAGE, ["--insecure", "0.0.0.0"]),
        ([*TRAIN, "--device", "cuda"], USAGE, ["cuda"]),
        ([*TRAIN, "--learning-rat", "0.1"], USAGE, ["--learning-rat"]),
        ([*TRAIN, "--batch-size", "many"], USAGE, ["--batch-size", "many"]),
        ([*TRAIN, "--batch-size", "0"], USAGE, ["--batch-size"]),
        (["train", "--preset", "pnog"], USAGE, ["pnog", "pong"]),
        (["tarin"], USAGE, ["tarin"]),
        pytest.param(["eval", "--checkpoint", "/nowhere"], SPEC, ["/nowhere"], marks=pytest.mark.slow),
        (["plot", "/nowhere"], SPEC, ["/nowhere"]),
        (["env", "--server", "127.0.0.1:1", "--env", "seedbed/Echo-v0", "--num-envs", "0"], USAGE, ["--num-envs"]),
        (["env", "--server", "127.0.0.1:1", "--give-up-after-s", "1"], UNAVAILABLE, ["gave up"]),
    ],
)
def test_one_line_and_an_exit_code(options: list[str], code: int, words: list[str], tmp_path: Path) -> None:
    where = ["--run-dir", str(tmp_path / "run")] if options[0] == "train" else []
    run(*options, *where).assert_error(code, *words)
    assert list(tmp_path.iterdir()) == [], "a start that failed left something behind"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Program]:
    """A server of CartPole that waits for clients."""
    run_dir = tmp_path_factory.mktemp("server")
    with Program("server", "--preset", "cartpole", *FAST, "--run-dir", run_dir) as program:
        assert program.address
        yield program


def test_a_port_in_use(server: Program, tmp_path: Path) -> None:
    port = server.address.rpartition(":")[2]
    run(*TRAIN, "--port", port, "--run-dir", tmp_path, prelude=IMPATIENT).assert_error(PORT_IN_USE, port)


@pytest.mark.slow
def test_a_port_that_another_program_has(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = str(other.getsockname()[1])
        run(*TRAIN, "--port", port, "--run-dir", tmp_path, prelude=IMPATIENT).assert_error(PORT_IN_USE, port)


def test_another_environment_than_the_server_serves(server: Program) -> None:
    """Both are printed, and the server does not mind."""
    client = run("env", "--server", server.address, "--env", "seedbed/Catch-v0")
    client.assert_error(SPEC, "CartPole-v1", "seedbed/Catch-v0")
    assert server.process.poll() is None


@pytest.mark.slow
def test_something_else_than_a_server() -> None:
    """A client that reaches a program which is no policy server says so, sooner or later."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        address = f"127.0.0.1:{other.getsockname()[1]}"
        client = run("env", "--server", address, "--env", "seedbed/Echo-v0", "--give-up-after-s", 1)
        client.assert_error(UNAVAILABLE, "gave up")


def test_a_server_that_is_not_there_yet() -> None:
    """No error at all: the client waits."""
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{nobody.getsockname()[1]}"
        with Program("env", "--server", address, "--env", "seedbed/Echo-v0") as client:
            eventually(lambda: "next attempt" in client.stderr, "an attempt")
            assert client.process.poll() is None


@pytest.mark.parametrize(
    ("module", "extra", "options"),
    [
        ("torch", "server", [*TRAIN]),
        ("ale_py", "atari", ["env", "--describe", "--env", "ALE/Pong-v5"]),
        ("gymnasium", "env", ["env", "--describe", "--env", "CartPole-v1"]),
        ("ale_py", "atari", ["train", "--env", "ALE/Pong-v5"]),
    ],
)
def test_a_missing_extra(module: str, extra: str, options: list[str], tmp_path: Path) -> None:
    """In the process itself, or in the client that it starts."""
    (tmp_path / "sitecustomize.py").write_text(
        "import sys\n"
        "class Blocker:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        f"        if name.partition('.')[0] == {module!r}:\n"
        f"            raise ModuleNotFoundError('No module named ' + repr(name), name=name)\n"
        "sys.meta_path.insert(0, Blocker())\n"
    )
    where = ["--run-dir", str(tmp_path / "run")] if options[0] == "train" else []
    done = run(*options, *where, environment={"PYTHONPATH": str(tmp_path)})
    done.assert_error(MISSING_EXTRA, install_command(extra), module)


def test_resuming_with_other_options(finished_run: Path) -> None:
    """What differs is said; the run is as it was."""
    before = (finished_run / "config.json").read_bytes()
    resumed = run("train", "--run-dir", finished_run, "--max-steps", 10**6, "--unroll-length", 7)
    resumed.assert_error(SPEC, "unroll_length", "7 now")
    assert (finished_run / "config.json").read_bytes() == before


@pytest.mark.slow
def test_a_run_that_must_not_be_resumed(finished_run: Path) -> None:
    run("train", "--run-dir", finished_run, "--resume", "never").assert_error(SPEC, "--resume never")
