"""What a frontend tells the device process: ids of leases, some turns' at once, and control messages, in order."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from seedbed.server.shared.id_channel import Control, IdChannel

MAX_TURNS = 4
"""Of the event loop, for which an id waits at most."""


class Outbox:
    """The sending half of a frontend's end of the channel. What a slow device process does not take is sent later.

    Args:
        channel: this end of it.
        on_loss: called when the device process is gone.
    """

    def __init__(self, channel: IdChannel, on_loss: Callable[[], None]) -> None:
        self._channel = channel
        self._on_loss = on_loss
        self._loop = asyncio.get_running_loop()
        self._announced = 0  # ids so far
        self._flush_planned = False

    def announce(self, lease: int) -> None:
        """Tells soon that a lease's rows are filled, by one write for all whose rows are filled meanwhile."""
        self._announced += 1
        if not self._flush_planned:
            self._flush_planned = True
            self._loop.call_soon(self._flush_when_quiet, self._announced, 1)
        self._channel.queue(lease)

    def send(self, control: Control) -> None:
        """Sends a control message now, behind the ids that wait."""
        self._channel.queue(control)
        self._flush()

    def close(self) -> None:
        """Waits no longer for the channel to take more."""
        self._loop.remove_writer(self._channel)

    def _flush_when_quiet(self, announced: int, turn: int) -> None:
        """Writes once a turn of the loop has brought no more ids, or a few turns have.

        A write wakes the device process, which costs more than all else that is done for a message of one row.
        """
        if self._announced != announced and turn < MAX_TURNS:
            self._loop.call_soon(self._flush_when_quiet, self._announced, turn + 1)
            return
        self._flush_planned = False
        self._flush()

    def _flush(self) -> None:
        try:
            self._channel.flush()
        except OSError:
            self._on_loss()
            return
        if self._channel.backlog_bytes:
            self._loop.add_writer(self._channel, self._on_writable)

    def _on_writable(self) -> None:
        self._loop.remove_writer(self._channel)
        self._flush()
