"""Fleets: options, what travels with a client, and the loop that starts clients again, on a Ray that is made up."""

from __future__ import annotations

import importlib
import importlib.util
import signal
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from seedbed.common.credentials import ClientCredentials
from seedbed.common.errors import (
    AuthError,
    BrokenError,
    ConfigError,
    SeedbedError,
    SpecError,
    UnavailableError,
    UsageError,
)
from seedbed.common.stop_signals import STOP_SIGNALS
from seedbed.env_client import __main__ as client_main
from seedbed.env_client.config import EnvConfig
from seedbed.env_client.fleets import __main__ as fleet_main
from seedbed.env_client.fleets.carried import Outcome, read_files, run_client
from seedbed.env_client.fleets.options import FleetOptions

HAS_RAY = importlib.util.find_spec("ray") is not None
TOKEN = "0123456789abcdef"


def test_environments_are_dealt_out() -> None:
    clients = FleetOptions(ray="auto", server="h:1,h:2", num_envs=40, envs_per_client=16).clients("fleet")
    assert [(client.client_id, client.num_envs) for client in clients] == [
        ("fleet-0", 16),
        ("fleet-1", 16),
        ("fleet-2", 8),
    ]
    assert {client.server for client in clients} == {"h:1,h:2"}


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ([], "--ray ADDRESS is missing"),
        (["--ray", "auto"], "--server HOST:PORT"),
        (["--ray", "auto", "--server", "h:1,"], "empty part"),
        (["--ray", "auto", "--server", "h:1", "--render", "human"], "--render"),
        (["--ray", "auto", "--server", "h:1", "--env-kwargs", "{}", "--grey"], "needs --env"),
    ],
)
def test_what_makes_no_sense_is_refused_before_ray_is_loaded(options: list[str], words: str) -> None:
    with pytest.raises(UsageError) as caught:
        fleet_main.main(options)
    assert words in str(caught.value)


def test_a_token_is_not_sent_unencrypted(tmp_path: Path) -> None:
    (tmp_path / "token").write_text(TOKEN)
    options = ["--ray", "auto", "--token-file", str(tmp_path / "token")]
    with pytest.raises(UsageError, match="expected TLS"):
        fleet_main.main([*options, "--server", "far.example:1"])
    with pytest.raises(AuthError, match="none"):
        fleet_main.main([*options[:3], str(tmp_path / "none"), "--server", "127.0.0.1:1"])


def test_files_of_credentials_travel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The client finds them under other paths, which nobody else may read and which go with it."""
    (tmp_path / "token").write_text(f"{TOKEN}\n")
    credentials = ClientCredentials(token_file=tmp_path / "token", insecure=True)
    files = read_files(credentials)
    (tmp_path / "token").unlink()
    seen: list[Path] = []

    def main(argv: list[str]) -> int:
        [path] = [Path(word.partition("=")[2]) for word in argv if word.startswith("--token-file")]
        assert path.read_text() == TOKEN
        assert path.stat().st_mode & 0o077 == 0
        seen.append(path)
        return 0

    monkeypatch.setattr(client_main, "main", main)
    assert run_client(EnvConfig(server="h:1", credentials=credentials), files) == Outcome()
    assert not seen[0].exists()
    monkeypatch.setenv("SEEDBED_TOKEN", TOKEN)
    assert read_files(ClientCredentials()) == {"token_file": TOKEN.encode()}


def test_a_client_in_somebody_elses_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Errors come as words, signals are given back, and being told to stop is no error."""
    before = {number: signal.getsignal(number) for number in STOP_SIGNALS}
    refused = run_client(EnvConfig(server="127.0.0.1:1,"), {})
    assert (refused.exit_code, refused.error) == (2, "UsageError")
    assert isinstance(refused.raised, UsageError)

    def stop(_: list[str]) -> int:
        signal.signal(signal.SIGTERM, lambda *_: None)
        sys.exit(0)

    monkeypatch.setattr(client_main, "main", stop)
    assert run_client(EnvConfig(server="127.0.0.1:1"), {}) == Outcome()
    assert {number: signal.getsignal(number) for number in STOP_SIGNALS} == before


class FakeRay(ModuleType):
    """Tasks end at once with what `ends` says of them, by client and attempt; None: they do not end."""

    def __init__(self, ends: Callable[[str, int], Any]) -> None:
        super().__init__("ray")
        exceptions: Any = ModuleType("ray.exceptions")
        exceptions.RayError = type("RayError", (Exception,), {})
        exceptions.RaySystemError = type("RaySystemError", (exceptions.RayError,), {})
        exceptions.RayTaskError = type("RayTaskError", (exceptions.RayError,), {"cause": None})
        self.exceptions = exceptions
        self.ends = ends
        self.started: list[str] = []
        self.cancelled: list[str] = []
        self.options: Mapping[str, Any] = {}

    def init(self, address: str, **_: Any) -> None:
        if address == "nowhere:1":
            raise ConnectionError("could not\nconnect")

    def shutdown(self) -> None:
        pass

    def put(self, value: Any) -> Any:
        return value

    def cluster_resources(self) -> dict[str, float]:
        return {"CPU": 2.0}

    def nodes(self) -> list[dict[str, bool]]:
        return [{"Alive": True}, {"Alive": False}]

    def remote(self, _: Any) -> Any:
        def start(config: EnvConfig, files: Mapping[str, bytes]) -> Any:
            assert config.client_id is not None
            self.started.append(config.client_id)
            return (config.client_id, self.started.count(config.client_id))

        def options(**given: Any) -> Any:
            self.options = given
            return SimpleNamespace(remote=start)

        return SimpleNamespace(options=options)

    def wait(self, references: list[Any], **_: Any) -> tuple[list[Any], list[Any]]:
        ended = [reference for reference in references if self.ends(*reference) is not None]
        return ended, [reference for reference in references if reference not in ended]

    def get(self, reference: Any) -> Any:
        end = self.ends(*reference)
        if isinstance(end, Exception):
            raise end
        return end

    def cancel(self, reference: Any, **_: Any) -> None:
        self.cancelled.append(reference[0])


@pytest.fixture
def fleet(monkeypatch: pytest.MonkeyPatch) -> Callable[..., FakeRay]:
    """Runs a fleet of two clients to its end."""

    def run(
        ends: Callable[[str, int], Any], stopping: Callable[[], bool] = lambda: False, address: str = "a:1"
    ) -> FakeRay:
        ray = FakeRay(ends)
        if not HAS_RAY:
            monkeypatch.setitem(sys.modules, "ray", ray)
            monkeypatch.setitem(sys.modules, "ray.exceptions", ray.exceptions)
        on_ray = importlib.import_module("seedbed.env_client.fleets.on_ray")
        clock = SimpleNamespace(monotonic=iter(range(10**6)).__next__, sleep=lambda _: None)
        for name, value in (("ray", ray), ("_POLL_S", 0.0), ("time", clock)):
            monkeypatch.setattr(on_ray, name, value)
        clients = FleetOptions(ray=address, server="h:1", num_envs=8, envs_per_client=4).clients("c")
        with on_ray.RayFleet(address, clients, {}, 2.0) as fleet:
            fleet.run(stopping)
        return ray

    return run


def test_a_fleet_ends_with_its_clients(fleet: Callable[..., FakeRay], caplog: pytest.LogCaptureFixture) -> None:
    ray = fleet(lambda name, attempt: Outcome())
    assert ray.started == ["c-0", "c-1"]
    assert ray.options["max_retries"] == -1
    assert ray.options["num_cpus"] == 2.0
    assert "2 clients on 1 node with 2 cores: they need 4" in caplog.text


def test_a_client_that_broke_is_started_again_but_not_for_ever(fleet: Callable[..., FakeRay]) -> None:
    broken = Outcome(75, "BrokenError", "an environment broke")
    ray = fleet(lambda name, attempt: broken if name == "c-1" and attempt < 3 else Outcome())
    assert ray.started == ["c-0", "c-1", "c-1", "c-1"]
    with pytest.raises(BrokenError, match=r"c-1 ended 10 times within 10 minutes, at last with: an environment broke"):
        fleet(lambda name, attempt: broken if name == "c-1" else None)


def test_a_task_that_ray_gave_up_is_started_again(fleet: Callable[..., FakeRay]) -> None:
    def ends(name: str, attempt: int) -> Any:
        errors = importlib.import_module("seedbed.env_client.fleets.on_ray").ray.exceptions
        return errors.RayError("the worker\ndied") if (name, attempt) == ("c-0", 1) else Outcome()

    assert fleet(ends).started == ["c-0", "c-1", "c-0"]


def test_what_another_start_would_not_mend_ends_the_fleet(fleet: Callable[..., FakeRay]) -> None:
    refused = Outcome(78, "SpecError", "another environment")
    with pytest.raises(SpecError, match="another environment"):
        fleet(lambda name, attempt: refused if name == "c-0" else None)


def test_nodes_without_seedbed_are_told(fleet: Callable[..., FakeRay]) -> None:
    def ends(name: str, attempt: int) -> Exception:
        error: Any = importlib.import_module("seedbed.env_client.fleets.on_ray").ray.exceptions.RayTaskError("failed")
        error.cause = ModuleNotFoundError("No module named 'seedbed'")
        return error

    with pytest.raises(ConfigError, match=r"every node of the cluster to have this version of seedbed: .*seedbed"):
        fleet(ends)


def test_stopping_cancels_all_clients(fleet: Callable[..., FakeRay]) -> None:
    asked = iter(range(100))
    ray = fleet(lambda name, attempt: None, stopping=lambda: next(asked) > 3)
    assert ray.cancelled == ["c-0", "c-1"]


def test_no_cluster_there(fleet: Callable[..., FakeRay]) -> None:
    with pytest.raises(UnavailableError, match="expected a Ray cluster at --ray nowhere:1: could not connect"):
        fleet(lambda name, attempt: None, address="nowhere:1")


def test_without_ray_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    from seedbed.common.cli import naming_extras

    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.delitem(sys.modules, "seedbed.env_client.fleets.on_ray", raising=False)
    with pytest.raises(SeedbedError, match=r'the extra "ray"'), naming_extras():
        fleet_main.main(["--ray", "auto", "--server", "127.0.0.1:1"])
