"""Files of an exported policy: ONNX or torch.export's own format, with the contract inside and beside it."""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from seedbed.common.errors import UsageError
from seedbed.server.export.module import ExportedPolicy, zero_rows

ENDINGS = (".onnx", ".pt2")
METADATA = "seedbed"
"""Key of the contract in an ONNX file's metadata; in a .pt2 file it is "seedbed.json" among the extra files."""

_PROBE_ROWS = 2  # a batch of 1 would be taken for a constant
_NOISY = ("torch.onnx", "onnxscript", "onnx_ir")


def check_ending(path: Path) -> None:
    """Refuses names of other formats.

    Raises:
        UsageError: it is none of ours.
    """
    if path.suffix not in ENDINGS:
        raise UsageError(f"--out: expected a file that ends with {' or '.join(ENDINGS)}, got {path}")


def contract_file(path: Path) -> Path:
    """The contract beside an exported policy."""
    return path.with_suffix(".json")


def write(policy: ExportedPolicy, path: Path) -> None:
    """Writes one file; what it is in, its name says.

    Raises:
        MissingExtraError: of the extra "export", where a module of it is missing.
    """
    with _quiet(), torch.no_grad():
        program = _program(policy)
        if path.suffix == ".pt2":
            torch.export.save(program, path, extra_files={f"{METADATA}.json": policy.contract.to_text()})
        else:
            _write_onnx(program, policy, path)


def _program(policy: ExportedPolicy) -> torch.export.ExportedProgram:
    batch = torch.export.Dim("N", min=1)
    rows = zero_rows(policy.contract.inputs, _PROBE_ROWS)
    return torch.export.export(policy.eval(), rows, dynamic_shapes=(tuple({0: batch} for _ in rows),))


def _write_onnx(program: Any, policy: ExportedPolicy, path: Path) -> None:
    import onnxscript  # noqa: F401  # what torch needs for it: missing, it must be named

    written = torch.onnx.export(
        program,
        dynamo=True,
        input_names=[port.name for port in policy.contract.inputs],
        output_names=[port.name for port in policy.contract.outputs],
        verbose=False,
    )
    assert written is not None
    written.model.metadata_props[METADATA] = policy.contract.to_text()
    written.save(path, external_data=False)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Exporters remark on packages that are not needed, and on ways of their own that will change."""
    loggers = [logging.getLogger(name) for name in _NOISY]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)
