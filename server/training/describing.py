"""Description of a run's environments: what they look like, found out by processes of the client side."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from seedbed.common.environment_options import CareOptions, EnvironmentOptions
from seedbed.common.errors import SeedbedError, SpecError
from seedbed.common.image_layout import cost_remark
from seedbed.common.joint_spec import join, served
from seedbed.common.options import to_argv
from seedbed.common.plugins import NOTHING_TYPED, Trust, check_trusted
from seedbed.common.report import report_pipe
from seedbed.common.specs import EnvironmentSpec
from seedbed.server.options.tasks import names_of
from seedbed.server.training.command_line import Given
from seedbed.server.training.local_clients import MODULE, how_it_ended, import_options

logger = logging.getLogger(__name__)

_EXIT_TIMEOUT_S = 5.0


def describe(given: Given) -> EnvironmentSpec:
    """The spec of the environment that was named, or that of the common rows of several tasks.

    Raises:
        UsageError: a module may not be imported.
        SeedbedError: one of them could not be described, or they have no rows in common.
    """
    if not given.all_tasks:
        return describe_environment(given.environment, given.trust, given.care)
    environments = [task.environment(given.environment) for task in given.all_tasks]
    spec = join(_describe_all(environments, names_of(given.all_tasks), given), given.task_name)
    served(spec)  # told now, not when the first client comes
    return spec


def _describe_all(
    environments: Sequence[EnvironmentOptions], names: Sequence[str], given: Given
) -> list[EnvironmentSpec]:
    """One for each, as many at once as there are cores: a suite has dozens, and each takes a second."""

    def one(environment: EnvironmentOptions, name: str) -> EnvironmentSpec:
        try:
            return describe_environment(environment, given.trust, given.care)
        except SeedbedError as error:
            error.add_note(f"task {name}")
            raise

    for environment in environments:  # before any of them is imported
        check_trusted("--env", environment.env, given.trust)
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        return list(pool.map(one, environments, names))


def describe_environment(
    config: EnvironmentOptions, trust: Trust = NOTHING_TYPED, care: CareOptions | None = None
) -> EnvironmentSpec:
    """Asks the client side, in a process of its own, what the environment looks like.

    Args:
        config: which.
        trust: whether its module may be imported.
        care: how long it may take to be built and reset; nobody watches it yet, so there is no window.

    Raises:
        UsageError: its module may not be imported.
        SeedbedError: what that process said was wrong.
    """
    check_trusted("--env", config.env, trust)
    care = replace(care or CareOptions(), render="none")
    command = [
        sys.executable,
        "-P",
        "-m",
        MODULE,
        "--describe",
        *to_argv(config),
        *to_argv(care),
        *import_options(config.env_id, trust),
    ]
    with report_pipe() as pipe, tempfile.TemporaryFile() as log:
        process = pipe.start(command, log)
        try:
            facts = pipe.read(care.reset_timeout_s)
            code = 0 if facts else process.wait(_EXIT_TIMEOUT_S)
        except (TimeoutError, subprocess.TimeoutExpired):
            raise SpecError(
                f"{config.env}: expected to be built, reset and stepped once within {care.reset_timeout_s:g} s: "
                "--reset-timeout-s gives it longer"
            ) from None
        finally:
            process.kill()
            process.wait()
        if facts is None:
            log.seek(0)
            sys.stderr.write(log.read().decode(errors="replace"))
            raise SpecError(f"{config.env}: the process that built it {how_it_ended(code)}")
    spec = EnvironmentSpec.from_json(facts["spec"])
    if (remark := cost_remark(spec)) is not None:
        logger.warning("%s", remark)
    return spec
