"""A server that is killed and started again gets its whole fleet back, soon and not all at the same moment."""

from __future__ import annotations

import pytest

from tests.bench.fleet import measure

pytestmark = pytest.mark.system

BACK_WITHIN_S = 15.0
"""Of readiness: what clients are promised to need, at most (docs/operations.md)."""


@pytest.mark.timeout(400)
@pytest.mark.parametrize(
    "num_clients", [pytest.param(3, marks=pytest.mark.slow), pytest.param(12, marks=pytest.mark.slow)]
)
def test_all_clients_come_back(num_clients: int) -> None:
    figures = measure(num_clients=num_clients, step_ms=50.0, patience_s=120.0)
    assert figures["all_back_after_ready_s"] < BACK_WITHIN_S
    waits = figures["waits_s"]
    assert len(waits) >= num_clients
    assert len(set(waits)) > len(waits) / 2, "drawn, not fixed: they do not come all at once"
    assert max(waits) <= 5.0
    before, after = figures["held_open"], figures["held_open_after"]
    assert set(before["open_files"]) == {"device", "frontend", "http", "resource tracker"}
    assert before.keys() == after.keys()
    for role, files in before["open_files"].items():
        assert after["open_files"][role] <= files + 2, "a restarted server holds no more than a fresh one"
