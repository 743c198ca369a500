"""What happened, as records in append-only files: a line of JSON each, written in one piece, so kill -9 loses none.

A file for each start of the server ("incarnation") and one for the nemesis. Kinds of records, and what they hold
beside `kind`:

    server   start      num_slots, environment: out of `ECHO_SPECS`
             serving    from now on clients are answered
             begin      lease, slots, environments: a new lease holds these slots now
             cut        slots: whose lease is over
             balance    received, queued, dropped, open: where all transitions are, between two inference batches
             unroll     slot, lease, environment, first_seq, length, initial_state; lists over its rows: index, episode,
                        step (the first observation), shown (a checksum of all others), step_type, reward, discount,
                        age, state, action_mask, and action.NAME and last_action.NAME for each action array; over its
                        transitions: valid
             episode    environment, steps: of an episode that a client reports as ended
             sample     live, used: slots; leases: that hold them
             end        received, dropped: the account of a server that was asked to stop
    nemesis  fault      name, incarnation, environments: what was done, and whose leases it may cost; `healed` when it
                        was what a fault's end does
             stranger   name, status: how the server answered somebody who broke the rules
             problem    what: something that is wrong whatever the records say
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

Record = dict[str, Any]


class Writer:
    """Appends records to a file; from any thread."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        self._lock = threading.Lock()

    def write(self, kind: str, **values: Any) -> None:
        """Adds a record."""
        line = json.dumps({"kind": kind, **values}, separators=(",", ":")) + "\n"
        with self._lock:  # keeps the order of the lines that of the calls
            os.write(self._file, line.encode())

    def close(self) -> None:
        """Nothing more comes."""
        os.close(self._file)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Reader:
    """Reads a file that may still grow."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = 0

    def new(self) -> Iterator[Record]:
        """The complete records that came since the last call; none if there is no file yet."""
        if not self._path.exists():
            return
        with self._path.open("rb") as file:
            file.seek(self._offset)
            for line in file:
                if not line.endswith(b"\n"):  # its writer was killed, or is not finished
                    return
                self._offset += len(line)
                yield json.loads(line)


def server_file(directory: Path, incarnation: int) -> Path:
    """Where a start of the server, counted from 0, writes."""
    return directory / f"server-{incarnation}.jsonl"


def nemesis_file(directory: Path) -> Path:
    """Where the nemesis writes."""
    return directory / "nemesis.jsonl"


def read_servers(directory: Path) -> list[Iterator[Record]]:
    """The records of every incarnation, in order."""
    count = len(list(directory.glob("server-*.jsonl")))
    return [Reader(server_file(directory, incarnation)).new() for incarnation in range(count)]


def read_nemesis(directory: Path) -> list[Record]:
    """All records of the nemesis."""
    return list(Reader(nemesis_file(directory)).new())
