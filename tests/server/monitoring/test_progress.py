"""What a person sees: a table on a terminal, lines elsewhere."""

from __future__ import annotations

import errno
import io
import logging
import re
import sys
from dataclasses import replace

import pytest
from rich.console import Console

from seedbed.common.logs import setup_logging
from seedbed.server.monitoring.progress import (
    LiveProgress,
    PlainProgress,
    Status,
    TolerantProgress,
    describe,
    make_progress,
)
from seedbed.server.run.cohorts import CohortRecord, Verdict

STATUS = Status(
    elapsed_s=3725.4,
    agent_steps=1_234_567,
    frames=4_938_268,
    updates=1929,
    episodes=321,
    steps_per_s=1000.0,
    frames_per_s=4000.0,
    episode_return_mean=-12.345,
    cohorts=CohortRecord(
        judged=2,
        void=1,
        first=Verdict(-20.0, -21.0, 0.1, 128),
        newest=Verdict(-10.0, -12.0, 0.1, 128),
        best=Verdict(-9.0, -9.0, 0.1, 130),
    ),
    cohort_progress=(17, 128),
    policy_lag_mean=1.25,
    policy_lag_max=3.0,
    loss=0.012345,
    entropy=0.6931,
    max_steps=2_234_567,
    target_return=20.0,
)


def test_description() -> None:
    assert describe(STATUS) == [
        ("elapsed", "1:02:05"),
        ("left", "0:16:40"),
        ("steps", "1,234,567 (1,000/s)"),
        ("frames", "4,938,268 (4,000/s)"),
        ("return", "-12.35 (last 100 of 321)"),
        ("best", "-9.00 (cohort of 130)"),
        ("target", "20 (20% of the way)"),
        ("cohort", "17 of 128 episodes (1 void)"),
        ("updates", "1,929"),
        ("lag", "1.2 (max 3)"),
        ("loss", "0.01235"),
        ("entropy", "0.693"),
    ]


def test_description_before_and_after_the_first_episode() -> None:
    """A person who waits for a number sees what it waits for."""
    waiting = replace(STATUS, episode_return_mean=None, episodes=0, agent_steps=6400, environments=32)
    assert dict(describe(waiting))["return"] == "none: 200 steps into the first episodes"
    assert dict(describe(replace(STATUS, episodes=1)))["return"] == "-12.35 (1 episode)"
    start = CohortRecord(judged=1, first=STATUS.cohorts.first, newest=STATUS.cohorts.first, best=STATUS.cohorts.first)
    assert dict(describe(replace(STATUS, cohorts=start)))["target"] == "20", "nobody has come anywhere yet"


def test_description_of_a_run_that_waits() -> None:
    status = Status(
        elapsed_s=0.0,
        agent_steps=0,
        frames=0,
        updates=0,
        episodes=0,
        steps_per_s=0.0,
        frames_per_s=0.0,
        max_steps=100,
        waiting_for="env clients: 0 connected",
    )
    values = dict(describe(status))
    assert (values["left"], values["return"], values["lag"], values["loss"]) == (
        "-",
        "none yet",
        "- (max -)",
        "-",
    )


@pytest.mark.parametrize(
    ("max_steps", "max_seconds", "expected"),
    [
        (None, None, None),
        (2_234_567, None, 1000.0),
        (None, 3825.4, 100.0),
        (2_234_567, 3825.4, 100.0),
        (1_234_667, 3825.4, 0.1),
        (1_000_000, None, 0.0),
    ],
)
def test_time_left(max_steps: int | None, max_seconds: float | None, expected: float | None) -> None:
    remaining_s = replace(STATUS, max_steps=max_steps, max_seconds=max_seconds).remaining_s
    assert remaining_s == (None if expected is None else pytest.approx(expected))


def test_plain_lines_keep_their_distance() -> None:
    stream, now_s = io.StringIO(), [0.0]
    progress = PlainProgress(stream, interval_s=10.0, clock=lambda: now_s[0])
    for now_s[0] in (0.0, 5.0, 9.9, 10.0, 15.0, 20.1):
        progress.update(replace(STATUS, elapsed_s=now_s[0]))
    progress.close("finished", ["score  seedbed eval runs/x"])
    lines = stream.getvalue().splitlines()
    assert [line[:15] for line in lines] == [
        "elapsed 0:00:00",
        "elapsed 0:00:10",
        "elapsed 0:00:20",
        "finished",
        "score  seedbed ",
    ]
    assert lines[0].startswith("elapsed 0:00:00  left 0:16:40  steps 1,234,567 (1,000/s)  frames ")


class Terminal(io.StringIO):
    """Says that it is one."""

    def isatty(self) -> bool:
        return True


def test_the_stream_decides(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    assert isinstance(make_progress(io.StringIO()), PlainProgress)
    progress = make_progress(Terminal())
    assert isinstance(progress, LiveProgress)
    progress.close("")
    monkeypatch.setenv("TERM", "dumb")
    assert isinstance(make_progress(Terminal()), PlainProgress)


def _screen(text: str) -> list[str]:
    """What a terminal shows after `text`: knows cursor up, erase line and carriage return."""
    rows, row = [""], 0
    for code, plain in re.findall(r"(\x1b\[[?\d;]*[A-Za-z]|\r|\n)|([^\x1b\r\n]+)", text):
        if code == "\n":
            row += 1
            rows += [""] * (row + 1 - len(rows))
        elif code.endswith("A"):
            row -= int(code[2:-1])
        elif code == "\x1b[2K":
            rows[row] = ""
        elif plain:
            rows[row] += plain
    return [text.rstrip() for text in rows if text.strip()]


def test_log_lines_stand_above_the_table(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    root.handlers.clear()
    try:
        setup_logging("server", "info")
        progress = LiveProgress(Console(file=terminal, force_terminal=True, width=100, legacy_windows=False))
        progress.update(STATUS)
        before = _screen(terminal.getvalue())
        logging.getLogger("x").info("client [bold]7[/bold] joined")
        progress.update(replace(STATUS, updates=2000, waiting_for="env clients: 0 connected"))
        after = _screen(terminal.getvalue())
        progress.close("finished: 1,234,567 agent steps", ["score  seedbed eval runs/x"])
    finally:
        root.handlers[:] = handlers
        root.setLevel(level)
    assert before[0].split() == ["elapsed", "1:02:05", "left", "0:16:40"]
    assert len(before) == 6
    assert after[0].endswith(" INFO server: client [bold]7[/bold] joined")
    assert after[1:3] == before[:2]
    assert "2,000" in after[5]
    assert after[7] == "waiting for env clients: 0 connected"
    at_the_end = _screen(terminal.getvalue())
    assert at_the_end[:8] == after, "the table stays"
    assert at_the_end[8:] == ["finished: 1,234,567 agent steps", "score  seedbed eval runs/x"]
    assert sys.stderr is terminal


class Broken(io.StringIO):
    """A reader that is gone, or a disk that is full, for a while."""

    broken = False

    def write(self, text: str) -> int:
        if self.broken:
            raise BrokenPipeError(errno.EPIPE, "Broken pipe")
        return super().write(text)


def test_what_cannot_be_shown_ends_nothing_and_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    stream = Broken()
    progress = TolerantProgress(PlainProgress(stream, interval_s=0.0))
    progress.introduce(["a run"])
    for stream.broken in (True, True, False, True):
        progress.update(STATUS)
    progress.close("finished")
    assert stream.getvalue().count("elapsed") == 1
    assert caplog.text.count("cannot be shown") == 2, "once each time it begins to fail"
