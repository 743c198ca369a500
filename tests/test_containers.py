"""Dockerfile and compose files say what docs/containers.md promises, and their commands are ones that seedbed takes."""

from __future__ import annotations

import json
import re
import shlex
import socket
import subprocess
import sys
import threading
import tomllib
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytest

from seedbed.common.options import parse
from seedbed.common.specs import ArraySpec, EnvironmentSpec, discrete
from seedbed.env_client.config import EnvConfig
from seedbed.server.monitoring.prometheus import METRICS
from seedbed.server.options.config import ServerConfig
from seedbed.server.training.command_line import read_command_line
from seedbed.server.training.resolve import resolve

yaml = pytest.importorskip("yaml", reason="PyYAML, of the extra `dev`, is not installed")

ROOT = Path(__file__).resolve().parent.parent
FILES = ("docker-compose.yml", "docker-compose.gpu.yml")
STAGES = ("env", "server")
MONITORING = ROOT / "deploy" / "monitoring"
REQUIREMENTS = ROOT / "deploy" / "requirements"


def compose(name: str = FILES[0]) -> dict[str, Any]:
    """A compose file with the defaults of all its variables, and without the one tag that Compose adds to YAML."""
    text = re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", (ROOT / name).read_text()).replace("!override ", "")
    loaded: dict[str, Any] = yaml.safe_load(text)
    return loaded


def instructions() -> list[tuple[str, str, str]]:
    """(stage, instruction, arguments) of the Dockerfile, continued lines joined."""
    lines = [line for line in (ROOT / "Dockerfile").read_text().splitlines() if not line.lstrip().startswith("#")]
    found, stage = [], ""
    for line in re.sub(r"\\\n", " ", "\n".join(lines)).splitlines():
        name, _, arguments = line.strip().partition(" ")
        if name == "FROM":
            stage = arguments.split()[-1]
        if name:
            found.append((stage, name, arguments.strip()))
    return found


def last(stage: str, name: str) -> str:
    """The instruction that counts."""
    return [arguments for where, what, arguments in instructions() if (where, what) == (stage, name)][-1]


def services(name: str = FILES[0]) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = compose(name)["services"]
    return found


SPEC = EnvironmentSpec(
    environment="ALE/Pong-v5",
    preset="paper",
    frames_per_step=4,
    observations=(ArraySpec(name="observation", dtype="uint8", shape=(84, 84), low=(0,), high=(255,)),),
    actions=(discrete("action", 6),),
)


def server_config(command: str, prog: str = "seedbed server") -> ServerConfig:
    """What a command means to the server that gets it."""
    return resolve(read_command_line(shlex.split(command), prog=prog), SPEC)


def env_config(command: str) -> EnvConfig:
    config = parse(EnvConfig(), shlex.split(command), prog="seedbed env")
    config.validate()
    return config


@pytest.mark.parametrize("stage", STAGES)
def test_signals_reach_the_program(stage: str) -> None:
    """A shell in between would be process 1 and keep SIGTERM to itself."""
    assert json.loads(last(stage, "ENTRYPOINT")) == ["seedbed", stage]
    assert last(stage, "STOPSIGNAL") == "SIGTERM"


@pytest.mark.parametrize("stage", STAGES)
def test_images_do_not_run_as_root(stage: str) -> None:
    assert last(stage, "USER") == "10001:10001"
    assert "--uid 10001" in last("base", "RUN")


def test_env_image_has_no_torch_and_takes_nothing_from_the_server() -> None:
    for stage, _, arguments in instructions():
        if stage in ("env", "env-packages"):
            assert "torch" not in arguments
            assert "server" not in arguments


def hashed(name: str) -> dict[str, tuple[str, int]]:
    """Package -> its version and how many hashes there are of it, of a file in deploy/requirements."""
    found = {}
    for entry in (REQUIREMENTS / f"{name}.txt").read_text().replace("\\\n", " ").splitlines():
        requirement, *hashes = entry.split()
        package, _, version = requirement.partition("==")
        assert all(re.fullmatch(r"--hash=sha256:[0-9a-f]{64}", text) for text in hashes)
        found[package] = version, len(hashes)
    return found


def test_what_is_installed_is_checked_against_hashes() -> None:
    """But torch's build for CPUs, which has an index of its own."""
    installs = [
        text for _, name, text in instructions() if name == "RUN" and re.search(r"pip .*install|pip wheel", text)
    ]
    assert len(installs) == 7
    for text in installs:
        assert "--require-hashes" in text or "--no-index" in text
        assert "--no-deps" in text or "build.txt" in text
    named = {match for text in installs for match in re.findall(r"/requirements/(\w+)\.txt", text)}
    assert named == {path.stem for path in REQUIREMENTS.iterdir()} == {"build", "env", "server", "cuda"}
    for name in named:
        assert all(count > 0 for _, count in hashed(name).values())


def test_versions_are_those_of_the_constraints() -> None:
    """Then `make hashes` has been run. The CUDA libraries are those that torch demands."""
    lines = [line.partition("==") for line in (ROOT / "constraints.txt").read_text().splitlines() if "==" in line]
    pinned = {re.sub(r"[-_.]+", "-", name).lower(): version for name, _, version in lines}
    for name in ("build", "env", "server", "cuda"):
        for package, (version, _) in hashed(name).items():
            if not re.match(r"nvidia-|cuda-|triton", package):
                assert version == pinned[package], package
    assert "torch" in hashed("cuda")
    assert not {"torch", "triton"} & set(hashed("server"))
    assert re.findall(r"torch==\d", (ROOT / "Dockerfile").read_text()) == []


@pytest.mark.parametrize(("name", "extras"), [("env", ["atari"]), ("server", ["atari", "server", "dashboard"])])
def test_everything_that_is_needed_is_there(name: str, extras: list[str]) -> None:
    """pip is told to install nothing else."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    needed = [*project["dependencies"], *(text for extra in extras for text in project["optional-dependencies"][extra])]
    packages = {re.split(r"[^\w.-]", text)[0].lower() for text in needed} - {"seedbed"}
    assert packages <= set(hashed(name)) | {"torch"}


def test_dockerfile_builds_with_the_builtin_frontend() -> None:
    """No other frontend and no digest: both need a registry, which a machine behind a mirror may not reach. Whoever
    wants one image for good says so.
    """
    text = (ROOT / "Dockerfile").read_text()
    assert not re.search(r"^#\s*syntax\s*=", text, re.MULTILINE)
    bases = {text.split()[0] for _, name, text in instructions() if name == "FROM"} - {s for s, _, _ in instructions()}
    assert bases == {"$PYTHON"}
    assert re.search(r"^ARG PYTHON=python:3\.11-slim-bookworm\nFROM", text, re.MULTILINE)


def test_all_that_is_copied_is_sent_to_the_engine_and_nothing_else() -> None:
    ignore = (ROOT / ".dockerignore").read_text().splitlines()
    assert "*" in ignore
    sent = {line[1:] for line in ignore if line.startswith("!")}
    copied = {
        source
        for _, name, text in instructions()
        if name == "COPY" and "--from" not in text
        for source in [part for part in text.split() if not part.startswith("--")][:-1]
    }
    assert copied == sent
    assert all((ROOT / source).exists() for source in copied)
    assert not any(fnmatch(source, "*secret*") for source in sent)


def test_all_packages_are_copied() -> None:
    folders = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-dir"].values()
    copied = {text.split()[0] for stage, name, text in instructions() if (stage, name) == ("wheel", "COPY")}
    assert set(folders) <= copied


@pytest.mark.parametrize("name", services())
def test_every_service_is_confined(name: str) -> None:
    service = services()[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert "no-new-privileges:true" in service["security_opt"]
    assert not str(service["user"]).startswith(("0", "root"))
    assert not {"privileged", "cap_add", "network_mode", "pid", "ipc"} & set(service)
    limits = service["deploy"]["resources"]["limits"]
    assert {"memory", "pids"} <= set(limits)
    assert {"max-size", "max-file"} <= set(service["logging"]["options"])
    assert service["restart"].startswith("on-failure:"), "a run that has finished must stay finished"


@pytest.mark.parametrize("file", FILES)
def test_ports_are_published_on_loopback_only(file: str) -> None:
    for service in services(file).values():
        for port in service.get("ports", []):
            assert port.startswith("127.0.0.1:")


def test_without_credentials_only_this_machine_reaches_the_server() -> None:
    """What --insecure relies on: clients are in a network of their own, which leads nowhere."""
    found, networks = services(), compose()["networks"]
    assert "--insecure" in found["server"]["command"].split()
    assert networks["fleet"] == {"internal": True}
    assert found["env"]["networks"] == ["fleet"]
    others = [name for name, service in found.items() if "fleet" in service["networks"]]
    assert set(others) <= {"server", "env", "prometheus"}


def test_other_machines_need_a_token_and_see_a_certificate() -> None:
    found = compose("docker-compose.remote.yml")
    server, env = found["services"]["server"], found["services"]["env"]
    credentials, client = server_config(server["command"]).serving.credentials, env_config(env["command"]).credentials
    assert not credentials.insecure
    assert not client.insecure
    wanted = (credentials.token_file, credentials.tls_cert, credentials.tls_key)
    assert {str(path) for path in wanted} == {f"/run/secrets/{name}" for name in server["secrets"]}
    assert {str(path) for path in (client.token_file, client.tls_ca)} == {f"/run/secrets/{x}" for x in env["secrets"]}
    assert {*server["secrets"], *env["secrets"]} == set(found["secrets"])
    assert "tls_key" not in env["secrets"]
    assert (ROOT / ".gitignore").read_text().splitlines().count("secrets/") == 1


def test_overrides_change_nothing_else_of_a_command() -> None:
    """Compose replaces commands as a whole: what they have in common stands in both files."""
    base, remote = (services(name)["server"]["command"].split() for name in (FILES[0], "docker-compose.remote.yml"))
    credentials = {"--token-file", "--tls-cert", "--tls-key"}
    rest = [word for word in remote if word not in credentials and not word.startswith("/run/secrets/")]
    assert rest == [word for word in base if word != "--insecure"]


def test_env_can_be_scaled() -> None:
    service = services()["env"]
    assert not {"container_name", "hostname", "ports", "healthcheck"} & set(service)
    assert service["depends_on"] == {"server": {"condition": "service_healthy"}}
    assert "replicas" not in service["deploy"]


def test_replicas_name_neither_their_indices_nor_themselves() -> None:
    config = env_config(services()["env"]["command"])
    assert (config.first_index, config.client_id, config.num_envs) == (None, None, 1)
    assert config.server == "server:7777"


def test_server_weighs_more_than_a_fleet_and_has_time_to_save() -> None:
    server, env = services()["server"], services()["env"]
    assert server["cpu_shares"] > env["cpu_shares"]
    assert server_config(server["command"]).serving.settle_s > 0
    assert int(server["stop_grace_period"].removesuffix("s")) >= 30
    assert server["volumes"] == ["runs:/runs"]


def test_default_job_has_room_for_what_the_readme_promises() -> None:
    config = server_config(services()["server"]["command"])
    assert config.environment.env == "ALE/Pong-v5"
    assert config.fleet.num_envs >= 256
    assert config.num_slots >= 2 * 256
    assert config.serving.host == "0.0.0.0"
    assert str(config.run.run_dir) == "/runs/pong"
    assert f":{config.serving.port}" in services()["server"]["ports"][0]


def test_gpu_server_reserves_a_gpu_and_has_the_cuda_build() -> None:
    (server,) = services("docker-compose.gpu.yml").values()
    (device,) = server["deploy"]["resources"]["reservations"]["devices"]
    assert device["capabilities"] == ["gpu"]
    assert server["build"]["args"] == {"TORCH": "cuda"}
    assert server["image"] != services()["server"]["image"]
    assert any("cuda) pip" in text for stage, _, text in instructions() if stage == "server-packages")


@pytest.fixture
def answering() -> Iterator[Callable[[bytes], int]]:
    """Starts something on a port that gives one answer, whatever it is asked."""
    with ExitStack() as stack:

        def start(answer: bytes) -> int:
            listening = stack.enter_context(socket.create_server(("127.0.0.1", 0)))

            def serve() -> None:
                connection, _ = listening.accept()
                with connection:
                    assert connection.recv(4096).startswith(b"GET /readyz HTTP/1.")
                    connection.sendall(answer)

            thread = threading.Thread(target=serve)
            thread.start()
            stack.callback(thread.join)
            return int(listening.getsockname()[1])

        yield start


def probe(port: int) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-IS", str(ROOT / "deploy/probe.py"), str(port)]
    return subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (b"HTTP/1.1 200 OK\r\n\r\n", 0),
        (b"HTTP/1.1 503 Service Unavailable\r\n\r\ndraining", 1),
        (b"", 1),
        (b"\xff\xff", 1),
    ],
)
def test_probe_passes_on_what_the_server_says(answering: Callable[[bytes], int], answer: bytes, code: int) -> None:
    done = probe(answering(answer))
    assert done.returncode == code
    assert "Traceback" not in done.stderr
    assert ("draining" in done.stderr) == (b"draining" in answer)


def test_probe_fails_where_nobody_listens() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
    done = probe(port)
    assert done.returncode == 1
    assert f"expected a server on port {port}" in done.stderr
    assert "Traceback" not in done.stderr


def test_health_checks_call_the_probe() -> None:
    (check,) = [service["healthcheck"] for service in services().values() if "healthcheck" in service]
    assert check["test"] == ["CMD", "seedbed-probe", "9090"]
    assert server_config(services()["server"]["command"]).monitoring.http_port == 9090
    assert "start_interval" not in check, "engines older than 25 refuse it"
    copied = [text for stage, name, text in instructions() if (stage, name) == ("server", "COPY")]
    assert "--chmod=755 deploy/probe.py /usr/local/bin/seedbed-probe" in copied
    assert (ROOT / "deploy/probe.py").read_text().startswith("#!/usr/local/bin/python -IS\n")


def test_prometheus_asks_where_the_server_answers() -> None:
    (job,) = yaml.safe_load((MONITORING / "prometheus.yaml").read_text())["scrape_configs"]
    config = server_config(services()["server"]["command"]).monitoring
    assert job["static_configs"] == [{"targets": [f"server:{config.http_port}"]}]
    assert config.http_host == "0.0.0.0"
    assert "fleet" in services()["prometheus"]["networks"]


def test_dashboard_shows_metrics_that_exist() -> None:
    """Of kinds that fit: rates of counters and histograms, values of gauges."""
    dashboard = json.loads((MONITORING / "grafana/dashboards/seedbed.json").read_text())
    (source,) = yaml.safe_load((MONITORING / "grafana/provisioning/datasources/prometheus.yaml").read_text())[
        "datasources"
    ]
    kinds = {entry.name: entry.kind for entry in METRICS}
    expressions = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    assert {panel["datasource"]["uid"] for panel in dashboard["panels"]} == {source["uid"]}
    assert len(expressions) > 15
    for expression in expressions:
        for name in re.findall(r"seedbed_[a-z_]+", expression):
            bare = re.sub(r"_(bucket|sum|count)$", "", name)
            assert bare in kinds, expression
            assert (kinds[bare] == "histogram") == (bare != name), expression
            assert (kinds[bare] == "gauge") == (f"{name}[" not in expression), expression


def test_mounted_files_exist() -> None:
    for service in services().values():
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            assert (ROOT / source).exists() if source.startswith(".") else source in compose()["volumes"]
