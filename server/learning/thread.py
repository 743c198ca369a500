"""The thread that the learner's loop runs in: how it fails, and whether what it has learnt may be saved."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from seedbed.common.errors import DivergedError, PeerLostError
from seedbed.common.logs import name_thread
from seedbed.server.learning.loop import LearnerLoop

logger = logging.getLogger(__name__)


class LearnerThread:
    """Runs the loop until its source is closed.

    Attributes:
        loop: what it runs.
    """

    def __init__(self, loop: LearnerLoop, max_lost_updates: int, on_failure: Callable[[], None]) -> None:
        """Starts nothing yet.

        Args:
            loop: what it runs.
            max_lost_updates: so many updates in a row without a finite gradient mean that learning is over.
            on_failure: called in the thread when the loop has raised something.
        """
        self.loop = loop
        self._max_lost_updates = max_lost_updates
        self._on_failure = on_failure
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="learner", daemon=True)

    @property
    def sound(self) -> bool:
        """Whether its parameters are worth saving: not those of an update that broke off."""
        whole = self._failure is None or isinstance(self._failure, PeerLostError)
        return whole and self.loop.lost_streak < self._max_lost_updates

    def start(self) -> None:
        """Starts it."""
        self._thread.start()

    def join(self) -> None:
        """Waits for its end, if it was ever started; close the source first."""
        if self._thread.ident is not None:
            self._thread.join()

    def check(self) -> None:
        """Raises what ended it, if anything did.

        Raises:
            DivergedError: it goes on, but learns nothing any more.
        """
        if self._failure is not None:
            raise self._failure
        if not self.sound:
            lost = self.loop.lost_streak
            raise DivergedError(f"expected finite gradients, the latest {lost} updates had none (--max-lost-updates)")

    def _run(self) -> None:
        name_thread("learner")
        try:
            self.loop.run()
        except BaseException as error:
            if not isinstance(error, PeerLostError):  # that is no defect of ours, and the run ends with its sentence
                logger.exception("learning failed")
            self._failure = error
            self._on_failure()
