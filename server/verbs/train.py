"""`seedbed train` and `seedbed server`: starts or resumes the run in a directory, and trains it to its end."""

from __future__ import annotations

import gc
import logging
import os
import sys
from importlib.metadata import version

import torch

from seedbed.common.errors import DeviceMemoryError, SeedbedError
from seedbed.common.logs import LEVEL_VARIABLE, setup_logging
from seedbed.server.monitoring.progress import make_progress
from seedbed.server.options.config import ServerConfig
from seedbed.server.run.checkpoint import CheckpointStore
from seedbed.server.run.directory import RunDirectory, RunFile
from seedbed.server.run.resuming import remarks
from seedbed.server.run.state import RunState
from seedbed.server.training.allocator import keep_freed_memory
from seedbed.server.training.local_clients import describe_environment
from seedbed.server.training.run import TrainingRun
from seedbed.server.training.stop_signal import StopSignal

logger = logging.getLogger(__name__)


def train(config: ServerConfig, directory: RunDirectory, stop: StopSignal, *, local: bool) -> int:
    """See the module.

    Args:
        config: of the run.
        directory: new, or of an earlier start.
        stop: says when somebody asks to finish.
        local: start environment clients on this machine.

    Returns:
        The exit code.

    Raises:
        SeedbedError: it could not start, or ended early.
    """
    setup_logging("server")
    keep_freed_memory()
    before = directory.read()
    checkpoint = None if before is None else CheckpointStore(directory.checkpoints).load_newest()
    state = RunState() if checkpoint is None else RunState.from_checkpoint(checkpoint)
    if (reached := state.stop_condition(config.run)) is not None:
        print(f"nothing to do: the run in {directory.path} is finished ({reached}; {state.describe()})")
        return 0
    spec = describe_environment(config.environment) if before is None else before.spec
    directory.write(RunFile(config, spec, version("seedbed")))
    for remark in remarks(before, config) if before is not None else ():
        logger.warning("%s", remark)
    what = f"new run in {directory.path}" if checkpoint is None else f"resuming {directory.path} at {state.describe()}"
    logger.info("%s", what)
    progress = make_progress()
    if sys.stderr.isatty():  # lines that other processes write would tear the live table
        os.environ.setdefault(LEVEL_VARIABLE, "warning")
    try:
        run = TrainingRun(config, spec, directory, state, stop, local=local, progress=progress)
        gc.freeze()  # it all stays: no collection, which stops every thread, need look at it again, nor the very end
        run.run()
    except (SeedbedError, torch.OutOfMemoryError) as error:
        progress.close("the run has ended early")
        if isinstance(error, SeedbedError):
            raise
        advice = "a smaller --batch-size, --unroll-length or replay needs less"
        raise DeviceMemoryError(f"the device has no memory left: {advice} ({error})") from error
    return 0
