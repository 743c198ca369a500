"""The page of metrics for Prometheus."""

from __future__ import annotations

from seedbed.server.monitoring.prometheus import METRICS

_HEAD = """# Metrics for Prometheus

Written by `make docs` from the code: what `GET /metrics` of a server answers
([operations.md](../operations.md)). Numbers of a run's `metrics.jsonl` and trackers are in [metrics.md](../metrics.md).

| metric | kind | |
|---|---|---|
"""


def page() -> str:
    """The whole page."""
    rows = [f"| `{entry.name}` | {entry.kind} | {entry.help.replace('|', chr(92) + '|')} |" for entry in METRICS]
    return _HEAD + "\n".join([*rows, ""])
