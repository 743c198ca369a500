"""`seedbed fleet`: many environment clients on the machines of a cluster."""

from __future__ import annotations

import contextlib
import secrets
import sys
from collections.abc import Sequence

from seedbed.common.logs import run_main, setup_logging
from seedbed.common.options import parse
from seedbed.common.stop_signals import on_stop
from seedbed.env_client.fleets.carried import read_files
from seedbed.env_client.fleets.options import FleetOptions
from seedbed.env_client.servers import Servers

_DESCRIPTION = "Run environment clients as tasks of a Ray cluster. See docs/clusters.md."


def main(argv: Sequence[str]) -> int:
    """Runs the fleet until it is told to stop or the run is finished.

    Args:
        argv: without the program's name.

    Returns:
        0, also after a signal that says stop.

    Raises:
        MissingExtraError: Ray is not installed.
        SeedbedError: wrong options, no cluster, or a client that ended for good.
    """
    options = parse(FleetOptions(), argv, prog="seedbed fleet", description=_DESCRIPTION)
    options.validate()
    assert options.ray is not None
    assert options.server is not None
    Servers(options.server, options.credentials)  # no token where everybody could read it
    files = read_files(options.credentials)
    from seedbed.env_client.fleets.on_ray import RayFleet  # slow, and wrong options are told before

    setup_logging("fleet")
    stopping = False

    def stop(_signal: int, _frame: object) -> None:
        nonlocal stopping
        if stopping:
            sys.exit(1)
        stopping = True

    clients = options.clients(f"ray-{secrets.token_hex(4)}")
    with contextlib.ExitStack() as stack:
        fleet = stack.enter_context(RayFleet(options.ray, clients, files, options.cpus_per_client))
        on_stop(stop)
        fleet.run(lambda: stopping)
    return 0


if __name__ == "__main__":
    sys.exit(run_main(main))
