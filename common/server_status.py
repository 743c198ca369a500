"""What a server says about itself, and what happened between two such answers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from seedbed.proto import seedbed_pb2 as pb


@dataclass(frozen=True, slots=True)
class Stage:
    """Durations of one stage.

    Attributes:
        sum_s: of all.
        count: how many.
    """

    sum_s: float = 0.0
    count: int = 0

    @property
    def mean_ms(self) -> float:
        """0 when there were none."""
        return self.sum_s / self.count * 1000 if self.count else 0.0


@dataclass(frozen=True, slots=True)
class ProcessUse:
    """What a process of the server has used: CPU seconds so far, memory now."""

    cpu_s: float
    rss_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerStatus:
    """The parts of the protocol's StatusResponse that a verdict needs, by the names that the protocol gives them.

    Attributes:
        uptime_s: of the server.
        num_slots: environments that it has room for.
        used_slots: of those, under a lease now.
        streams: open now, each with one request at a time.
        counters: since it started.
        stages: since it started; a stage that never happened may be missing.
        batch_sizes: bucket i counts inference batches of at most 2^i rows, and of more than half of that.
        processes: by name, such as "device" and "frontend-0".
        hands_over: inference hands unrolls to the learner now, and may have to wait for it.
    """

    uptime_s: float
    num_slots: int
    used_slots: int
    streams: int
    counters: Mapping[str, float]
    stages: Mapping[str, Stage]
    batch_sizes: tuple[int, ...]
    processes: Mapping[str, ProcessUse]
    hands_over: bool = False

    def stage(self, name: str) -> Stage:
        """One stage; an empty one if it never happened."""
        return self.stages.get(name, Stage())

    def since(self, before: ServerStatus) -> ServerStatus | None:
        """What happened after `before`; None if the server was restarted in between.

        Memory, streams and what is handed over are those of now.
        """
        if self.uptime_s < before.uptime_s:
            return None
        return ServerStatus(
            uptime_s=self.uptime_s - before.uptime_s,
            num_slots=self.num_slots,
            used_slots=self.used_slots,
            streams=self.streams,
            counters={name: value - before.counters.get(name, 0.0) for name, value in self.counters.items()},
            stages={
                name: Stage(stage.sum_s - before.stage(name).sum_s, stage.count - before.stage(name).count)
                for name, stage in self.stages.items()
            },
            batch_sizes=tuple(now - then for now, then in zip(self.batch_sizes, before.batch_sizes, strict=True)),
            processes={
                name: ProcessUse(use.cpu_s - before.processes[name].cpu_s, use.rss_bytes)
                for name, use in self.processes.items()
                if name in before.processes
            },
            hands_over=self.hands_over,
        )


def status_from_message(message: pb.StatusResponse) -> ServerStatus:
    """Reads the wire form."""
    return ServerStatus(
        uptime_s=message.uptime_s,
        num_slots=int(message.gauges["num_slots"]),
        used_slots=int(message.gauges["used_rows"]),
        streams=int(message.gauges["streams"]),
        counters=dict(message.counters),
        stages={name: Stage(stage.sum, sum(stage.buckets)) for name, stage in message.stages.items()},
        batch_sizes=tuple(message.batch_sizes.buckets),
        processes={process.name: ProcessUse(process.cpu_s, process.rss_bytes) for process in message.processes},
        hands_over=bool(message.gauges["hands_over"]),
    )
