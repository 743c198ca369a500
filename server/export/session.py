"""An exported policy, opened: arrays by name in, arrays by name out, whichever format the file is in."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from seedbed.server.export.contract import Contract

Arrays = Mapping[str, NDArray[Any]]


def open_session(path: Path, contract: Contract) -> Callable[[Arrays], dict[str, NDArray[Any]]]:
    """Loads a file.

    Args:
        path: as `files.write` wrote it.
        contract: of it.
    """
    outputs = [port.name for port in contract.outputs]
    if path.suffix == ".onnx":
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3  # errors
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        return lambda arrays: dict(zip(outputs, session.run(outputs, dict(arrays)), strict=True))
    module = torch.export.load(path).module()

    @torch.no_grad()
    def run(arrays: Arrays) -> dict[str, NDArray[Any]]:
        given = [torch.from_numpy(np.ascontiguousarray(arrays[port.name])) for port in contract.inputs]
        return {name: tensor.numpy() for name, tensor in zip(outputs, module(*given), strict=True)}

    return run


class ExportedMemory:
    """What is fed back to an exported policy, from step to step.

    Args:
        contract: of it.
        count: N.
    """

    def __init__(self, contract: Contract, count: int) -> None:
        self._sources = contract.memory
        ports = [port for port in contract.inputs if port.role == "memory"]
        self.arrays: dict[str, NDArray[Any]] = {
            port.name: np.zeros((count, *port.shape), np.dtype(port.dtype)) for port in ports
        }

    def take(self, outputs: Arrays) -> None:
        """What came out is what goes in next."""
        self.arrays = {name: outputs[source] for name, source in self._sources.items()}
