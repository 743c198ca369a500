"""Local clients: which are started again, when, and which end the run. The processes are make-believe."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from seedbed.common.credentials import ServerCredentials
from seedbed.common.environment_options import CareOptions, EnvironmentOptions
from seedbed.common.errors import BrokenError, MissingExtraError, SpecError, UsageError
from seedbed.common.plugins import Trust
from seedbed.server.options.config import ServerConfig
from seedbed.server.options.run import FleetConfig
from seedbed.server.options.tasks import TasksConfig
from seedbed.server.training import describing, local_clients
from seedbed.server.training.describing import describe_environment
from seedbed.server.training.local_clients import LocalClients, credential_options
from tests.pki import Authority


class Process:
    """Lives until it is told how it ended."""

    stdin = None

    def __init__(self, command: list[str], **_: Any) -> None:
        self.command = command
        self.name = command[command.index("--client-id") + 1]
        self.code: int | None = None

    def poll(self) -> int | None:
        return self.code

    def terminate(self) -> None:
        self.code = 0 if self.code is None else self.code

    def wait(self, timeout: float) -> int:
        assert self.code is not None
        return self.code


class Scene:
    """Two clients with three and two environments.

    Attributes:
        started: all processes, in order.
        now_s: what the clock says.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.started: list[Process] = []
        self.now_s = 1000.0
        monkeypatch.setattr(subprocess, "Popen", self._spawn)
        monkeypatch.setattr(local_clients.time, "monotonic", lambda: self.now_s)
        config = ServerConfig(fleet=FleetConfig(num_envs=5, num_clients=2), environment=EnvironmentOptions(env="x"))
        self.clients = LocalClients(config, "127.0.0.1:1")
        self.clients.start()

    def die(self, code: int) -> None:
        """The newest process of client local-0 ends."""
        newest = [process for process in self.started if process.name.startswith("local-0-")][-1]
        newest.code = code
        self.clients.check()

    def restarts_after_s(self) -> float:
        """How long it takes until the next process starts."""
        before, began_s = len(self.started), self.now_s
        while len(self.started) == before:
            self.clients.check()
            if len(self.started) == before:
                self.now_s += 0.25
                assert self.now_s < began_s + 100
        return self.now_s - began_s

    def _spawn(self, command: list[str], **options: Any) -> Process:
        self.started.append(Process(command, **options))
        return self.started[-1]


@pytest.fixture
def scene(monkeypatch: pytest.MonkeyPatch) -> Scene:
    return Scene(monkeypatch)


def test_environments_are_shared_out(scene: Scene) -> None:
    for command, (count, first) in zip((process.command for process in scene.started), ((3, 0), (2, 3)), strict=True):
        assert command[command.index("--num-envs") + 1] == str(count)
        assert command[command.index("--first-index") + 1] == str(first)


def test_nobody_can_guess_their_names_and_take_their_places(scene: Scene) -> None:
    """One that is sent away comes back under the same name and is known again; another start has others."""
    first = scene.started[0].name
    assert scene.clients.names == {process.name for process in scene.started}
    assert scene.clients.indices == set(range(5))
    scene.die(76)
    scene.restarts_after_s() if len(scene.started) < 3 else None
    assert scene.started[-1].name == first
    others = {process.name for process in scene.started}
    LocalClients(ServerConfig(environment=EnvironmentOptions(env="x")), "127.0.0.1:1").start()
    assert others.isdisjoint(process.name for process in scene.started[3:])
    assert all(re.fullmatch(r"local-\d+-[0-9a-f]{8}", process.name) for process in scene.started)


def test_how_much_environments_are_trusted_is_passed_on(monkeypatch: pytest.MonkeyPatch, scene: Scene) -> None:
    plain = scene.started[0].command
    assert {"--env=x", "--no-isolate", "--step-timeout-s=30.0", "--reset-timeout-s=120.0"} < set(plain)
    config = ServerConfig(
        fleet=FleetConfig(num_envs=1),
        care=CareOptions(isolate=True, step_timeout_s=2.5),
        environment=EnvironmentOptions(env="x"),
    )
    LocalClients(config, "127.0.0.1:1").start()
    assert {"--isolate", "--step-timeout-s=2.5"} < set(scene.started[-1].command)


def test_what_they_may_import_is_decided_here_and_said_to_them(scene: Scene, tmp_path: Path) -> None:
    """A client takes the --env on its command line for typed; and it looks into no working directory."""
    assert scene.started[0].command[1:4] == ["-P", "-m", "seedbed.env_client"]
    assert "--no-allow-import" in scene.started[0].command
    config = ServerConfig(fleet=FleetConfig(num_envs=1), environment=EnvironmentOptions(env="my_pkg:make"))
    trust = Trust(typed=frozenset({"my_pkg:make"}), start_directory=tmp_path)
    LocalClients(config, "127.0.0.1:1", trust=trust).start()
    assert {"--allow-import", f"--import-from={tmp_path}"} < set(scene.started[-1].command)
    for stranger in (Trust(), Trust(typed=frozenset({"my_pkg:other"}))):
        with pytest.raises(UsageError, match="would import a module"):
            LocalClients(config, "127.0.0.1:1", trust=stranger)
        with pytest.raises(UsageError, match="would import a module"):
            describe_environment(config.environment, stranger)


def test_all_that_was_asked_of_an_environment_reaches_them(scene: Scene) -> None:
    environment = EnvironmentOptions(
        env="x", env_kwargs='{"a": "b c"}', image_size="8x9", grey=True, max_episode_steps=7
    )
    config = ServerConfig(fleet=FleetConfig(num_envs=1), environment=environment)
    LocalClients(config, "127.0.0.1:1").start()
    said = {'--env-kwargs={"a":"b c"}', "--image-size=8x9", "--grey", "--max-episode-steps=7"}
    assert said < set(scene.started[-1].command)


def test_a_large_image_is_remarked_upon_once(caplog: pytest.LogCaptureFixture) -> None:
    env = EnvironmentOptions(env="seedbed/Synthetic-v0", env_kwargs='{"shape": "240x320x3"}')
    spec = describe_environment(env)
    assert spec.environment == "seedbed/Synthetic-v0,shape=240x320x3"
    assert "costs 230,400 bytes a step" in caplog.text
    assert "--image-size 84x112 and --grey" in caplog.text


@pytest.mark.parametrize("yielding", [False, True])
def test_clients_yield_to_the_server_only_where_asked_to(monkeypatch: pytest.MonkeyPatch, yielding: bool) -> None:
    started, popen = [], subprocess.Popen

    def sleep(command: list[str], **options: Any) -> subprocess.Popen[bytes]:
        started.append(popen([sys.executable, "-c", "import time; time.sleep(60)"], **options))
        return started[-1]

    monkeypatch.setattr(subprocess, "Popen", sleep)
    config = ServerConfig(fleet=FleetConfig(num_envs=2, num_clients=2), environment=EnvironmentOptions(env="x"))
    clients = LocalClients(config, "127.0.0.1:1", yielding=yielding)
    clients.start()
    ours = os.getpriority(os.PRIO_PROCESS, 0)
    niceness = [os.getpriority(os.PRIO_PROCESS, client.pid) for client in started]
    clients.stop()
    assert niceness == [min(19, ours + 5) if yielding else ours] * 2


def test_living_clients_are_left_alone(scene: Scene) -> None:
    scene.now_s += 1000
    scene.clients.check()
    assert len(scene.started) == 2


@pytest.mark.parametrize("code", [-9, -11, 1, 75, 0])
def test_one_that_ended_is_started_again_at_once(scene: Scene, code: int) -> None:
    """Whatever its reason: it was asked to stay."""
    scene.die(code)
    assert len(scene.started) == 3
    [first, _, again] = [process.command for process in scene.started]
    assert [word for word in again if "--seed=" not in word] == [word for word in first if "--seed=" not in word]


def test_a_later_start_has_other_seeds(scene: Scene) -> None:
    """With the same ones environments would show the first episodes again, and break where they broke."""
    scene.die(-11)
    scene.die(-11)
    scene.restarts_after_s()
    config = ServerConfig(environment=EnvironmentOptions(env="x", seed=3), fleet=FleetConfig(num_envs=1, num_clients=1))
    for agent_steps in (0, 1000, 2000):
        LocalClients(config, "127.0.0.1:1", agent_steps=agent_steps).start()
    seeds = [word for process in scene.started for word in process.command if word.startswith("--seed=")]
    assert seeds[:2] == ["--seed=0"] * 2
    assert seeds[4] == "--seed=3"
    assert len(set(seeds)) == len(seeds) - 1


def test_one_that_keeps_dying_waits_longer_and_ends_the_run(scene: Scene, caplog: pytest.LogCaptureFixture) -> None:
    scene.die(-11)
    waits_s = []
    for _ in range(5):
        scene.die(-11)
        waits_s.append(scene.restarts_after_s())
    assert waits_s == [1, 2, 4, 8, 16]
    assert "client local-0 was ended by SIGSEGV" in caplog.text
    with pytest.raises(BrokenError, match="client local-0 was ended by SIGSEGV after 6 restarts within 10 minutes"):
        scene.die(-11)


def test_one_that_dies_now_and_then_does_not(scene: Scene) -> None:
    for _ in range(30):
        scene.now_s += 300
        scene.die(-9)
        scene.now_s += 1
        scene.clients.check()
    assert len(scene.started) == 2 + 30


@pytest.mark.parametrize(("code", "error"), [(2, UsageError), (69, MissingExtraError), (78, SpecError)])
def test_what_another_start_would_not_mend_ends_the_run(scene: Scene, code: int, error: type[Exception]) -> None:
    with pytest.raises(error, match=f"client local-0 ended with exit code {code}"):
        scene.die(code)


def test_stopping_leaves_the_dead_alone(scene: Scene) -> None:
    scene.die(-9)
    scene.die(-9)  # waits for its next start now
    scene.clients.stop()
    assert [process.code for process in scene.started] == [-9, 0, -9]


def _module(folder: Path, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes the process that describes an environment run this program instead."""
    (folder / "describing.py").write_text(text)
    monkeypatch.setattr(describing, "MODULE", "describing")
    monkeypatch.setenv("PYTHONPATH", str(folder))


_RUN_MAIN = "from seedbed.common.logs import run_main\nfrom seedbed.common.errors import *\n"


def test_a_process_that_describes_hands_its_error_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = (
        "def main(_):\n    print('noise')\n    raise MissingExtraError('no ale-py')\nraise SystemExit(run_main(main))\n"
    )
    _module(tmp_path, _RUN_MAIN + text, monkeypatch)
    with pytest.raises(MissingExtraError, match=r"^no ale-py$"):
        describe_environment(EnvironmentOptions(env="x"))


def test_one_that_dies_without_a_word_is_named_and_its_last_words_are_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    _module(tmp_path, "import os\nos.write(2, b'Fatal error')\nos.kill(os.getpid(), 11)\n", monkeypatch)
    with pytest.raises(SpecError, match="x: the process that built it was ended by SIGSEGV"):
        describe_environment(EnvironmentOptions(env="x"))
    assert "Fatal error" in capsys.readouterr().err


def test_one_that_hangs_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _module(tmp_path, "import time\ntime.sleep(100)\n", monkeypatch)
    with pytest.raises(SpecError, match=r"x: expected to be built.* within 0\.5 s: --reset-timeout-s gives it longer"):
        describe_environment(EnvironmentOptions(env="x"), care=CareOptions(reset_timeout_s=0.5))


def test_an_environment_may_print_what_it_likes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = (
        "import os, gymnasium\n"
        "class Loud(gymnasium.Env):\n"
        "    observation_space = gymnasium.spaces.Box(0, 1, (3,))\n"
        "    action_space = gymnasium.spaces.Discrete(2)\n"
        "    def __init__(self):\n"
        "        print('hello')\n"
        "        os.write(1, b'from C')\n"
        "    def reset(self, *, seed=None, options=None):\n"
        "        print('hello again')\n"
        "        return self.observation_space.sample(), {}\n"
        "    def step(self, action):\n"
        "        return self.observation_space.sample(), 0.0, False, False, {}\n"
        "gymnasium.register('Loud-v0', Loud)\n"
        "from seedbed.env_client.__main__ import main\n"
        "from seedbed.common.logs import run_main\n"
        "raise SystemExit(run_main(main))\n"
    )
    _module(tmp_path, text, monkeypatch)
    assert describe_environment(EnvironmentOptions(env="Loud-v0")).num_actions == 2


def test_clients_get_the_credentials_they_need(tmp_path: Path) -> None:
    pair = Authority(tmp_path).sign("server", "DNS:*.gpu.example,IP:192.0.2.7")
    tls = ServerCredentials(tls_cert=pair.certificate, tls_key=pair.key)
    assert credential_options(ServerCredentials()) == []
    assert credential_options(ServerCredentials(token_file=Path("token"))) == ["--token-file", "token"]
    assert credential_options(tls) == ["--tls-ca", str(pair.certificate), "--tls-server-name", "any.gpu.example"]
    assert credential_options(ServerCredentials(insecure=True)) == ["--insecure"]
    with pytest.raises(UsageError, match="--tls-client-ca with local clients"):
        credential_options(replace(tls, tls_client_ca=Path("ca.pem")))


def test_clients_of_a_server_that_listens_everywhere_use_loopback() -> None:
    config = ServerConfig(fleet=FleetConfig(num_envs=1))
    assert LocalClients(config, "0.0.0.0:7")._connection == ["--server", "127.0.0.1:7"]


def several(monkeypatch: pytest.MonkeyPatch, scene: Scene) -> None:
    """The scene's clients become those of two tasks, two of each."""
    tasks = TasksConfig(tasks_json=json.dumps(["x", {"env": "y", "kwargs": {"n": 1}}]))
    config = ServerConfig(
        tasks=tasks, fleet=FleetConfig(num_envs=8, num_clients=4), environment=EnvironmentOptions(image_size="8x8")
    )
    scene.started.clear()
    scene.clients = LocalClients(config, "127.0.0.1:1")
    scene.clients.start()


def test_each_client_plays_one_task(monkeypatch: pytest.MonkeyPatch, scene: Scene) -> None:
    several(monkeypatch, scene)
    commands = [process.command for process in scene.started]
    assert ["--env=x" in command for command in commands] == [True, True, False, False]
    assert {"--env=y", '--env-kwargs={"n":1}', "--image-size=8x8"} < set(commands[2])
    assert [command[command.index("--indices") + 1] for command in commands] == ["0,2", "4,6", "1,3", "5,7"]


def test_a_task_that_is_lost_leaves_the_others_and_the_last_one_ends_the_run(
    monkeypatch: pytest.MonkeyPatch, scene: Scene, caplog: pytest.LogCaptureFixture
) -> None:
    several(monkeypatch, scene)
    for process in scene.started[:2]:
        process.code = SpecError.exit_code
        scene.clients.check()
    assert [record.message.rpartition("; ")[2] for record in caplog.records if "given up" in record.message] == [
        "its other clients go on",
        "the other tasks go on",
    ]
    scene.clients.check()
    assert len(scene.started) == 4
    scene.started[2].code = SpecError.exit_code
    scene.clients.check()
    scene.started[3].code = SpecError.exit_code
    with pytest.raises(SpecError):
        scene.clients.check()
