"""`episodes.jsonl`: a line for each episode, bounded in size, right after a restart, harmless on a full disk."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path
from typing import Any

import pytest

from seedbed.common.errors import ConfigError
from seedbed.common.timestep import EpisodeEnd
from seedbed.server.monitoring.episodes import (
    EpisodeLog,
    EpisodeQueue,
    EpisodeRecord,
    NumberWindows,
    read_episodes,
)
from seedbed.server.monitoring.line_file import LineFile


def record(number: int, *, counts: bool = True, **info: float) -> EpisodeRecord:
    """Every number tells which episode it is of."""
    end = EpisodeEnd(0, number + 0.5, 10 * number, 40 * number, truncated=number % 2 == 1, info=info)
    return EpisodeRecord(float(number), 100 * number, number % 4, f"client-{number % 2}", counts, end)


def open_log(run_dir: Path, queue: EpisodeQueue, step: int = 0, **more: Any) -> EpisodeLog:
    options: dict[str, Any] = {"writes": True, "resume_wall_s": 1e9, **more}
    return EpisodeLog(run_dir, queue, task="X-v0", greedy=range(3, 4), resume_step=step, **options)


def write(run_dir: Path, *numbers: int, step: int = 0, **more: Any) -> EpisodeLog:
    queue = EpisodeQueue()
    log = open_log(run_dir, queue, step, **more)
    for number in numbers:
        queue.put(record(number))
        log.take()
    log.close()
    return log


def numbers_in(run_dir: Path) -> list[int]:
    return [entry["agent_steps"] // 100 for entry in read_episodes(run_dir)]


def test_a_line_says_all(tmp_path: Path) -> None:
    queue = EpisodeQueue()
    log = open_log(tmp_path, queue)
    queue.put(record(7, won=1.0))
    queue.put(record(8, counts=False))
    log.take()
    first, second = read_episodes(tmp_path)  # before close
    assert first == {
        "wall_s": 7.0,
        "agent_steps": 700,
        "index": 3,
        "client": "client-1",
        "task": "X-v0",
        "return": 7.5,
        "steps": 70,
        "frames": 280,
        "end": "truncated",
        "greedy": True,
        "counts": True,
        "info": {"won": 1.0},
    }
    assert (second["end"], second["greedy"], second["counts"]) == ("terminated", False, False)
    log.close()


def test_a_run_that_goes_on_forgets_what_did_not_happen(tmp_path: Path) -> None:
    write(tmp_path, 1, 2, 3, 4)
    with (tmp_path / "episodes.jsonl").open("a") as stream:
        stream.write('{"torn": ')
    write(tmp_path, 5, step=250)
    assert numbers_in(tmp_path) == [1, 2, 5]
    write(tmp_path, 1, step=0)
    assert numbers_in(tmp_path) == [1]
    with pytest.raises(ConfigError, match=r"episodes\.jsonl"):
        read_episodes(tmp_path / "nowhere")


def test_size_is_bounded_and_the_newest_are_kept(tmp_path: Path) -> None:
    write(tmp_path, *range(200), file_bytes=4000)
    sizes = {path.name: path.stat().st_size for path in tmp_path.iterdir()}
    assert set(sizes) == {"episodes.jsonl", "episodes.1.jsonl"}
    assert max(sizes.values()) < 4300
    found = numbers_in(tmp_path)
    assert found == list(range(200 - len(found), 200))
    assert len(found) > 15


def test_nothing_is_written_where_nothing_is_wanted(tmp_path: Path) -> None:
    queue = EpisodeQueue()
    log = open_log(tmp_path, queue, writes=False)
    queue.put(record(1, won=1.0))
    log.close()
    assert os.listdir(tmp_path) == []
    assert log.numbers.means() == {"won": 1.0}


def test_a_queue_that_nobody_empties_is_bounded(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    queue = EpisodeQueue(size=3)
    for number in range(10):
        queue.put(record(number))
    assert queue.lost == 7
    log = open_log(tmp_path, queue)
    log.take()
    log.take()
    log.close()
    assert numbers_in(tmp_path) == [0, 1, 2]
    assert sum("misses episodes" in entry.getMessage() for entry in caplog.records) == 1


def test_a_full_disk_costs_lines_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """As a disk does it: some bytes still fit, then none; later there is room again."""
    real, room = os.write, [10**6]

    def limited(file: int, data: bytes) -> int:
        if room[0] == 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        written = real(file, data[: room[0]])
        room[0] -= written
        return written

    monkeypatch.setattr(os, "write", limited)
    file = LineFile(tmp_path / "lines")
    assert file.write('{"n": 1}\n')
    room[0] = 5
    assert not file.write('{"n": 2}\n')
    assert not file.write('{"n": 3}\n')
    room[0] = 10**6
    assert file.write('{"n": 4}\n')
    assert file.write('{"n": 5}\n')
    file.close()
    whole = (tmp_path / "lines").read_text().splitlines()
    assert [json.loads(line)["n"] for line in whole] == [1, 4, 5], "no half line in between"
    assert sum("misses lines" in entry.getMessage() for entry in caplog.records) == 1, "once for each outage"
    assert file.size == (tmp_path / "lines").stat().st_size


def test_a_file_that_cannot_be_turned_over_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    real, fails = os.open, [False]

    def limited(path: Any, *args: Any, **options: Any) -> int:
        if fails[0]:
            raise OSError(errno.EMFILE, "Too many open files")
        return real(path, *args, **options)

    monkeypatch.setattr(os, "open", limited)
    queue = EpisodeQueue()
    log = open_log(tmp_path, queue, file_bytes=1)
    for number in range(4):
        fails[0] = number < 2
        queue.put(record(number))
        log.take()
    log.close()
    assert numbers_in(tmp_path)[-1] == 3, "there is a new file as soon as there may be one"
    assert (tmp_path / "episodes.jsonl").exists()
    assert sum("grows beyond" in entry.getMessage() for entry in caplog.records) == 1, "once, not ten times a second"


def test_torn_lines_are_left_out(tmp_path: Path) -> None:
    write(tmp_path, 1)
    path = tmp_path / "episodes.jsonl"
    whole = path.read_text()
    path.write_text(whole + whole[:20] + "\n" + whole + "[1]\n" + whole[:-3])
    assert numbers_in(tmp_path) == [1, 1]


def test_numbers_are_means_of_the_latest_that_had_them(caplog: pytest.LogCaptureFixture) -> None:
    windows = NumberWindows(size=2, max_names=3)
    for number in range(5):
        windows.add({"won": float(number)} if number % 2 else {"lost": float(number)})
    assert windows.means() == {"won": 2.0, "lost": 3.0}
    for number in range(1000):
        windows.add({f"made-up-{number}": 1.0, "won": 7.0})
    assert windows.means() == {"won": 7.0, "lost": 3.0, "made-up-0": 1.0}
    assert sum("gets no metric" in entry.getMessage() for entry in caplog.records) == 1


def test_only_episodes_that_count_are_in_the_means(tmp_path: Path) -> None:
    queue = EpisodeQueue()
    log = open_log(tmp_path, queue)
    queue.put(record(1, won=1.0))
    queue.put(record(2, counts=False, won=0.0))
    log.take()
    assert log.numbers.means() == {"won": 1.0}
    log.close()
