"""Figures of a server between two answers, and the page they become."""

from __future__ import annotations

import math

import pytest

from seedbed.env_client.top.figures import ClientFigures, Figures, TaskFigures, figures_between
from seedbed.env_client.top.screen import SORT_KEYS, Order, SortKey, columns_of, cut, draw, duration, ordered, pad
from seedbed.proto import seedbed_pb2 as pb


def status(uptime_s: float, steps: int, **gauges: float) -> pb.StatusResponse:
    """A server that answered so many steps in batches of 8, each of which took 2 ms."""
    batches = steps // 8
    return pb.StatusResponse(
        run_name="far",
        server_version="0.1.0",
        phase=pb.StatusResponse.PHASE_SERVING,
        uptime_s=uptime_s,
        counters={"agent_steps": steps, "messages": batches, "batches": batches, "batch_rows": steps, "updates": 7},
        gauges={
            "num_slots": 64,
            "used_rows": 36,
            "streams": 4,
            "queued_unrolls": 2,
            "frames_per_step": 4,
            **gauges,
        },
        stages={
            "inference": pb.Histogram(sum=batches * 0.002, buckets=[batches]),
            "residence": pb.Histogram(sum=batches * 0.05, buckets=[batches]),
            "update": pb.Histogram(sum=0, buckets=[0]),
        },
        batch_sizes=pb.Histogram(sum=steps, buckets=[0]),
        processes=[pb.Process(name="device", pid=7, cpu_s=uptime_s * 0.9, rss_bytes=300 << 20)],
    )


def client(name: str, think_ms: float | None = 10.0, state: str = "live") -> ClientFigures:
    return ClientFigures(
        client=name,
        host="192.0.2.7",
        environments=8,
        state=state,
        since_s=61.0,
        steps_per_s=100.0,
        think_ms=think_ms,
        reconnects=1,
        last_seen_s=0.04,
    )


def figures(**changes: object) -> Figures:
    found = figures_between(status(100, 8000), status(102, 16000, episode_return_mean=-20.5, loss=math.nan), 2.0)
    assert found is not None
    return Figures(**{**{name: getattr(found, name) for name in Figures.__slots__}, **changes})


def test_figures_are_of_the_time_between() -> None:
    found = figures()
    assert (found.rates["agent_steps"], found.rates["frames"], found.rates["updates"]) == (4000.0, 16000.0, 0.0)
    assert (found.batch_rows, found.environments, found.room) == (8.0, 36, 64)
    assert list(found.stages) == ["residence", "inference"]  # in order, without those that did not happen
    assert found.stages["inference"].mean_ms == pytest.approx(2.0)
    assert found.stages["inference"].share == 1.0
    assert found.stages["residence"].share is None
    assert found.cores["device"] == pytest.approx(0.9)
    assert found.learnt == {"episode_return_mean": -20.5}  # what is not known is left out


def test_a_restarted_server_has_no_figures() -> None:
    assert figures_between(status(100, 8000), status(3, 80), 1.0) is None


def test_page() -> None:
    lines = [line.text for line in draw(figures(), "192.0.2.1:7777   ALE/Pong-v5", Order(), 200)]
    assert lines[0] == "far   192.0.2.1:7777   ALE/Pong-v5   serving for 0:01:42   seedbed 0.1.0"
    assert lines[1].startswith("steps/s 4,000   frames/s 16,000   updates/s 0.0")
    assert lines[2] == "environments 36 of 64   streams 4   queued unrolls 2"
    assert lines[3] == "return -20.5"
    assert lines[5].startswith("BOTTLENECK  inference: the inference thread is busy 100% of the time")
    assert lines[6].startswith("            -> ")
    assert any(line.split()[:4] == ["inference", "2.00", "ms", "100%"] for line in lines)
    assert any(line.split()[:4] == ["device", "300", "MiB", "0.90"] for line in lines)
    assert not any("FLEET" in line for line in lines)


def test_fleet_fits_the_terminal() -> None:
    fleet = [client(f"box-{i}", 100.0 if i == 7 else 10.0) for i in range(30)]
    lines = draw(figures(clients=fleet), "here", Order(), 60, 30)
    assert len(lines) == 30
    assert max(columns_of(line.text) for line in lines) <= 60
    (title,) = (line.text for line in lines if line.text.startswith("FLEET"))
    rows = lines[[line.text for line in lines].index(title) + 2 :]
    assert title == f"FLEET  30 clients, 240 environments, the first {len(rows)} of them"
    assert rows[0].text.startswith("box-7 ")  # the one that thinks longest comes first
    assert [row.style for row in rows[:2]] == ["mark", "plain"]


@pytest.mark.parametrize("key", SORT_KEYS)
def test_fleet_is_sorted_by_any_column(key: SortKey) -> None:
    fleet = [client("b", 3.0), client("a", None), client("c", 5.0, "grace")]
    names = "".join(one.client for one in ordered(fleet, Order(key)))
    again = "".join(one.client for one in ordered(fleet, Order(key, reverse=True)))
    expected = {"client": "abc", "think": "cba", "state": "cab"}.get(key, "abc")
    assert names == expected
    if key == "client":
        assert again == "cba"
    if key == "think":
        assert again == "bca"  # what is not known stands last either way


def test_strangers_cannot_write_on_the_terminal() -> None:
    evil = client("\x1b[2J\x07evil\n\u202e")
    text = "\n".join(line.text for line in draw(figures(clients=[evil], run="\x1b]0;x\x07"), "here", Order(), 200))
    assert not set(text) & {"\x1b", "\x07", "\u202e"}
    assert "?[2J?evil??" in text


def test_wide_letters_take_two_columns() -> None:
    assert columns_of("日本") == 4
    assert cut("日本語", 5) == "日本"
    assert pad("日本語", 5, left=True) == "日本 "
    assert pad("ab", 4, left=False) == "  ab"
    assert duration(3 * 86400 + 61) == "72:01:01"


def test_several_tasks_have_a_line_each() -> None:
    shared = {"task/ALE/Pong/frames": 300.0, "task/ALE/Pong/environments": 4, "task/ALE/Pong/agent_steps": 75}
    shared |= {"task/Catch/frames": 100.0, "task/Catch/agent_steps": 100, "task/Catch/return_mean": 0.25}
    found = figures_between(status(100, 8000), status(102, 16000, **shared), 2.0)
    assert found is not None
    page = {line.text.split()[0]: line for line in draw(found, "", Order(), 120) if line.text}
    assert page["TASK"].text.split() == ["TASK", "2", "envs", "steps", "share", "return", "cohort"]
    assert page["ALE/Pong"].text.split() == ["ALE/Pong", "4", "75", "75%", "-", "-"]
    assert page["Catch"].text.split() == ["Catch", "0", "100", "25%", "0.25", "-"]
    assert (page["ALE/Pong"].style, page["Catch"].style) == ("plain", "mark")


def test_of_dozens_of_tasks_the_worst_are_shown() -> None:
    tasks = [TaskFigures(name=f"t{n}", environments=1, agent_steps=1, score=n / 57) for n in range(57)]
    lines = [line.text for line in draw(figures(tasks=tasks[::-1]), "", Order(), 120)]
    heading = next(number for number, line in enumerate(lines) if line.startswith("TASK"))
    assert "TASK  57, the worst 12 of them" in lines[heading]
    assert lines[heading + 1].split()[0] == "t0"
    assert lines[heading + 12].split()[0] == "t11"
    assert len([line for line in lines[heading:] if line.startswith("t")]) == 12
    assert not any(line.startswith("TASK") for line in (one.text for one in draw(figures(), "", Order(), 120)))
