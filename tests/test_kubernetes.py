"""The manifests under deploy/kubernetes: they fit one another, and their commands are ones that seedbed takes.

Checked offline, against the schemas of the Kubernetes API, so not: whether a cluster accepts them.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.reference.kustomize import Manifest, identity, render
from tests.test_containers import env_config, server_config, services

yaml = pytest.importorskip("yaml", reason="PyYAML, of the extra `dev`, is not installed")

FOLDER = Path(__file__).resolve().parent.parent / "deploy" / "kubernetes"
OVERLAYS = ("base", "overlays/gpu", "overlays/tls", "overlays/replicas")
ONE_SERVER = OVERLAYS[:3]
API_VERSION = "1.37"  # a newer one leaves fields out at most, which no manifest may rely on


@pytest.fixture(params=ONE_SERVER)
def manifests(request: pytest.FixtureRequest) -> list[Manifest]:
    return render(FOLDER / request.param)


def by_name(manifests: list[Manifest], kind: str, name: str) -> Manifest:
    (found,) = [manifest for manifest in manifests if (manifest["kind"], manifest["metadata"]["name"]) == (kind, name)]
    return found


def workload(manifests: list[Manifest], name: str) -> Manifest:
    """Whatever runs its pods."""
    found = [
        one for one in manifests if one["kind"] in ("Deployment", "StatefulSet") and one["metadata"]["name"] == name
    ]
    assert len(found) == 1
    return found[0]


def pod(manifests: list[Manifest], name: str) -> dict[str, Any]:
    spec: dict[str, Any] = workload(manifests, name)["spec"]["template"]["spec"]
    return spec


def container(manifests: list[Manifest], name: str) -> dict[str, Any]:
    (found,) = pod(manifests, name)["containers"]
    return dict(found)


def validate(manifest: Manifest) -> None:
    """Against the schema of its kind; a field that is not in it is an error too."""
    validator = pytest.importorskip("kubernetes_validate", reason="kubernetes-validate, of the extra `dev`, is missing")
    validator.validate(manifest, API_VERSION, strict=True)


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_the_api_knows_every_field(overlay: str) -> None:
    for manifest in render(FOLDER / overlay):
        validate(manifest)


@pytest.mark.parametrize(
    ("kind", "path", "field", "value"),
    [
        ("StatefulSet", ("spec",), "serviceNames", "servers"),
        ("StatefulSet", ("spec", "template", "spec", "containers", 0), "imagePullpolicy", "Always"),
        ("StatefulSet", ("spec",), "replicas", "two"),
        ("NetworkPolicy", ("spec", "egress", 0, "to", 0), "podselector", {}),
        ("Service", ("spec",), "clusterIp", "None"),
    ],
)
def test_what_the_api_does_not_know_is_found(kind: str, path: tuple[Any, ...], field: str, value: Any) -> None:
    manifest = next(one for one in render(FOLDER / "overlays/replicas") if one["kind"] == kind)
    validate(manifest)
    place: Any = manifest
    for step in path:
        place = place[step]
    place[field] = value
    with pytest.raises(Exception, match=rf"{field}|two"):
        validate(manifest)


def test_names_are_unique(manifests: list[Manifest]) -> None:
    names = [identity(manifest) for manifest in manifests]
    assert len(names) == len(set(names)) == 8
    assert {namespace for kind, namespace, _ in names if kind != "Namespace"} == {"seedbed"}


def test_every_file_is_part_of_a_kustomization() -> None:
    named = set()
    for path in FOLDER.rglob("kustomization.yaml"):
        kustomization = yaml.safe_load(path.read_text())
        patches = [patch["path"] for patch in kustomization.get("patches", []) if "path" in patch]
        files = [*kustomization["resources"], *patches]
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
@pytest.mark.parametrize("overlay", OVERLAYS)
def test_pods_fulfil_the_restricted_standard(overlay: str, name: str) -> None:
    """https://kubernetes.io/docs/concepts/security/pod-security-standards/, which the namespace enforces."""
    manifests = render(FOLDER / overlay)
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


def test_replicas_fit_one_another() -> None:
    """One torchrun agent a pod, as many as there are pods; clients find all of them, and they one another."""
    manifests = render(FOLDER / "overlays/replicas")
    assert {(manifest["kind"], manifest["metadata"]["name"]) for manifest in manifests} == {
        ("Namespace", "seedbed"),
        ("Service", "servers"),
        ("StatefulSet", "server"),
        ("Deployment", "env"),
        ("PodDisruptionBudget", "servers"),
        ("NetworkPolicy", "servers"),
        ("NetworkPolicy", "env"),
    }
    service = by_name(manifests, "Service", "servers")["spec"]
    servers = by_name(manifests, "StatefulSet", "server")["spec"]
    labels = servers["template"]["metadata"]["labels"]
    assert service["clusterIP"] == "None"
    assert service["publishNotReadyAddresses"] is True
    assert servers["serviceName"] == "servers"
    assert servers["podManagementPolicy"] == "Parallel"
    assert labels == servers["selector"]["matchLabels"] == service["selector"]
    one = container(manifests, "server")
    command = one["command"][2]
    assert f"--nnodes={servers['replicas']} " in command
    assert "--rdzv-endpoint=server-0.servers:29400" in command
    assert "is_host=$((POD_INDEX == 0))" in command
    variables = {variable["name"]: variable for variable in one["env"]}
    assert variables["TORCH_DISABLE_SHARE_RDZV_TCP_STORE"]["value"] == "1"
    assert "pod-index" in variables["POD_INDEX"]["valueFrom"]["fieldRef"]["fieldPath"]
    ports = {port["name"]: port["containerPort"] for port in one["ports"]}
    assert {port["targetPort"]: port["port"] for port in service["ports"]} == ports
    client = env_config(" ".join(container(manifests, "env")["args"]))
    assert client.server == f"dns:servers:{ports['grpc']}"
    fleet = by_name(manifests, "Deployment", "env")["spec"]["replicas"] * client.num_envs
    own = server_config(" ".join(one["args"]).replace("--insecure-cluster-network", ""))
    assert own.serving.port == ports["grpc"]
    assert fleet <= servers["replicas"] * own.fleet.num_envs
    policy = by_name(manifests, "NetworkPolicy", "servers")["spec"]
    among = {"podSelector": {"matchLabels": labels}}
    assert {"from": [among]} in policy["ingress"]
    assert {"to": [among]} in policy["egress"]
    assert by_name(manifests, "PodDisruptionBudget", "servers")["spec"]["selector"]["matchLabels"] == labels
    claims = {claim["metadata"]["name"] for claim in servers["volumeClaimTemplates"]}
    volumes = {volume["name"] for volume in pod(manifests, "server")["volumes"]}
    assert {mount["name"] for mount in one["volumeMounts"]} == claims | volumes
