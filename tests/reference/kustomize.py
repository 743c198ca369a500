"""A small part of what `kubectl kustomize` does: resources, namespace, image tags, strategic merges and deletions.

Written to be compared with the real one where that is installed, and to stand in for it where not.
"""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

Manifest = dict[str, Any]

MERGE_KEYS = {"containers": "name", "volumes": "name", "volumeMounts": "mountPath", "ports": "containerPort"}
"""Lists that are merged by this field of their elements; all others are replaced. From the Kubernetes API reference."""

_CLUSTER_WIDE = ("Namespace",)


def render(folder: Path) -> list[Manifest]:
    """All manifests of a kustomization.

    Raises:
        ValueError: it uses what is not known here, or a patch has no target.
    """
    import yaml

    text = (folder / "kustomization.yaml").read_text()
    kustomization = yaml.safe_load(text)
    known = {"apiVersion", "kind", "namespace", "resources", "images", "patches"}
    if unknown := set(kustomization) - known:
        raise ValueError(f"{folder}: expected {sorted(known)}, got {sorted(unknown)}")
    manifests: list[Manifest] = []
    for resource in kustomization["resources"]:
        path = (folder / resource).resolve()
        manifests += render(path) if path.is_dir() else [m for m in yaml.safe_load_all(path.read_text()) if m]
    for manifest in manifests:
        if "namespace" in kustomization and manifest["kind"] not in _CLUSTER_WIDE:
            manifest["metadata"]["namespace"] = kustomization["namespace"]
    for patch in kustomization.get("patches", []):
        changes = yaml.safe_load(patch["patch"] if "patch" in patch else (folder / patch["path"]).read_text())
        targets = [number for number, manifest in enumerate(manifests) if identity(manifest) == identity(changes)]
        if len(targets) != 1:
            raise ValueError(f"{folder}: expected one {identity(changes)} to patch, got {len(targets)}")
        if changes.get("$patch") == "delete":
            del manifests[targets[0]]
        else:
            manifests[targets[0]] = merge(manifests[targets[0]], changes)
    for image in kustomization.get("images", []):
        _retag(manifests, image["name"], image["newTag"])
    return manifests


def identity(manifest: Manifest) -> tuple[str, str, str]:
    """(kind, namespace, name)."""
    metadata = manifest["metadata"]
    return manifest["kind"], metadata.get("namespace", ""), metadata["name"]


def merge(base: Any, changes: Any, field: str = "") -> Any:
    """A strategic merge."""
    if isinstance(base, dict) and isinstance(changes, dict):
        merged = copy.deepcopy(base)
        for name, value in changes.items():
            merged[name] = merge(base[name], value, name) if name in base else copy.deepcopy(value)
        return merged
    if isinstance(base, list) and isinstance(changes, list) and field in MERGE_KEYS:
        key = MERGE_KEYS[field]
        by_key = {element[key]: element for element in base}
        changed = {element[key]: element for element in changes}
        return [
            merge(by_key[name], changed[name])
            if name in by_key and name in changed
            else changed.get(name, by_key.get(name))
            for name in {**changed, **by_key}
        ]
    return copy.deepcopy(changes)


def _retag(manifests: list[Manifest], name: str, tag: str) -> None:
    for manifest in manifests:
        if manifest["kind"] in ("Deployment", "StatefulSet"):
            for container in manifest["spec"]["template"]["spec"]["containers"]:
                if container["image"].partition(":")[0] == name:
                    container["image"] = f"{name}:{tag}"
