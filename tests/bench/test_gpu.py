"""The checks of `make gpu`, on a GPU where there is one, and rehearsed on the CPU."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from seedbed.server.experience.batch import TrainBatch
from seedbed.server.training.recording import with_fields
from tests.bench import gpu
from tests.reference import gpu_checks as checks


@pytest.mark.gpu
@pytest.mark.parametrize("part", ["parity", "waits", "order"])
def test_on_a_gpu(part: str) -> None:
    assert gpu.PARTS[part](torch.device("cuda", 0))["wrong"] == []


def test_without_a_gpu_it_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert gpu.main(["--out", str(tmp_path / "gpu.json")]) == 1
    assert "expected a CUDA device, torch" in capsys.readouterr().out
    assert not (tmp_path / "gpu.json").exists()


@pytest.mark.slow
def test_it_runs_without_a_gpu_as_a_rehearsal(tmp_path: Path) -> None:
    torch.set_num_threads(1)
    out = tmp_path / "gpu.json"
    assert gpu.main(["--device", "cpu", "--out", str(out), "--parts", "parity", "waits", "order", "figures"]) == 0
    found = json.loads(out.read_text())
    assert set(found["parts"]) == {"parity", "waits", "order", "figures"}
    assert all("wall" in figure for name, figure in found["parts"]["figures"].items() if "rows" in name)


def test_gradients_that_differ_are_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """A batch that is another on its way to the device."""
    torch.set_num_threads(1)
    cpu, case = torch.device("cpu"), ["a3c vector none"]
    assert checks.check_parity(cpu, case) == []
    batches = iter((1.0, 1.01))
    moved = checks.batch_on

    def other(batch: TrainBatch, device: torch.device) -> TrainBatch:
        return with_fields(moved(batch, device), reward=batch.fields["reward"] * next(batches))

    monkeypatch.setattr(checks, "batch_on", other)
    assert "gradients differ" in checks.check_parity(cpu, case)[0]
