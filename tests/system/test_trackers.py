"""Trackers of a real run: TensorBoard beside one that hangs and one that raises; the run ends well and in time."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests.system.processes import FAST, read_metrics, run

pytestmark = pytest.mark.system

SOURCE = """
import concurrent.futures, time

class Hangs:
    def start(self, run): ...
    def log(self, metrics, step):
        with concurrent.futures.ThreadPoolExecutor() as pool:  # whose threads an interpreter waits for at its end
            pool.submit(time.sleep, 10_000).result()
    def finish(self, summary): ...

class Raises:
    def start(self, run): raise ConnectionError("no network")
    def log(self, metrics, step): ...
    def finish(self, summary): ...
"""


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_trackers_that_hang_and_raise_cost_a_warning(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    (tmp_path / "odd_trackers.py").write_text(SOURCE)
    names = "tensorboard,odd_trackers:Hangs,odd_trackers:Raises"
    options = ("--import-from", tmp_path, "--max-steps", 3000, *FAST, "--run-dir", tmp_path / "run")
    begun_s = time.monotonic()
    done = run("train", "--preset", "cartpole", "--track", names, *options)
    took_s = time.monotonic() - begun_s
    done.assert_well()
    lines = read_metrics(tmp_path / "run")
    assert lines[-1]["agent_steps"] >= 3000
    assert "odd_trackers:Hangs was not ready within 20 s" in done.stderr
    assert done.stderr.count("odd_trackers:Raises") == 3
    assert "off after 3 errors" in done.stderr
    assert took_s < lines[-1]["wall_s"] + 20 + 60, "its end waits for nothing else"
    events = EventAccumulator(str(tmp_path / "run"), size_guidance={"histograms": 0})
    events.Reload()
    assert len(events.Scalars("time/total_timesteps")) == len(lines)
    assert {"histograms/policy_lag", "histograms/log_rho"} <= set(events.Tags()["histograms"])
    assert {"policy_lag_p50", "log_rho_p95"} <= set(lines[-1])

    refused = run("train", "--max-steps", 6000, "--run-dir", tmp_path / "run")
    refused.assert_error(2, "--track odd_trackers:Hangs would import a module that a file names and nobody typed")
