"""Checkpoints on disk: after a crash, a power cut or a full disk at any moment, one that was complete still loads.

    checkpoints/checkpoint-000000012800/    named by agent steps; ".1", ".2" are added where that name is taken
        tensors.safetensors
        manifest.json                       format version, metadata, size and sha256 of the tensors, sha256 of itself
    checkpoints/best.json                   which of them was made when the best cohort was judged, and its mean return

A checkpoint is written into a hidden folder beside its place, every file and the folder are brought to the disk, the
folder is renamed, and the rename is brought to the disk. Only then are old ones removed, all but the best. Nothing is
pickled.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from seedbed.common.errors import ConfigError, VersionError
from seedbed.server.shared.reading import read_regular

logger = logging.getLogger(__name__)

FORMAT_VERSION = 1
TENSORS_FILE = "tensors.safetensors"
MANIFEST_FILE = "manifest.json"
BEST_FILE = "best.json"

_MAX_MANIFEST_BYTES, _MAX_BEST_BYTES = 64 << 20, 64 << 10
_NAME = re.compile(r"checkpoint-(\d{12,})(?:\.(\d+))?")
_HIDDEN_PREFIX = ".partial-"


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """All that a run needs to go on.

    Attributes:
        agent_steps: taken when it was made; names the folder.
        tensors: by flat names, e.g. "learner.learnt.value.weight"; `state_tree.py` makes them from nested states.
        metadata: what JSON can hold.
    """

    agent_steps: int
    tensors: dict[str, Tensor]
    metadata: dict[str, Any]


class DamagedCheckpointError(Exception):
    """A checkpoint is not what was written; the message names the file and what is wrong with it."""


class CheckpointStore:
    """The checkpoints of one run. It alone writes there; readers need only `load` and `load_newest`."""

    def __init__(self, directory: Path, keep: int = 3) -> None:
        """Makes the folder, and removes what an interrupted process left half done.

        Args:
            directory: of this run's checkpoints.
            keep: how many complete ones remain, the best one not counted.
        """
        if keep < 1:
            raise ValueError(f"expected to keep at least 1 checkpoint, got {keep}")
        self._directory = directory
        self._keep = keep
        directory.mkdir(parents=True, exist_ok=True)
        _sync_directory(directory.parent)
        self._remove_leftovers()

    def save(self, checkpoint: Checkpoint) -> Path:
        """Writes a checkpoint; when this returns it survives a power cut.

        The tensors are copied to the CPU and twice into memory, so this is not the way to save a replay.

        Returns:
            Its folder.

        Raises:
            OSError: the disk is full or broken. The checkpoints from before are as they were.
        """
        tensors = _serialise_tensors(checkpoint.tensors)
        manifest = _serialise_manifest(checkpoint, tensors)
        final = self._free_name(checkpoint.agent_steps)
        partial = self._directory / f"{_HIDDEN_PREFIX}{final.name}"
        try:
            self._remove_leftovers()
            partial.mkdir(parents=True)  # somebody may have removed the whole folder
            _write_durably(partial / TENSORS_FILE, tensors)
            _write_durably(partial / MANIFEST_FILE, manifest)
            _sync_directory(partial)
            os.rename(partial, final)
        except BaseException:
            shutil.rmtree(partial, ignore_errors=True)
            raise
        _sync_directory(self._directory)
        self._prune(final)
        return final

    def load_newest(self) -> Checkpoint | None:
        """See the function `load_newest`."""
        return load_newest(self._directory)

    def mark_best(self, path: Path, mean_return: float) -> None:
        """Says that a checkpoint is the best so far: it stays until another one is.

        Raises:
            OSError: the disk is full or broken. The one from before is still the best.
        """
        draft = self._directory / f"{_HIDDEN_PREFIX}{BEST_FILE}"
        _write_durably(draft, json.dumps({"checkpoint": path.name, "mean_return": mean_return}).encode())
        os.rename(draft, self._directory / BEST_FILE)
        _sync_directory(self._directory)

    def _free_name(self, agent_steps: int) -> Path:
        """A name nobody has. Renaming over an existing checkpoint would destroy it before the new one is safe."""
        name = f"checkpoint-{agent_steps:012d}"
        taken = [number for path, (steps, number) in _list(self._directory) if steps == agent_steps]
        return self._directory / (f"{name}.{max(taken) + 1}" if taken else name)

    def _prune(self, newest: Path) -> None:
        """Removes all but the newest few, renaming first: a half removed one must not look like a damaged one.

        Those with more steps than `newest` do not count. They failed to load, else the run would be past them.
        """
        best = find_best(self._directory)
        names = [path for path, _ in _list(self._directory) if path == newest or best is None or path != best[0]]
        for path in names[: max(0, names.index(newest) + 1 - self._keep)]:
            try:
                hidden = path.with_name(f"{_HIDDEN_PREFIX}{path.name}")
                os.rename(path, hidden)
                shutil.rmtree(hidden)
            except OSError as error:
                logger.warning("could not remove the old checkpoint %s: %s", path, error)

    def _remove_leftovers(self) -> None:
        for path in self._directory.glob(f"{_HIDDEN_PREFIX}*"):
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)


def load_newest(directory: Path) -> Checkpoint | None:
    """The newest checkpoint that is complete; damaged ones are passed over with a warning.

    Args:
        directory: of a run's checkpoints; it need not exist.

    Returns:
        None if there are no checkpoints.

    Raises:
        ConfigError: there are some, and none loads.
        VersionError: the newest complete one was written by a newer seedbed.
    """
    paths = [path for path, _ in _list(directory)]
    for path in reversed(paths):
        try:
            return _load(path)
        except DamagedCheckpointError as error:
            logger.warning("passing over a damaged checkpoint: %s", error)
    if paths:
        raise ConfigError(f"expected a complete checkpoint in {directory}, all {len(paths)} are damaged")
    return None


def find_best(directory: Path) -> tuple[Path, float] | None:
    """The checkpoint that was made when the best cohort was judged, and that cohort's mean return.

    Args:
        directory: of a run's checkpoints; it need not exist.

    Returns:
        None if there is none, or what says so is damaged.
    """
    try:
        data = json.loads(read_regular(directory / BEST_FILE, at_most=_MAX_BEST_BYTES))
        name, mean_return = str(data["checkpoint"]), float(data["mean_return"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
    path = directory / name
    return (path, mean_return) if _NAME.fullmatch(name) and path.is_dir() else None


def load(path: Path) -> Checkpoint:
    """Reads the checkpoint in one folder, onto the CPU.

    Raises:
        ConfigError: there is none, or it is damaged.
        VersionError: it was written by a newer seedbed.
    """
    try:
        return _load(path)
    except DamagedCheckpointError as error:
        raise ConfigError(f"expected a complete checkpoint: {error}") from error


def _list(directory: Path) -> list[tuple[Path, tuple[int, int]]]:
    """All complete checkpoints with their order, oldest first."""
    if not directory.is_dir():
        return []
    matches = [(path, _NAME.fullmatch(path.name)) for path in directory.iterdir()]
    found = [(path, (int(match[1]), int(match[2] or 0))) for path, match in matches if match]
    return sorted(found, key=lambda item: item[1])


def _serialise_tensors(tensors: dict[str, Tensor]) -> bytes:
    # Copies: the format refuses tensors that share memory or have gaps.
    copies = {
        name: tensor.detach().to("cpu", copy=True, memory_format=torch.contiguous_format)
        for name, tensor in tensors.items()
    }
    return safetensors.torch.save(copies)


def _serialise_manifest(checkpoint: Checkpoint, tensors: bytes) -> bytes:
    body = {
        "format_version": FORMAT_VERSION,
        "agent_steps": checkpoint.agent_steps,
        "metadata": checkpoint.metadata,
        "tensors": {"bytes": len(tensors), "sha256": hashlib.sha256(tensors).hexdigest()},
    }
    body = json.loads(json.dumps(body))  # what a reader will see: JSON turns all keys into texts
    return json.dumps({"sha256": _digest(body), "body": body}, indent=1).encode()


def _digest(body: Any) -> str:
    """Covers the meaning of a manifest; stays the same in every format version."""
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()


def _load(path: Path) -> Checkpoint:
    body = _read_manifest(path / MANIFEST_FILE)
    file = path / TENSORS_FILE
    expected = body["tensors"]
    try:
        data = read_regular(file, at_most=expected["bytes"])
        if len(data) != expected["bytes"]:
            raise DamagedCheckpointError(f"{file}: expected {expected['bytes']} bytes, got {len(data)}")
        if hashlib.sha256(data).hexdigest() != expected["sha256"]:
            raise DamagedCheckpointError(f"{file}: its sha256 is not the one in {MANIFEST_FILE}")
        tensors = safetensors.torch.load(data)
    except (OSError, SafetensorError, KeyError, ValueError, OverflowError) as error:
        raise DamagedCheckpointError(f"{file}: {error}") from error
    return Checkpoint(agent_steps=body["agent_steps"], tensors=tensors, metadata=body["metadata"])


def _read_manifest(file: Path) -> dict[str, Any]:
    try:
        manifest = json.loads(read_regular(file, at_most=_MAX_MANIFEST_BYTES))
        body: dict[str, Any] = manifest["body"]
        intact = manifest["sha256"] == _digest(body)
        found = int(body["format_version"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise DamagedCheckpointError(f"{file}: {error!r}") from error
    if not intact:
        raise DamagedCheckpointError(f"{file}: its sha256 is not the one it states")
    if found > FORMAT_VERSION:
        raise VersionError(f"{file}: expected checkpoint format {FORMAT_VERSION} at most, got {found}: upgrade seedbed")
    _check_types(file, body, {"agent_steps": int, "metadata": dict, "tensors": dict})
    _check_types(file, body["tensors"], {"bytes": int, "sha256": str})
    return body


def _check_types(file: Path, values: Mapping[str, Any], expected: Mapping[str, type]) -> None:
    for name, kind in expected.items():
        if type(values.get(name)) is not kind:
            raise DamagedCheckpointError(f"{file}: expected {name} as {kind.__name__}, got {values.get(name)!r:.100}")


def _write_durably(file: Path, data: bytes) -> None:
    with open(file, "wb") as stream:
        stream.write(data)
        stream.flush()
        os.fsync(stream.fileno())


def _sync_directory(directory: Path) -> None:
    """Brings names, not contents, to the disk."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
