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
from seedbed.common.options import to_json
from seedbed.common.plugins import check_trusted
from seedbed.server.monitoring.progress import make_progress
from seedbed.server.run.checkpoint import CheckpointStore
from seedbed.server.run.directory import RunFile
from seedbed.server.run.resuming import remarks
from seedbed.server.run.state import RunState
from seedbed.server.training.allocator import keep_freed_memory
from seedbed.server.training.command_line import Given
from seedbed.server.training.dry_run import describe_dry_run
from seedbed.server.training.opening import Stopped, open_run
from seedbed.server.training.resolve import config_of, omitted_in
from seedbed.server.training.run import make_training_run
from seedbed.server.training.stop_signal import StopSignal

logger = logging.getLogger(__name__)


def train(given: Given, stop: StopSignal, *, local: bool) -> int:
    """See the module.

    Args:
        given: the command line.
        stop: says when somebody asks to finish.
        local: start environment clients on this machine.

    Returns:
        The exit code.

    Raises:
        SeedbedError: it could not start, or ended early.
    """
    setup_logging("server")
    keep_freed_memory()
    try:
        opened = open_run(given, stop)
    except Stopped:
        return 0
    if local:  # before anything is written
        check_trusted("--env", opened.config.environment.env, given.trust)
    if given.dry_run:
        print(describe_dry_run(opened))
        return 0
    config, spec, directory, before = opened.config, opened.spec, opened.directory, opened.before
    checkpoint = None if before is None else CheckpointStore(directory.checkpoints).load_newest()
    state = RunState() if checkpoint is None else RunState.from_checkpoint(checkpoint)
    if (reached := state.stop_condition(config.run)) is not None:
        print(f"nothing to do: the run in {directory.path} is finished ({reached}; {state.describe()})")
        return 0
    directory.write(RunFile(to_json(config), spec, version("seedbed")))
    if before is not None:
        for remark in remarks(config_of(before), config, omitted_in(before), before.version):
            logger.warning("%s", remark)
    what = f"new run in {directory.path}" if checkpoint is None else f"resuming {directory.path} at {state.describe()}"
    logger.info("%s", what)
    progress = make_progress()
    if sys.stderr.isatty():  # lines that other processes write would tear the live table
        os.environ.setdefault(LEVEL_VARIABLE, "warning")
    try:
        run = make_training_run(opened, state, stop, local=local, progress=progress, trust=given.trust)
        gc.freeze()  # it all stays: no collection, which stops every thread, need look at it again, nor the very end
        run.run()
    except (SeedbedError, torch.OutOfMemoryError) as error:
        progress.close("the run has ended early")
        if isinstance(error, SeedbedError):
            raise
        advice = "a smaller --batch-size, --unroll-length or replay needs less"
        raise DeviceMemoryError(f"the device has no memory left: {advice} ({error})") from error
    return 0
