"""Ring of learners: each sends its newest parameters to the next one, and has the newest of the one before.

Messages of gloo cannot be polled (`Work.is_completed` stays false until somebody waits), so a thread sends and another
receives. Nobody waits for the other side to read: of what has not been read only the newest counts.
"""

from __future__ import annotations

import threading

import torch
from torch import Tensor

from seedbed.common.errors import PeerLostError
from seedbed.common.logs import name_thread
from seedbed.server.learning.exchange.link import Link

_TAG = 1
_END = 1.0
_LEAVE_S = 60.0


class Ring:
    """This learner's place in it.

    Attributes:
        failure: what has ended it before its time.
    """

    def __init__(self, link: Link, size: int) -> None:
        """Sends nothing yet.

        Args:
            link: to all learners; the ring has connections of its own.
            size: of a message, in float32 numbers.
        """
        self.failure: PeerLostError | None = None
        self._mail = link.mail()
        self._next, self._last = (link.rank + 1) % link.world, (link.rank - 1) % link.world
        self._size = size
        self._changed = threading.Condition()
        self._outbox: Tensor | None = None
        self._inbox: Tensor | None = None
        self._leaves = False
        self._threads = [
            threading.Thread(target=self._run, args=(work,), name=name, daemon=True)
            for name, work in (("ring-sends", self._send), ("ring-receives", self._receive))
        ]

    def start(self) -> None:
        """Begins to send and receive."""
        for thread in self._threads:
            thread.start()

    def post(self, message: Tensor) -> None:
        """Sends it in place of an older one that has not left yet; never waits."""
        with self._changed:
            self._outbox = message
            self._changed.notify_all()

    def take(self, timeout_s: float = 0.0) -> Tensor | None:
        """The newest message of the one before, once; None: there is none yet, or none new within the time."""
        with self._changed:
            if timeout_s:
                self._changed.wait_for(lambda: self._inbox is not None or self.failure is not None, timeout_s)
            message, self._inbox = self._inbox, None
            return message

    def leave(self) -> None:
        """Tells the next one, and waits until the one before has said the same; what comes meanwhile is dropped."""
        self.abandon()
        for thread in self._threads:
            thread.join(_LEAVE_S)

    def abandon(self) -> None:
        """Tells the next one, whose thread would wait for ever, and does not wait: somebody in this ring is gone."""
        with self._changed:
            self._leaves = True
            self._changed.notify_all()

    def _send(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._leaves or self._outbox is not None)
                message, self._outbox = self._outbox, None
            flag = torch.tensor([_END if message is None else 0.0])
            body = torch.zeros(self._size) if message is None else message
            self._mail.send(torch.cat((flag, body)), self._next, _TAG)
            if message is None:
                return

    def _receive(self) -> None:
        while True:
            letter = torch.empty(1 + self._size)
            self._mail.receive(letter, self._last, _TAG)
            if letter[0] == _END:
                return
            with self._changed:
                self._inbox = letter[1:]
                self._changed.notify_all()

    def _run(self, work: object) -> None:
        assert callable(work)
        name_thread(threading.current_thread().name)
        try:
            work()
        except PeerLostError as error:
            with self._changed:
                self.failure = error
                self._changed.notify_all()
