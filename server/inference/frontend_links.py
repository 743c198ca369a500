"""The inference thread's ends of the channels to all frontends: who has something to say, who is gone.

A frontend that is gone, or takes nothing any more, is only noted while messages are handled or sent, and given up in
`poll`, where neither a batch nor a message is in hand: giving it up lets waiting clients have its slots, and a batch
under way would remember its rows under their leases.
"""

from __future__ import annotations

import selectors
from collections import deque

from seedbed.server.shared.id_channel import Control, IdChannel

_MAX_BACKLOG_BYTES = 16 << 20  # a frontend that takes nothing any more is dead

Message = int | Control


class FrontendLinks:
    """Used by the inference thread; `adopt` and `lost` by the supervisor too.

    Attributes:
        lost: numbers of frontends that were given up, for the supervisor to replace.
    """

    def __init__(self) -> None:
        self.lost: deque[int] = deque()
        self._selector = selectors.DefaultSelector()
        self._channels: dict[int, IdChannel] = {}
        self._newcomers: deque[tuple[int, IdChannel]] = deque()
        self._broken: set[int] = set()

    def adopt(self, number: int, channel: IdChannel) -> None:
        """Serves the frontend at the other end of a channel from the next `poll` on; safe from any thread."""
        self._newcomers.append((number, channel))

    def poll(self, timeout_s: float) -> tuple[list[tuple[int, list[Message]]], list[int]]:
        """Waits for messages, that long at most, and sends what was held back.

        Returns:
            What each frontend said, in order, and the frontends given up now.
        """
        while self._newcomers:
            number, channel = self._newcomers.popleft()
            self._channels[number] = channel
            self._selector.register(channel, selectors.EVENT_READ, number)
        received = []
        for key, events in self._selector.select(timeout_s):
            if events & selectors.EVENT_READ and (messages := self._receive(key.data)):
                received.append((key.data, messages))
            if events & selectors.EVENT_WRITE:
                self._flush(key.data)
        given_up = sorted(self._broken)
        self._broken.clear()
        for number in given_up:
            self._give_up(number)
        return received, given_up

    def send(self, number: int, message: Control | list[int]) -> None:
        """Sends a control message or slot ids to a frontend; nothing happens if it is gone."""
        channel = self._channels.get(number)
        if channel is None:
            return
        try:
            channel.send_ids(message) if isinstance(message, list) else channel.send(message)
        except OSError:
            self._broken.add(number)
            return
        if channel.backlog_bytes:
            self._selector.modify(channel, selectors.EVENT_READ | selectors.EVENT_WRITE, number)
        if channel.backlog_bytes > _MAX_BACKLOG_BYTES:
            self._broken.add(number)

    def broadcast(self, control: Control) -> None:
        """Sends a control message to every frontend."""
        for number in self._channels:
            self.send(number, control)

    def close(self) -> None:
        """Closes all channels; frontends take that as the end of this process."""
        for channel in self._channels.values():
            channel.close()
        self._channels.clear()
        self._selector.close()

    def _receive(self, number: int) -> list[Message]:
        try:
            return self._channels[number].receive()
        except EOFError:
            self._broken.add(number)
            return []

    def _flush(self, number: int) -> None:
        channel = self._channels[number]
        try:
            channel.flush()
        except OSError:
            self._broken.add(number)
        if not channel.backlog_bytes:
            self._selector.modify(channel, selectors.EVENT_READ, number)

    def _give_up(self, number: int) -> None:
        channel = self._channels.pop(number)
        self._selector.unregister(channel)
        channel.close()
        self.lost.append(number)
