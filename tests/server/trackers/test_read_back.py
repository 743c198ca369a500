"""Each tracker written offline and read back by its own package; those that are not installed are skipped."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from seedbed.server.shared.spread import Spread
from seedbed.server.trackers.identity import TRACKERS_FILE, identity
from seedbed.server.trackers.interface import TrackedRun
from seedbed.server.trackers.registry import find_trackers
from seedbed.server.trackers.tracking import Tracking
from tests.reference.small_disk import fill, small_disk
from tests.system.processes import eventually

CONFIG = {"algorithm": "vtrace", "optimiser": {"learning_rate": 0.25}}
SPREAD = Spread(-1.0, 1.0, (1, 2, 3, 4), 4.0, 6.0, (-1.0, -0.5, 0.0, 0.5, 1.0))


def write(run_dir: Path, name: str, steps: range, resume_step: int | None = None, *, failed: bool = False) -> None:
    run = TrackedRun(
        name="pong", directory=run_dir, config=CONFIG, environment="X-v0", version="0", resume_step=resume_step
    )
    tracking = Tracking(find_trackers(name), run, finish_s=60)
    for step in steps:
        tracking.log({"train/loss": step / 4, "rollout/ep_rew_mean": float(step)}, {"histograms/lag": SPREAD}, step)
    tracking.close({"ended": "the step limit", "failed": failed, "agent_steps": steps[-1]})


@pytest.fixture
def run_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> Path:
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "runs" / "pong"
    folder.mkdir(parents=True)
    return folder


def quiet(caplog: pytest.LogCaptureFixture, but: str = "there is no key") -> list[str]:
    """What our trackers complained of."""
    said = [entry.getMessage() for entry in caplog.records if entry.name.startswith("seedbed")]
    return [text for text in said if but not in text]


def log_records(data: bytes) -> Iterator[bytes]:
    """Records of a log of LevelDB, which a file of W&B is after its own head of 7 bytes.

    Blocks of 32 KiB hold parts: checksum (4 bytes), length (2), kind (1: whole, 2: first, 3: middle, 4: last), bytes.
    """
    place, record = 7, b""
    while place + 7 <= len(data):
        left = 32768 - place % 32768
        if left < 7:
            place += left
            continue
        length, kind = int.from_bytes(data[place + 4 : place + 6], "little"), data[place + 6]
        record = (b"" if kind in (1, 2) else record) + data[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):
            yield record


def test_tensorboard(run_dir: Path, caplog: pytest.LogCaptureFixture) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    write(run_dir, "tensorboard", range(100, 400, 100))
    write(run_dir, "tensorboard", range(250, 350, 50), resume_step=200)
    events = EventAccumulator(str(run_dir), size_guidance={"histograms": 0})
    events.Reload()
    found = [(event.step, event.value) for event in events.Scalars("train/loss")]
    assert found == [(100, 25.0), (200, 50.0), (250, 62.5), (300, 75.0)], "without what did not happen"
    histogram = events.Histograms("histograms/lag")[0]
    assert histogram.step == 100
    value = histogram.histogram_value
    assert (value.min, value.max, value.num, value.sum) == (-1.0, 1.0, 10, 4.0)
    assert list(value.bucket)[-4:] == [1, 2, 3, 4]
    assert quiet(caplog) == []


def test_tensorboard_outlives_a_full_disk(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Many more lines than a tracker may have errors; with room again they are there."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    with small_disk(tmp_path / "disk", "1m") as disk:
        run = TrackedRun(name="pong", directory=disk, config=CONFIG, environment="X-v0", version="0", resume_step=None)
        tracking = Tracking(find_trackers("tensorboard"), run, finish_s=60)

        def log(steps: Iterable[int]) -> None:
            for step in steps:
                # A page of the file that is half full takes more: so many that one line fills it.
                tracking.log({"train/loss": float(step), **{f"train/{n}": 0.0 for n in range(100)}}, {}, step)
            eventually(lambda: tracking._lanes[0]._queue.empty(), "all lines to be taken")

        log([1])
        eventually(lambda: list(disk.glob("events.*")), "a file")
        ballast = fill(disk)
        log(range(2, 30))
        eventually(lambda: "events for TensorBoard are missed" in caplog.text, "a line")
        assert len(list(disk.glob("events.*"))) <= 2  # not one for each attempt
        ballast.unlink()
        log([100, 101])
        tracking.close({})
        events = EventAccumulator(str(disk))
        events.Reload()
        steps = [event.step for event in events.Scalars("train/loss")]
    assert steps[0] == 1
    assert {100, 101} <= set(steps)
    assert caplog.text.count("are missed") == 1
    assert "is off" not in caplog.text


def test_wandb(run_dir: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    pytest.importorskip("wandb", reason="wandb is not installed")
    from wandb.proto import wandb_internal_pb2

    def records(file: Path) -> list[Any]:
        return [wandb_internal_pb2.Record.FromString(data) for data in log_records(file.read_bytes())]

    for variable in ("WANDB_MODE", "WANDB_API_KEY"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("NETRC", str(run_dir / "none"))
    write(run_dir, "wandb", range(100, 400, 100))
    assert quiet(caplog) == []
    (file,) = (run_dir / "wandb").glob("offline-run-*/*.wandb")
    history: list[dict[str, Any]] = []
    config: dict[str, Any] = {}
    summary: dict[str, Any] = {}
    names = []
    # Its own process writes, and is not ready when `finish` returns.
    eventually(lambda: any(record.HasField("exit") for record in records(file)), "W&B to write the end", 30)
    for record in records(file):
        if record.HasField("history"):
            history.append(
                {item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in record.history.item}
            )
        if record.HasField("run"):
            names.append((record.run.run_id, record.run.display_name, record.run.project))
            config |= {item.key: json.loads(item.value_json) for item in record.run.config.update}
        if record.HasField("summary"):
            summary |= {item.key: json.loads(item.value_json) for item in record.summary.update}
    losses = [(entry["frames"], entry["train/loss"]) for entry in history if "train/loss" in entry]
    assert losses == [(100, 25.0), (200, 50.0), (300, 75.0)]
    spread = [entry["histograms/lag/values"] for entry in history if "histograms/lag/values" in entry]
    assert spread == [[1, 2, 3, 4]] * 3
    assert config["optimiser"] == {"learning_rate": 0.25}
    assert names[0] == (identity(run_dir, "wandb"), "pong", "seedbed")
    assert summary["ended"] == "the step limit"


def test_trackio(run_dir: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    pytest.importorskip("trackio", reason="trackio is not installed")
    import trackio.utils

    for module in (trackio.utils, trackio.sqlite_storage):
        monkeypatch.setattr(module, "TRACKIO_DIR", run_dir / "trackio", raising=False)
    write(run_dir, "trackio", range(100, 400, 100))
    assert quiet(caplog) == []
    (file,) = (run_dir / "trackio").glob("*.db")
    with sqlite3.connect(file) as database:
        rows = database.execute("SELECT run_name, step, metrics FROM metrics ORDER BY step").fetchall()
    database.close()
    found = [(name, step, json.loads(metrics)) for name, step, metrics in rows]
    assert [step for _, step, _ in found] == [100, 200, 300]
    assert [metrics["train/loss"] for _, _, metrics in found] == [25.0, 50.0, 75.0]
    assert {name for name, _, _ in found} == {f"pong-{identity(run_dir, 'trackio')}"}


def test_mlflow(run_dir: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    pytest.importorskip("mlflow", reason="mlflow is not installed")
    from mlflow import MlflowClient

    uri = f"sqlite:///{run_dir / 'mlflow.db'}"
    if find_spec("sqlalchemy") is None:  # mlflow-skinny alone has files only
        uri = f"file:{run_dir / 'mlruns'}"
        monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
        monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    write(run_dir, "mlflow", range(100, 300, 100))
    write(run_dir, "mlflow", range(300, 400, 100))
    assert quiet(caplog) == []
    client = MlflowClient(tracking_uri=uri)
    experiment = client.get_experiment_by_name("seedbed")
    assert experiment is not None
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.info.run_id == identity(run_dir, "mlflow"), "the same run, after a restart too"
    assert (run.info.run_name, run.info.status) == ("pong", "FINISHED")
    assert run.data.params == {"algorithm": "vtrace", "optimiser.learning_rate": "0.25"}
    history = client.get_metric_history(run.info.run_id, "train/loss")
    assert sorted((point.step, point.value) for point in history) == [(100, 25.0), (200, 50.0), (300, 75.0)]
    assert run.data.tags["ended"] == "the step limit"
    write(run_dir, "mlflow", range(400, 500, 100), failed=True)
    assert client.get_run(run.info.run_id).info.status == "FAILED"


def test_a_run_keeps_its_identity_with_each(tmp_path: Path) -> None:
    first = identity(tmp_path, "wandb")
    assert identity(tmp_path, "wandb") == first
    assert identity(tmp_path, "trackio") != first
    known: Mapping[str, str] = json.loads((tmp_path / TRACKERS_FILE).read_text())
    assert set(known) == {"wandb", "trackio"}
    (tmp_path / TRACKERS_FILE).write_text("torn")
    assert identity(tmp_path, "mlflow", make=False) is None
