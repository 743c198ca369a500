"""`metrics.jsonl`, names in trackers and the window of episodes."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import pytest

from seedbed.common.errors import ConfigError
from seedbed.common.specs import EnvironmentSpec, discrete
from seedbed.server.monitoring.metrics import REQUIRED, EpisodeWindow, MetricsWriter, read_metrics, tagged
from seedbed.server.run.directory import METRICS_FILE, RunDirectory, RunFile
from seedbed.server.run.lock import locked
from tests.reference.small_disk import fill, small_disk

SPEC = EnvironmentSpec(environment="x", observations=(discrete("o", 2),), actions=(discrete("a", 3),))


def line(step: int, **more: float | int | None) -> dict[str, float | int | None]:
    """Metrics whose every value tells key and step."""
    values: dict[str, float | int | None] = {key: step + number / 100 for number, key in enumerate(REQUIRED)}
    return {**values, "agent_steps": step, "frames": 4 * step, "updates": step // 10, **more}


def write(run_dir: Path, *steps: int, resume_step: int = 0) -> None:
    writer = MetricsWriter(run_dir, resume_step=resume_step)
    for step in steps:
        writer.write(line(step))
    writer.close()


def steps_in(run_dir: Path) -> list[int]:
    return [entry["agent_steps"] for entry in read_metrics(run_dir)]


def test_lines_can_be_read_at_once_and_say_all(tmp_path: Path) -> None:
    writer = MetricsWriter(tmp_path / "run", resume_step=0)
    writer.write(line(100, entropy=0.5))
    (found,) = read_metrics(tmp_path / "run")  # before close
    assert found == line(100, entropy=0.5)
    assert tuple(found)[: len(REQUIRED)] == REQUIRED
    with pytest.raises(ValueError, match="missing loss"):
        writer.write({key: 1 for key in REQUIRED if key != "loss"})
    writer.close()


def test_what_is_not_a_number_is_null(tmp_path: Path) -> None:
    writer = MetricsWriter(tmp_path, resume_step=0)
    writer.write(line(1, loss=float("nan"), entropy=float("-inf"), episode_return_mean=None))
    writer.close()
    text = (tmp_path / METRICS_FILE).read_text()
    found = json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
    assert (found["loss"], found["entropy"], found["episode_return_mean"]) == (None, None, None)


def test_trackers_get_what_is_known_by_the_usual_names() -> None:
    found = tagged({**line(100, episode_steps_mean=7, entropy=0.25, loss=None), "info/won": 0.5, "info/is_success": 1})
    assert found["rollout/ep_rew_mean"] == 100.06
    assert found["rollout/ep_len_mean"] == 7
    assert found["time/fps"] == 100.04
    assert found["time/total_timesteps"] == 100
    assert found["train/entropy"] == 0.25
    assert found["info/won"] == 0.5
    assert found["rollout/success_rate"] == 1
    assert "train/loss" not in found
    assert not [name for name in found if "frames" in name]


def test_resuming_removes_what_did_not_happen(tmp_path: Path) -> None:
    write(tmp_path, 100, 200, 300, 400)
    write(tmp_path, 250, 350, resume_step=200)
    assert steps_in(tmp_path) == [100, 200, 250, 350]
    assert MetricsWriter(tmp_path, resume_step=999).resume_step == 1400
    write(tmp_path, 10)
    assert steps_in(tmp_path) == [10]


def test_a_torn_last_line_is_dropped(tmp_path: Path) -> None:
    write(tmp_path, 100, 200)
    file = tmp_path / METRICS_FILE
    whole = file.read_text()
    for torn in (whole[:-1], whole[:-30], whole + '{"agent_steps": 300'):
        file.write_text(torn)
        kept = [100, 200] if torn.startswith(whole) else [100]
        assert steps_in(tmp_path) == kept
        assert file.read_text() == torn  # reading changes nothing: the writer may be alive
    write(tmp_path, 300, resume_step=200)
    assert steps_in(tmp_path) == [100, 200, 300]


def test_damage_elsewhere_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"expected the folder of a run with metrics\.jsonl"):
        read_metrics(tmp_path)
    write(tmp_path, 100, 200)
    file = tmp_path / METRICS_FILE
    file.write_text(file.read_text().replace("{", "", 1))
    with pytest.raises(ConfigError, match=r"metrics\.jsonl, line 1: expected a JSON object"):
        read_metrics(tmp_path)


def test_episode_window() -> None:
    window = EpisodeWindow(size=3)
    assert (window.return_mean, window.steps_mean) == (None, None)
    for number in (100, 1, 2, 6):
        window.add(float(number), 10 * number, 40 * number)
    assert (window.return_mean, window.steps_mean) == (3.0, 30.0)
    assert (len(window), window.num_episodes) == (3, 4)


def test_episode_window_survives_a_restart() -> None:
    window = EpisodeWindow(size=3)
    for number in range(5):
        window.add(float(number), number, number)
    again = EpisodeWindow.from_state(json.loads(json.dumps(window.get_state())), size=3)
    assert again.get_state() == window.get_state()
    again.add(5.0, 5, 5)
    assert (again.return_mean, again.num_episodes) == (4.0, 6)


def test_state_is_taken_while_another_thread_adds_episodes() -> None:
    window = EpisodeWindow()
    stop = threading.Event()

    def add() -> None:
        while not stop.is_set():
            window.add(1.0, 2, 8)

    thread = threading.Thread(target=add)
    thread.start()
    try:
        for _ in range(2000):
            assert all(episode == [1.0, 2, 8] for episode in window.get_state()["episodes"])
    finally:
        stop.set()
        thread.join()


def test_a_run_goes_on_in_a_directory_whose_disk_is_full(tmp_path: Path) -> None:
    """Which is when one is started again: what is there needs no room, and what does is refused in a line."""
    with small_disk(tmp_path / "disk", "1m") as disk:
        run = RunFile({"algorithm": "x"}, SPEC, "0")
        RunDirectory(disk).write(run)
        write(disk, 100, 200, 300)
        with locked(disk):
            pass
        fill(disk)
        with locked(disk):
            RunDirectory(disk).write(run)
            write(disk, resume_step=200)
            with pytest.raises(ConfigError, match="No space left"):
                RunDirectory(disk).write(RunFile({"algorithm": "y" * 5000}, SPEC, "0"))
        assert [line["agent_steps"] for line in read_metrics(disk)] == [100, 200]
        assert RunDirectory(disk).read() == run


def test_bytes_that_are_no_text_keep_their_places(tmp_path: Path) -> None:
    file = tmp_path / METRICS_FILE
    write(tmp_path, 100, 200)
    file.write_bytes(file.read_bytes().replace(b"{", b'{"x": "\xff\xfe", ', 1))
    before = file.read_bytes().splitlines(keepends=True)
    write(tmp_path, resume_step=100)
    assert file.read_bytes() == before[0]
