"""A replay on disk, beside the checkpoint it belongs to: the newest one only.

    replay/
        NAME.npy            one file for each tensor, written and read in pieces: a replay may fill half the memory
        manifest.json       the rest, written last: without it there is no replay here

A crash at any moment costs the replay, never the run: it goes on with an empty one.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from seedbed.server.shared.reading import open_regular, read_regular

logger = logging.getLogger(__name__)

FOLDER = "replay"
_MANIFEST = "manifest.json"
_PIECE = 64  # unrolls
_MAX_MANIFEST_BYTES = 1 << 30  # numbers of millions of unrolls


class Contents(Protocol):
    """A replay, as far as files are concerned."""

    @property
    def tensors(self) -> Mapping[str, Tensor]:
        """Its unrolls, by a name that is stable."""

    def get_state(self) -> dict[str, Any]:
        """Everything else, as JSON can hold it."""

    def set_state(self, state: Mapping[str, Any]) -> None:
        """The inverse."""

    def check_state(self, state: Mapping[str, Any]) -> None:
        """Raises ValueError, TypeError or KeyError where that is no state of such a replay; changes nothing."""


class ReplayFiles:
    """The replay of one run on disk; without contents it does nothing."""

    def __init__(self, run_dir: Path, contents: Contents | None) -> None:
        self._folder = run_dir / FOLDER
        self._contents = contents

    def save(self, agent_steps: int) -> None:
        """Writes the replay, whose threads have ended, in place of the one before; a full disk costs only that.

        Args:
            agent_steps: of the checkpoint it belongs to.
        """
        if self._contents is None:
            return
        try:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder.mkdir(parents=True)
            for name, tensor in self._contents.tensors.items():
                _write(self._folder / f"{name}.npy", tensor)
            manifest = {"agent_steps": agent_steps, "state": self._contents.get_state()}
            (self._folder / _MANIFEST).write_text(json.dumps(manifest))
        except OSError as error:
            logger.error("the replay was not written: %s", error)

    def load(self, agent_steps: int) -> bool:
        """Fills the empty replay with the one on disk.

        Returns:
            Whether there was one for the checkpoint of so many agent steps that fits. If not, the log says why.
        """
        if self._contents is None or not self._folder.exists():
            return False
        try:
            manifest = json.loads(read_regular(self._folder / _MANIFEST, at_most=_MAX_MANIFEST_BYTES))
            if manifest["agent_steps"] != agent_steps:
                raise ValueError(f"it belongs to {manifest['agent_steps']:,} agent steps, not to {agent_steps:,}")
            files = {name: _open(self._folder / f"{name}.npy", x) for name, x in self._contents.tensors.items()}
            self._contents.check_state(manifest["state"])
        except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
            logger.warning("starting with an empty replay, the one in %s cannot be used: %s", self._folder, error)
            return False
        for name, tensor in self._contents.tensors.items():
            for start in range(0, len(tensor), _PIECE):
                piece = torch.from_numpy(files[name][start : start + _PIECE].copy())
                _bits(tensor)[start : start + _PIECE] = piece
        self._contents.set_state(manifest["state"])
        return True


def _write(file: Path, tensor: Tensor) -> None:
    """Piece by piece. Through a file: a disk that is full under a memory map ends the process by SIGBUS."""
    header = {"descr": _numpy_dtype(tensor).str, "fortran_order": False, "shape": tuple(tensor.shape)}
    with file.open("wb") as stream:
        np.lib.format.write_array_header_1_0(stream, header)
        for start in range(0, len(tensor), _PIECE):
            stream.write(np.ascontiguousarray(_bits(tensor[start : start + _PIECE]).cpu().numpy()).data)


def _open(file: Path, like: Tensor) -> NDArray[Any]:
    """Maps a file into memory; raises OSError or ValueError unless it holds a tensor like this one."""
    os.close(open_regular(file, os.O_RDONLY))
    array: NDArray[Any] = np.load(file, mmap_mode="r", allow_pickle=False)
    if array.shape != tuple(like.shape) or array.dtype != _numpy_dtype(like):
        raise ValueError(f"expected {file.stem} as {list(like.shape)}, got {list(array.shape)}")
    return array


def _bits(tensor: Tensor) -> Tensor:
    """The same memory in a dtype that NumPy has too."""
    return tensor.view(torch.int16) if tensor.dtype == torch.bfloat16 else tensor


def _numpy_dtype(tensor: Tensor) -> np.dtype[Any]:
    return _bits(torch.empty(0, dtype=tensor.dtype)).numpy().dtype
