"""What Prometheus reads is what the vitals hold, under names that obey its rules and stand in the documentation."""

from __future__ import annotations

import math
import re
import time
from dataclasses import replace
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from seedbed.common.errors import InvalidMessageError
from seedbed.common.info_numbers import MAX_NUMBERS
from seedbed.server.monitoring.prometheus import METRICS, ServerFacts, metrics_page
from seedbed.server.shared.vitals import COUNTERS, GAUGES, STAGES, Phase, VitalsTable

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def facts() -> ServerFacts:
    """A server with two frontends that serves."""
    table = VitalsTable(2)
    table.device["phase"] = Phase.SERVING
    table.device["turn_s"] = table.device["tick_s"] = time.monotonic()
    return ServerFacts(vitals=table, stall_limit_s=60.0, num_slots=16, frames_per_step=4, version="1.2.3")


def samples(facts: ServerFacts) -> dict[tuple[str, str], float]:
    """(name, value of its label or "") -> number, as a scraper sees it."""
    return {
        (sample.name, next(iter(sample.labels.values()), "")): sample.value
        for family in text_string_to_metric_families(metrics_page(facts).decode())
        for sample in family.samples
    }


def test_numbers_are_those_of_the_vitals(facts: ServerFacts) -> None:
    device, (first, second) = facts.vitals.device, facts.vitals.frontends
    device["agent_steps"], device["clients"] = 1000, 3
    first["messages"], second["messages"] = 5, 7
    first.refuse(InvalidMessageError("no"))
    found = samples(facts)
    assert found["seedbed_agent_steps_total", ""] == 1000
    assert found["seedbed_env_frames_total", ""] == 4000
    assert found["seedbed_messages_total", ""] == 12
    assert found["seedbed_clients_connected", ""] == 3
    assert found["seedbed_messages_rejected_total", "InvalidMessageError"] == 1
    assert found["seedbed_slots", ""] == 16
    assert found["seedbed_info", "1.2.3"] == 1


def test_every_number_of_one_of_several_learners_has_its_rank(facts: ServerFacts) -> None:
    """Beside the label that a metric has of its own; a single learner has none."""
    pages = (metrics_page(replace(facts, replica=2)), metrics_page(facts))
    labels = [
        [sample.labels for family in text_string_to_metric_families(page.decode()) for sample in family.samples]
        for page in pages
    ]
    assert all(found["replica"] == "2" for found in labels[0])
    assert [{k: v for k, v in found.items() if k != "replica"} for found in labels[0]] == labels[1]


def test_histograms_are_cumulative_and_in_seconds(facts: ServerFacts) -> None:
    for seconds in (0.5e-6, 3e-6, 1e9):
        facts.vitals.device.observe("inference", seconds)
    found = samples(facts)
    buckets = {bound: value for (name, bound), value in found.items() if name == "seedbed_inference_seconds_bucket"}
    assert buckets["1e-06"] == 1
    assert buckets["2e-06"] == 1
    assert buckets["4e-06"] == 2
    assert buckets["+Inf"] == found["seedbed_inference_seconds_count", ""] == 3
    assert found["seedbed_inference_seconds_sum", ""] == pytest.approx(1e9)
    facts.vitals.device.observe_batch(64)
    found = samples(facts)
    assert (found["seedbed_batch_size_bucket", "32.0"], found["seedbed_batch_size_bucket", "64.0"]) == (0, 1)


def test_what_is_not_known_yet_is_not_a_number(facts: ServerFacts) -> None:
    found = samples(facts)
    for name in ("policy_lag", "loss", "episode_return_mean", "checkpoint_age_seconds", "learner_update_age_seconds"):
        assert math.isnan(found[f"seedbed_{name}", ""]), name


def test_numbers_of_environments_have_their_names_as_labels(facts: ServerFacts) -> None:
    facts.vitals.info.write({"is_success": 0.5, "lap/time": -3.0})
    facts.vitals.info.write({f"made-up-{number}": 1.0 for number in range(100)})
    facts.vitals.info.write({"is_success": 0.75})
    found = samples(facts)
    assert found["seedbed_episode_info_mean", "is_success"] == 0.75
    assert found["seedbed_episode_info_mean", "lap/time"] == -3
    assert sum(name == "seedbed_episode_info_mean" for name, _ in found) == MAX_NUMBERS
    assert facts.vitals.read_only().info.read() == facts.vitals.info.read()


def test_health_is_a_number_too(facts: ServerFacts) -> None:
    assert samples(facts)["seedbed_ready", ""] == 0, "no frontend has ever beaten"
    for frontend in facts.vitals.frontends:
        frontend["tick_s"] = time.monotonic()
    assert samples(facts)["seedbed_ready", ""] == 1


def test_names_obey_the_rules_of_prometheus() -> None:
    """https://prometheus.io/docs/practices/naming: base units, _total for counters and for them alone."""
    names = [entry.name for entry in METRICS]
    assert len(names) == len(set(names))
    for entry in METRICS:
        assert re.fullmatch(r"seedbed_[a-z][a-z_]*[a-z]", entry.name)
        assert entry.name.endswith("_total") == (entry.kind == "counter"), entry.name
        assert not re.search(r"_(ms|us|kb|mb)(_|$)", entry.name)


def test_every_number_of_the_vitals_is_shown() -> None:
    """One that is kept and not shown would be missed when it is needed."""
    source = (ROOT / "server" / "monitoring" / "prometheus.py").read_text()
    shown = set(re.findall(r'"([a-z_]+)"', source))
    elsewhere = {"phase", "hands_over", "taken_s", "joined_s", "batches", "batch_rows"}  # in health, or a histogram
    assert (set(COUNTERS) | set(GAUGES) | set(STAGES)) - shown - elsewhere == set()


def test_the_documentation_lists_every_metric() -> None:
    page = (ROOT / "docs" / "reference" / "prometheus.md").read_text()
    lines = [f"| `{entry.name}` | {entry.kind} | {entry.help} |" for entry in METRICS]
    assert [line for line in page.splitlines() if line.startswith("| `seedbed_")] == lines
