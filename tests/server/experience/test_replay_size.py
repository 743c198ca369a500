"""How much memory a replay takes and may take: real allocations, made-up limits of control groups, and refusals."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from seedbed.common.errors import UsageError
from seedbed.server.experience import regimes
from seedbed.server.experience import replay_size as memory
from seedbed.server.experience.open_unrolls import OpenUnrolls
from seedbed.server.experience.unroll import UnrollLayout, UnrollRows
from tests.reference.unrolls import numbers_layout

CPU = torch.device("cpu")
LAYOUT = numbers_layout(13, 4, 4)
GIB = 1 << 30


def test_the_size_of_an_unroll_is_what_is_allocated_for_it() -> None:
    rows = UnrollRows(LAYOUT, 10, CPU)
    tensors = (*rows.observations, *rows.fields.values(), *rows.state)
    assert sum(tensor.nbytes for tensor in tensors) == 10 * memory.bytes_per_unroll(LAYOUT)


def make_root(folder: Path, files: dict[str, str]) -> Path:
    contents = {"proc/meminfo": f"MemTotal: 1 kB\nMemAvailable: {8 * GIB // 1024} kB\n", **files}
    for name, text in contents.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


VERSION_2 = {
    "sys/fs/cgroup/memory.max": f"{3 * GIB}\n",
    "sys/fs/cgroup/memory.current": f"{2 * GIB}\n",
    "sys/fs/cgroup/memory.stat": f"anon 5\ninactive_file {GIB}\n",
}
VERSION_1 = {
    "sys/fs/cgroup/memory/memory.limit_in_bytes": f"{4 * GIB}\n",
    "sys/fs/cgroup/memory/memory.usage_in_bytes": f"{3 * GIB}\n",
    "sys/fs/cgroup/memory/memory.stat": "cache 5\ntotal_inactive_file 0\n",
}


@pytest.mark.parametrize(
    ("files", "free"),
    [
        ({}, 8 * GIB),
        (VERSION_2, 2 * GIB),
        ({**VERSION_2, "sys/fs/cgroup/memory.max": "max\n"}, 8 * GIB),
        (VERSION_1, GIB),
        ({**VERSION_2, "sys/fs/cgroup/memory.max": "1\n"}, 0),
    ],
    ids=["machine", "version 2", "no limit", "version 1", "over the limit"],
)
def test_free_memory_is_the_least_of_machine_and_control_groups(
    files: dict[str, str], free: int, tmp_path: Path
) -> None:
    assert memory.free_bytes(CPU, make_root(tmp_path, files)) == free


def test_this_machine_has_some() -> None:
    assert 0 < memory.free_bytes(CPU) < 1 << 50


@pytest.fixture
def free(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """Free bytes by type of device, to be filled in."""
    sizes: dict[str, int] = {}
    monkeypatch.setattr(memory, "free_bytes", lambda device: sizes[device.type])
    return sizes


def test_a_replay_that_does_not_fit_is_refused_with_the_number_that_does(free: dict[str, int]) -> None:
    free["cpu"] = 1000 * memory.bytes_per_unroll(LAYOUT)
    assert memory.choose_replay_device("auto", CPU, LAYOUT, 900) == CPU
    with pytest.raises(UsageError, match="at most --replay-capacity 900"):
        memory.choose_replay_device("auto", CPU, LAYOUT, 901)


def test_auto_goes_beside_the_learner_if_it_fits_there(free: dict[str, int], monkeypatch: pytest.MonkeyPatch) -> None:
    cuda = torch.device("cuda")
    free |= {"cuda": 100 * memory.bytes_per_unroll(LAYOUT), "cpu": 1000 * memory.bytes_per_unroll(LAYOUT)}
    monkeypatch.setattr(memory, "bytes_kept_free", lambda layout, batch_size: 0)
    assert memory.choose_replay_device("auto", cuda, LAYOUT, 90) == cuda
    assert memory.choose_replay_device("auto", cuda, LAYOUT, 91) == CPU
    assert memory.choose_replay_device("cpu", cuda, LAYOUT, 90) == CPU
    with pytest.raises(UsageError, match="at most --replay-capacity 90"):
        memory.choose_replay_device("cuda", cuda, LAYOUT, 91)
    with pytest.raises(UsageError, match="at most --replay-capacity 900"):
        memory.choose_replay_device("auto", cuda, LAYOUT, 901)


def test_a_small_card_keeps_room_for_all_that_comes_later(free: dict[str, int]) -> None:
    """Of 8 GiB nine tenths would leave 0.8 for acting copies, optimiser, activations and libraries."""
    cuda, size = torch.device("cuda"), memory.bytes_per_unroll(LAYOUT)
    free |= {"cuda": 8 * GIB, "cpu": 100 * GIB}
    kept = memory.bytes_kept_free(LAYOUT, 64)
    assert kept > 2 * GIB + 4 * 64 * 13 * 4
    fits = (8 * GIB - kept) // size
    assert memory.choose_replay_device("auto", cuda, LAYOUT, fits, batch_size=64) == cuda
    assert memory.choose_replay_device("auto", cuda, LAYOUT, fits + 1, batch_size=64) == CPU


@pytest.mark.parametrize("wanted", ["auto", "cuda"])
def test_a_device_with_less_memory_than_it_said(wanted: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The replay goes to the CPU, or the option is named that was set."""
    made: list[torch.device] = []

    def allocate(layout: UnrollLayout, capacity: int, device: torch.device, batch_device: torch.device) -> str:
        made.append(device)
        if device.type == "cuda":
            raise torch.OutOfMemoryError("CUDA out of memory")
        return "storage"

    monkeypatch.setattr(regimes, "StoredUnrolls", allocate)
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: None)
    store = OpenUnrolls(LAYOUT, 2, CPU)
    if wanted == "auto":
        assert regimes._allocated(wanted, store, 5, torch.device("cuda")) == "storage"
        assert [device.type for device in made] == ["cuda", "cpu"]
    else:
        with pytest.raises(UsageError, match="--replay-device cpu"):
            regimes._allocated(wanted, store, 5, torch.device("cuda"))


def test_a_replay_on_a_gpu_needs_a_learner_there() -> None:
    with pytest.raises(UsageError, match="--device cuda with --replay-device cuda"):
        memory.choose_replay_device("cuda", CPU, LAYOUT, 1)
