"""A server without an environment asks the first client that comes: `--spec first`."""

from __future__ import annotations

import logging
import multiprocessing
from importlib.metadata import version

import torch

from seedbed.common.errors import BrokenError
from seedbed.common.plugins import without_start_directories
from seedbed.common.report import report
from seedbed.common.specs import ArraySpec, EnvironmentSpec, discrete
from seedbed.server.experience.replay_size import free_bytes
from seedbed.server.frontend.admission import FrontendConfig
from seedbed.server.frontend.first_hello import run_first_hello
from seedbed.server.frontend.port import ReservedPort
from seedbed.server.options.serving import MonitoringConfig, ServingConfig
from seedbed.server.training.stop_signal import StopSignal

logger = logging.getLogger(__name__)

_NOTHING_YET = EnvironmentSpec(
    environment="-",
    observations=(ArraySpec(name="observation", dtype="float32", shape=(1,)),),
    actions=(discrete("action", 2),),
)
_MOST_ENVIRONMENTS = 1 << 16
_SHARE = 0.9  # of what is free, as of a replay
_TICK_S = 0.1
_END_S = 10.0


def ask_first_client(serving: ServingConfig, stop: StopSignal) -> EnvironmentSpec | None:
    """Waits for it on the server's port, which is free again afterwards; None: told to stop meanwhile.

    Raises:
        PortInUseError: somebody else listens there.
        UsageError, AuthError: the server may not be reached like this.
        BrokenError: the process that waited has died.
    """
    serving.credentials.verify(serving.host)
    port = ReservedPort(serving.host, serving.port)
    config = FrontendConfig(
        number=0,
        address=port.address,
        spec=_NOTHING_YET,
        num_slots=_MOST_ENVIRONMENTS,
        run_name="no environment yet",
        server_version=version("seedbed"),
        grace_s=serving.grace_s,
        stall_limit_s=MonitoringConfig().stall_limit_s,
        credentials=serving.credentials,
    )
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    free = int(_SHARE * free_bytes(torch.device("cpu")))
    process = context.Process(target=run_first_hello, args=(config, free, theirs), name="first-hello", daemon=True)
    with without_start_directories():
        process.start()
    theirs.close()
    logger.info("waiting on %s for the first client: seedbed env --server HOST:PORT --env ID", port.address)
    report({"waiting": port.address})
    try:
        while stop.name is None:
            if ours.poll(_TICK_S):
                spec = EnvironmentSpec.from_json(ours.recv())
                process.join(_END_S)
                logger.info("the first client brings %s", spec.environment)
                return spec
        return None
    except EOFError:
        raise BrokenError("the process that waited for the first client has ended; see its messages above") from None
    finally:
        process.kill()
        process.join()
        ours.close()
        port.close()
