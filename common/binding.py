"""A port to listen on, also when an earlier server is only just leaving it.

What a killed server leaves behind ends by itself, but not in the same moment: whoever starts it again at once, as
supervisors do, must not be told that the port is taken.
"""

from __future__ import annotations

import errno
import logging
import socket
import time
from collections.abc import Callable

from seedbed.common.errors import PortInUseError

logger = logging.getLogger(__name__)

PATIENCE_S = 5.0
_POLL_S = 0.05


def bind_patiently(bind: Callable[[], socket.socket], where: str) -> socket.socket:
    """Binds, and waits for up to `PATIENCE_S` while somebody else has the port.

    Args:
        bind: makes the socket, or raises OSError.
        where: for people, e.g. "port 7777 of 127.0.0.1".

    Raises:
        PortInUseError: somebody else stays there.
        OSError: what else `bind` raises.
    """
    deadline_s = time.monotonic() + PATIENCE_S
    told = False
    while True:
        try:
            return bind()
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
            if time.monotonic() >= deadline_s:
                raise PortInUseError(f"expected {where} to be free, another program listens there") from error
        if not told:
            logger.warning("%s is taken; waiting up to %g s for an earlier server to leave it", where, PATIENCE_S)
            told = True
        time.sleep(_POLL_S)
