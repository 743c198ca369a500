"""The manifests under deploy/kubernetes: they fit one another, and their commands are ones that seedbed takes.

Checked offline, so not: whether a cluster accepts them. Every field name is checked against a list below.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.reference.kustomize import Manifest, identity, render
from tests.test_containers import env_config, server_config, services

yaml = pytest.importorskip("yaml", reason="PyYAML, of the extra `dev`, is not installed")

FOLDER = Path(__file__).resolve().parent.parent / "deploy" / "kubernetes"
OVERLAYS = ("base", "overlays/gpu", "overlays/tls")

FIELDS = {
    "Namespace": "apiVersion kind metadata name labels",
    "PersistentVolumeClaim": "apiVersion kind metadata name namespace spec accessModes resources requests storage",
    "Service": "apiVersion kind metadata name namespace spec selector app ports port targetPort",
    "PodDisruptionBudget": "apiVersion kind metadata name namespace spec maxUnavailable selector matchLabels app",
    "NetworkPolicy": """
        apiVersion kind metadata name namespace spec podSelector matchLabels app policyTypes ingress from egress to
        ports port protocol namespaceSelector kubernetes.io/metadata.name""",
    "Deployment": """
        apiVersion kind metadata name namespace labels app spec replicas strategy type rollingUpdate maxSurge
        maxUnavailable selector matchLabels template automountServiceAccountToken enableServiceLinks
        terminationGracePeriodSeconds securityContext runAsNonRoot runAsUser runAsGroup fsGroup fsGroupChangePolicy
        seccompProfile tolerations key operator containers image args ports containerPort startupProbe readinessProbe
        livenessProbe httpGet path port periodSeconds timeoutSeconds failureThreshold resources requests limits cpu
        memory nvidia.com/gpu allowPrivilegeEscalation readOnlyRootFilesystem capabilities drop volumeMounts mountPath
        readOnly volumes persistentVolumeClaim claimName emptyDir sizeLimit secret secretName defaultMode""",
}
"""Every field that the manifests of each kind use. Compared once, in their places, with the generated models of the
official Python client, version 36; a name that is not here is misspelt, or new and to be looked up."""


@pytest.fixture(params=OVERLAYS)
def manifests(request: pytest.FixtureRequest) -> list[Manifest]:
    return render(FOLDER / request.param)


def by_name(manifests: list[Manifest], kind: str, name: str) -> Manifest:
    (found,) = [manifest for manifest in manifests if (manifest["kind"], manifest["metadata"]["name"]) == (kind, name)]
    return found


def pod(manifests: list[Manifest], name: str) -> dict[str, Any]:
    spec: dict[str, Any] = by_name(manifests, "Deployment", name)["spec"]["template"]["spec"]
    return spec


def container(manifests: list[Manifest], name: str) -> dict[str, Any]:
    (found,) = pod(manifests, name)["containers"]
    return dict(found)


def keys(value: Any) -> Iterator[str]:
    """All field names at any depth."""
    if isinstance(value, dict):
        for name, inner in value.items():
            yield name
            if name != "labels":
                yield from keys(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from keys(inner)


def test_fields_are_known(manifests: list[Manifest]) -> None:
    for manifest in manifests:
        unknown = set(keys(manifest)) - set(FIELDS[manifest["kind"]].split())
        assert not unknown, identity(manifest)


def test_names_are_unique(manifests: list[Manifest]) -> None:
    names = [identity(manifest) for manifest in manifests]
    assert len(names) == len(set(names)) == 8
    assert {namespace for kind, namespace, _ in names if kind != "Namespace"} == {"seedbed"}


def test_every_file_is_part_of_a_kustomization() -> None:
    named = set()
    for path in FOLDER.rglob("kustomization.yaml"):
        kustomization = yaml.safe_load(path.read_text())
        files = [*kustomization["resources"], *(patch["path"] for patch in kustomization.get("patches", []))]
        named |= {path, *(path.parent / file for file in files if file.endswith(".yaml"))}
    assert {path for path in FOLDER.rglob("*") if path.is_file()} == named


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl, which brings kustomize, is not installed")
@pytest.mark.parametrize("overlay", OVERLAYS)
def test_kustomize_renders_the_same(overlay: str) -> None:
    done = subprocess.run(["kubectl", "kustomize", FOLDER / overlay], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    theirs = {identity(manifest): manifest for manifest in yaml.safe_load_all(done.stdout)}
    assert theirs == {identity(manifest): manifest for manifest in render(FOLDER / overlay)}


@pytest.mark.parametrize("name", ["server", "env"])
def test_pods_fulfil_the_restricted_standard(manifests: list[Manifest], name: str) -> None:
    """https://kubernetes.io/docs/concepts/security/pod-security-standards/, which the namespace enforces."""
    (namespace,) = [manifest for manifest in manifests if manifest["kind"] == "Namespace"]
    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    spec, one = pod(manifests, name), container(manifests, name)
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["runAsUser"] == 10001
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert one["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert spec["automountServiceAccountToken"] is False
    assert not {"hostNetwork", "hostPID", "hostIPC"} & set(spec)
    kinds = {next(iter(set(volume) - {"name"})) for volume in spec["volumes"]}
    assert kinds <= {"emptyDir", "persistentVolumeClaim", "secret"}
    assert {"requests", "limits"} == set(one["resources"])


@pytest.mark.parametrize("name", ["server", "env"])
def test_mounts_are_of_volumes_and_volumes_of_claims(manifests: list[Manifest], name: str) -> None:
    spec, one = pod(manifests, name), container(manifests, name)
    volumes = {volume["name"]: volume for volume in spec["volumes"]}
    assert {mount["name"] for mount in one["volumeMounts"]} == set(volumes)
    for volume in volumes.values():
        if "persistentVolumeClaim" in volume:
            by_name(manifests, "PersistentVolumeClaim", volume["persistentVolumeClaim"]["claimName"])


def test_selectors_find_their_pods(manifests: list[Manifest]) -> None:
    for name in ("server", "env"):
        deployment = by_name(manifests, "Deployment", name)["spec"]
        labels = deployment["template"]["metadata"]["labels"]
        assert deployment["selector"]["matchLabels"] == labels == {"app": f"seedbed-{name}"}
        assert by_name(manifests, "NetworkPolicy", name)["spec"]["podSelector"]["matchLabels"] == labels
    server = {"app": "seedbed-server"}
    assert by_name(manifests, "Service", "server")["spec"]["selector"] == server
    assert by_name(manifests, "PodDisruptionBudget", "server")["spec"]["selector"]["matchLabels"] == server
    clients, metrics = by_name(manifests, "NetworkPolicy", "server")["spec"]["ingress"]
    assert clients == {"from": [{"podSelector": {"matchLabels": {"app": "seedbed-env"}}}], "ports": [{"port": "grpc"}]}
    assert metrics["ports"] == [{"port": "http"}]


def test_ports_and_commands_fit(manifests: list[Manifest]) -> None:
    one = container(manifests, "server")
    config = server_config(" ".join(one["args"]))
    ports = {port["name"]: port["containerPort"] for port in one["ports"]}
    service = {port["name"]: port for port in by_name(manifests, "Service", "server")["spec"]["ports"]}
    assert ports["grpc"] == config.serving.port == service["grpc"]["port"]
    assert service["grpc"]["targetPort"] == "grpc"
    assert env_config(" ".join(container(manifests, "env")["args"])).server == f"server:{config.serving.port}"
    assert ports["http"] == config.monitoring.http_port == service["http"]["port"]
    probes = {kind: one[f"{kind}Probe"]["httpGet"] for kind in ("startup", "readiness", "liveness")}
    assert {probe["port"] for probe in probes.values()} == {"http"}
    assert probes["liveness"]["path"] == "/healthz"
    assert probes["startup"]["path"] == probes["readiness"]["path"] == "/readyz"
    assert any(mount["mountPath"] == str(config.run.run_dir.parents[0]) for mount in one["volumeMounts"])  # type: ignore[union-attr]


def test_replicas_name_neither_their_indices_nor_themselves(manifests: list[Manifest]) -> None:
    config = env_config(" ".join(container(manifests, "env")["args"]))
    assert (config.first_index, config.client_id) == (None, None)
    fleet = by_name(manifests, "Deployment", "env")["spec"]["replicas"] * config.num_envs
    assert fleet <= server_config(" ".join(container(manifests, "server")["args"])).fleet.num_envs


def test_there_is_never_a_second_server(manifests: list[Manifest]) -> None:
    spec = by_name(manifests, "Deployment", "server")["spec"]
    assert (spec["replicas"], spec["strategy"]) == (1, {"type": "Recreate"})
    assert spec["template"]["spec"]["terminationGracePeriodSeconds"] >= 60
    assert by_name(manifests, "PodDisruptionBudget", "server")["spec"]["maxUnavailable"] == 0


def test_images_are_those_of_compose() -> None:
    built = {name: service["image"] for name, service in services().items()}
    for overlay, tag in (("base", built["server"]), ("overlays/gpu", "seedbed-server:cuda")):
        manifests = render(FOLDER / overlay)
        assert container(manifests, "server")["image"] == tag
        assert container(manifests, "env")["image"] == built["env"]


def test_tls_overlay_trusts_nobody_without_credentials() -> None:
    manifests = render(FOLDER / "overlays/tls")
    server = server_config(" ".join(container(manifests, "server")["args"])).serving.credentials
    client = env_config(" ".join(container(manifests, "env")["args"])).credentials
    assert not server.insecure
    assert not client.insecure
    assert server.token_file == client.token_file == Path("/credentials/token")
    assert server.tls_cert is not None
    assert client.uses_tls
    for name in ("server", "env"):
        (secret,) = [volume["secret"] for volume in pod(manifests, name)["volumes"] if "secret" in volume]
        assert secret["defaultMode"] == 0o440
        assert pod(manifests, name)["securityContext"]["fsGroup"] == 10001


def test_gpu_is_asked_for() -> None:
    limits = container(render(FOLDER / "overlays/gpu"), "server")["resources"]["limits"]
    assert limits == {"memory": "32Gi", "nvidia.com/gpu": "1"}
