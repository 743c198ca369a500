"""What a load test leaves for people and programs: table, details, JSON, CSV and a picture."""

from __future__ import annotations

import csv
import json
import math
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from seedbed.common.errors import MissingExtraError
from seedbed.common.specs import ArraySpec, EnvironmentSpec
from seedbed.common.verdict import judge
from seedbed.env_client.loadtest import files, plot, report
from seedbed.env_client.loadtest.latency import Percentiles
from seedbed.env_client.loadtest.points import Load
from seedbed.env_client.loadtest.report import LoadPoint
from tests.common.test_verdict import measurement


def point(clients: int, steps_per_s: float, rate: int | None = None, envs: int = 8) -> LoadPoint:
    load = Load(clients=clients, envs_per_client=envs, rate=rate)
    found = replace(measurement(), load=load, agent_steps_per_s=steps_per_s, batch_sizes={"1": 20, "2": 20, "8": 60})
    return LoadPoint(found, judge(found.figures))


POINTS = [point(1, 1000), point(2, 1900), point(4, 1800)]


def test_header_and_rows_are_columns() -> None:
    header, row = report.header(), report.row(POINTS[1])
    for name, value in (("clients", "2"), ("steps/s", "1,900"), ("p99", "5.00"), ("batch", "8.0"), ("errors", "0")):
        end = header.index(name) + len(name)
        assert row[:end].endswith(f" {value}"), (name, row)
    assert row.endswith("  latency")
    assert "4,000" in report.row(point(2, 1900, rate=4000))


def test_the_best_load_is_told_in_full() -> None:
    best = report.best_of(POINTS)
    assert best is POINTS[1]
    text = report.details(best)
    assert "2 clients of 8 environments; 3.0 s in 3 windows" in text
    assert "inference                     1.000    62%" in text
    assert "3 to 4" not in text, "a bucket that is empty"
    assert "5 to 8                           60    60%" in text
    assert "\n  1                                20" in text
    assert ["device", "0.30", "10.0", "50"] in [line.split() for line in text.splitlines()]
    assert text.endswith(str(best.verdict))


def test_what_the_server_does_not_tell_is_left_out() -> None:
    found = replace(measurement(), batch_rows_mean=None, batch_sizes={}, round_trip_ms={"client": 0.0, "network": 0.0})
    text = report.details(LoadPoint(found, judge(found.figures)))
    assert "inference batch" not in text
    assert "-" in report.row(LoadPoint(found, judge(found.figures))).split()


def test_the_title_names_server_and_observations() -> None:
    spec = EnvironmentSpec(
        environment="x/Y-v0",
        observations=(ArraySpec(name="observation", dtype="uint8", shape=(84, 84), low=(0,), high=(255,)),),
        actions=(ArraySpec(name="action", dtype="int64", low=(0,), high=(3,), kind="discrete"),),
    )
    title = report.describe_test(spec, "h:1", open_loop=True)
    assert title == "open loop against h:1, which serves x/Y-v0: uint8[84, 84]"


def test_json_is_a_list_of_loads(tmp_path: Path) -> None:
    found = replace(measurement(), latency_ms=Percentiles(p50=1.0, p90=1.0, p95=1.0, p99=1.0, max=math.nan))
    path = tmp_path / "new" / "load.json"
    files.write_json(path, [*POINTS, LoadPoint(found, judge(found.figures))])
    data = json.loads(path.read_text())
    assert [load["clients"] for load in data] == [1, 2, 4, 4]
    assert data[1]["agent_steps_per_s"] == 1900
    assert data[1]["latency_ms"]["p99"] == 5.0
    assert data[1]["verdict"]["stage"] == "latency"
    assert data[3]["latency_ms"]["max"] is None


def test_csv_has_a_line_for_each_load_even_where_columns_differ(tmp_path: Path) -> None:
    quiet = replace(measurement(errors={"LeaseLost": 2, "x": 1}), round_trip_ms={"client": 0.1, "network": 0.5})
    files.write_csv(tmp_path / "load.csv", [POINTS[0], LoadPoint(quiet, judge(quiet.figures))])
    with (tmp_path / "load.csv").open() as file:
        lines = list(csv.DictReader(file))
    assert [line["errors"] for line in lines] == ["0", "3"]
    assert [line["round_trip_ms.inference"] for line in lines] == ["1.0", ""]
    assert lines[0]["latency_ms.p99"] == "5.0"
    assert lines[0]["verdict.stage"] == "latency"


def test_curves_are_sorted_and_apart() -> None:
    closed = plot.curves([point(4, 3.0), point(1, 1.0), point(4, 9.0, envs=16)])
    assert closed == {
        "8 environments per client": [(1, 1.0, 5.0), (4, 3.0, 5.0)],
        "16 environments per client": [(4, 9.0, 5.0)],
    }
    opened = plot.curves([point(4, 100.0, rate=100), point(4, 190.0, rate=200)])
    assert opened == {"4 clients, 8 environments per client": [(100, 100.0, 5.0), (200, 190.0, 5.0)]}


@pytest.mark.parametrize("rate", [None, 4000])
def test_a_picture_is_drawn(tmp_path: Path, rate: int | None) -> None:
    path = tmp_path / "new" / "load.png"
    plot.write_plot(path, [point(1, 1000, rate), point(2, 1900, rate)], "a title")
    assert path.read_bytes().startswith(b"\x89PNG")


def test_a_missing_extra_is_told_before_the_test(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(MissingExtraError, match="plot"):
        plot.require_matplotlib()
