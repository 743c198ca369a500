"""SIGINT and SIGTERM: the first asks to finish in order, the second ends the process at once.

Caught before anything slow is imported, so that a server may be told to stop at any moment of its life.
"""

from __future__ import annotations

import signal


class StopSignal:
    """What has been asked for so far.

    Attributes:
        name: of the signal that asked to finish; None: none has.
    """

    def __init__(self) -> None:
        self.name: str | None = None

    def catch(self) -> StopSignal:
        """Takes the two signals over; from the main thread. Returns itself."""
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._on_signal)
        return self

    def _on_signal(self, number: int, _: object) -> None:
        if self.name is not None:
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
        self.name = signal.Signals(number).name
