"""What one driver process has counted since it started; two of them, subtracted, tell what happened in between."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from seedbed.common.process_stats import read_process
from seedbed.env_client.loadtest.latency import Counts, bucket_of, from_sparse, no_counts, to_sparse


@dataclass(slots=True)
class Tally:
    """Counters of a driver; all of them only grow.

    Attributes:
        messages: Steps that were answered.
        agent_steps: rows of them that were not LAST.
        latency: of each, from when it was due to its actions, see `latency.Counts`.
        latency_s: their sum.
        exchange_s: sum of the part of it in which the client really waited: without what it was behind its schedule.
        pack_s: spent packing messages.
        stepping_s: time that environments took for their steps, over all clients.
        lag_s, lags: how long the event loop took to come round, and how often that was looked at.
        sent_bytes, received_bytes: messages, without what gRPC and TCP add.
        answered_clients: that got at least one answer.
        failed_clients: that gave up.
        errors: what went wrong, by kind.
        examples: the first text of each kind.
    """

    messages: int = 0
    agent_steps: int = 0
    latency: Counts = field(default_factory=no_counts)
    latency_s: float = 0.0
    exchange_s: float = 0.0
    pack_s: float = 0.0
    stepping_s: float = 0.0
    lag_s: float = 0.0
    lags: int = 0
    sent_bytes: int = 0
    received_bytes: int = 0
    answered_clients: int = 0
    failed_clients: int = 0
    errors: Counter[str] = field(default_factory=Counter)
    examples: dict[str, str] = field(default_factory=dict)

    def answer(self, latency_s: float, exchange_s: float, num_agent_steps: int) -> None:
        """Counts a message and its answer."""
        self.messages += 1
        self.agent_steps += num_agent_steps
        self.latency[bucket_of(latency_s)] += 1
        self.latency_s += latency_s
        self.exchange_s += exchange_s

    def fail(self, kind: str, text: str) -> None:
        """Counts something that went wrong."""
        self.errors[kind] += 1
        self.examples.setdefault(kind, text)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """A driver's tally at one moment, with what the process had used until then.

    Attributes:
        time_s: by the monotonic clock that all processes of a machine share.
        cpu_s: of the process.
        rss_bytes: its memory now.
        tally: so far.
    """

    time_s: float
    cpu_s: float
    rss_bytes: int
    tally: Tally

    @classmethod
    def take(cls, tally: Tally) -> Sample:
        """Of this process, now."""
        stats = read_process(os.getpid())
        assert stats is not None, "this process lives"
        return cls(time_s=time.monotonic(), cpu_s=stats.cpu_s, rss_bytes=stats.rss_bytes, tally=tally)

    def to_json(self) -> dict[str, Any]:
        """One line for the parent process."""
        tally = {name: getattr(self.tally, name) for name in Tally.__dataclass_fields__}
        tally["latency"] = to_sparse(self.tally.latency)
        return {"time_s": self.time_s, "cpu_s": self.cpu_s, "rss_bytes": self.rss_bytes, "tally": tally}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Sample:
        """The inverse of `to_json`."""
        tally = dict(data["tally"])
        tally |= {"latency": from_sparse(tally["latency"]), "errors": Counter(tally["errors"])}
        return cls(**{**data, "tally": Tally(**tally)})


def difference(after: Tally, before: Tally) -> Tally:
    """What was counted between two moments. Examples are all that are known."""
    values = {
        name: getattr(after, name) - getattr(before, name) for name in Tally.__dataclass_fields__ if name != "examples"
    }
    return Tally(**values, examples=after.examples)


def total(tallies: list[Tally]) -> Tally:
    """Of all drivers together."""
    result = Tally()
    for tally in tallies:
        for name in Tally.__dataclass_fields__:
            if name != "examples":
                setattr(result, name, getattr(result, name) + getattr(tally, name))
        result.examples = tally.examples | result.examples
    return result
