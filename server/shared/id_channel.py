"""The ordered channel between the device process and one frontend: slot ids and small control messages.

On the hot path a message is one 4-byte id: "the rows of this lease are filled" one way, "its actions are written" the
other way. Everything else (opening and ending leases, episode ends, draining) is a JSON object behind a marker. Both
kinds share one socket, so their order is kept: no id can overtake the message that ends its lease.

The device side never blocks: what a slow frontend does not take is kept and sent later.
"""

from __future__ import annotations

import json
import socket
import struct
from collections.abc import Iterable
from typing import Any

Control = dict[str, Any]

_MARKER = 0xFFFFFFFF
_ID = struct.Struct("<I")
_HEADER = struct.Struct("<II")
_READ_BYTES = 1 << 16


class IdChannel:
    """One end. Create both with `pair`; the frontend's end is handed to it when it is spawned."""

    def __init__(self, end: socket.socket) -> None:
        self._socket = end
        self._socket.setblocking(False)
        self._incoming = bytearray()
        self._outgoing = bytearray()

    @classmethod
    def pair(cls) -> tuple[IdChannel, IdChannel]:
        """Two connected ends."""
        ours, theirs = socket.socketpair()
        return cls(ours), cls(theirs)

    def fileno(self) -> int:
        """For selectors."""
        return self._socket.fileno()

    def close(self) -> None:
        """Closes this end; the other one reads an end of file."""
        self._socket.close()

    def queue(self, message: int | Control) -> None:
        """Queues a slot id or a control message; `flush` sends it."""
        if isinstance(message, int):
            self._outgoing += _ID.pack(message)
        else:
            payload = json.dumps(message, separators=(",", ":")).encode()
            self._outgoing += _HEADER.pack(_MARKER, len(payload)) + payload

    def send_ids(self, ids: Iterable[int]) -> None:
        """Queues slot ids and sends what can be sent now."""
        for slot in ids:
            self.queue(slot)
        self.flush()

    def send(self, control: Control) -> None:
        """Queues one control message and sends what can be sent now."""
        self.queue(control)
        self.flush()

    @property
    def backlog_bytes(self) -> int:
        """Bytes the other end has not taken yet."""
        return len(self._outgoing)

    def flush(self) -> None:
        """Sends as much of the backlog as the socket takes. Raises OSError when the other end is gone."""
        while self._outgoing:
            try:
                sent = self._socket.send(self._outgoing)
            except BlockingIOError:
                return
            del self._outgoing[:sent]

    def receive(self) -> list[int | Control]:
        """Reads all that has arrived, in order: ids and control messages.

        Raises:
            EOFError: the other end is gone.
        """
        ended = False
        while not ended:
            try:
                data = self._socket.recv(_READ_BYTES)
            except BlockingIOError:
                break
            except ConnectionError:
                data = b""
            ended = not data
            self._incoming += data
            if len(data) < _READ_BYTES:
                break
        found = self._parse()
        if ended and not found:  # what came before the end is delivered before it
            raise EOFError
        return found

    def _parse(self) -> list[int | Control]:
        found: list[int | Control] = []
        data, position = self._incoming, 0
        while len(data) - position >= 4:
            (word,) = _ID.unpack_from(data, position)
            if word != _MARKER:
                found.append(word)
                position += 4
                continue
            if len(data) - position < _HEADER.size:
                break
            (_, length) = _HEADER.unpack_from(data, position)
            end = position + _HEADER.size + length
            if len(data) < end:
                break
            found.append(json.loads(data[position + _HEADER.size : end]))
            position = end
        del data[:position]
        return found

    def __getstate__(self) -> dict[str, Any]:
        return {"socket": self._socket}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["socket"])  # type: ignore[misc]
