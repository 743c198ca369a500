"""The answer to `Status`: the vitals as a message."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from math import isfinite
from typing import Any

from seedbed.common.codec import protocol_version
from seedbed.common.process_stats import read_process
from seedbed.proto import seedbed_pb2 as pb
from seedbed.server.frontend.admission import FrontendConfig
from seedbed.server.shared.vitals import COUNTERS, STAGES, Histogram, Vitals, VitalsTable

_LEARNT = ("policy_lag_mean", "policy_lag_max", "episode_return_mean", "loss")


def status_message(
    config: FrontendConfig, vitals: VitalsTable, fleet: Sequence[Mapping[str, Any]] = ()
) -> pb.StatusResponse:
    """How the server is doing now.

    Args:
        config: of a frontend.
        vitals: of all processes.
        fleet: rows of its clients, where they were asked for.
    """
    device = vitals.device
    gauges = {name: vitals.total(name) for name in ("streams", "live_rows", "used_rows", "queued_unrolls")}
    if device["updates"]:  # before the first one zeros would mean nothing
        gauges |= {name: device[name] for name in _LEARNT}
    gauges |= {"num_slots": config.num_slots, "frames_per_step": config.spec.frames_per_step}
    gauges |= {"hands_over": device["hands_over"]}
    gauges |= {f"task/{task}/{number}": x for (number, task), x in vitals.numbers_of_tasks().items() if isfinite(x)}
    return pb.StatusResponse(
        protocol=protocol_version(),
        run_name=config.run_name,
        server_version=config.server_version,
        phase=int(device["phase"]),  # type: ignore[arg-type]  # numbers of the enumeration are those of the gauge
        uptime_s=time.monotonic() - device["started_s"],
        counters={name: vitals.total(name) for name in COUNTERS},
        gauges=gauges,
        stages={name: _histogram_message(vitals.histogram(name)) for name in STAGES},
        batch_sizes=_histogram_message(device.histogram("batch_sizes")),
        refusals=vitals.refusals(),
        processes=[message for name, one in vitals.processes.items() if (message := _process_message(name, one))],
        clients=list(map(_client_message, fleet)),
    )


def _histogram_message(histogram: Histogram) -> pb.Histogram:
    return pb.Histogram(sum=histogram.sum, buckets=histogram.buckets)


def _process_message(name: str, vitals: Vitals) -> pb.Process | None:
    pid = int(vitals["pid"])
    stats = read_process(pid) if pid else None
    return stats and pb.Process(name=name, pid=pid, cpu_s=stats.cpu_s, rss_bytes=stats.rss_bytes)


def _client_message(row: Mapping[str, Any]) -> pb.ClientStatus:
    return pb.ClientStatus(
        client_id=row["client"],
        host=row["host"] or "",
        environments=row["environments"],
        state=row["state"],
        since_s=row["since_s"],
        steps_per_s=row["steps_per_s"],
        think_ms=row["think_ms"],
        reconnects=row["reconnects"],
        last_seen_s=row["last_seen_s"],
    )
