"""What has asked a server to stop: the first signal to finish in order, a second urgent one to end the process at once.

Caught before anything slow is imported, so that a server may be told to stop at any moment of its life.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading

from seedbed.common.stop_signals import URGENT, on_stop


class StopSignal:
    """What has been asked for so far.

    Attributes:
        name: of the signal that asked to finish; None: none has.
    """

    def __init__(self) -> None:
        self.name: str | None = None
        self._urgent = False

    def catch(self) -> StopSignal:
        """Takes all signals over that say stop; from the main thread. Returns itself."""
        on_stop(self._on_signal)
        return self

    def at_end_of_input(self) -> None:
        """Asks to finish when standard input ends: whoever started this process is gone."""
        threading.Thread(target=self._read, name="input", daemon=True).start()

    def _read(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            while os.read(0, 1024):
                continue
        self.name = self.name or "the end of its parent"

    def _on_signal(self, number: int, _: object) -> None:
        """A terminal that closes sends two of its own, a service manager one beside SIGTERM: these hurry nobody."""
        urgent = number in URGENT
        if self._urgent and urgent:
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
        self._urgent = self._urgent or urgent
        self.name = self.name or signal.Signals(number).name
