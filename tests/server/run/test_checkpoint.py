"""Checkpoints: whatever happens while one is written, a complete one loads."""

from __future__ import annotations

import errno
import json
import logging
import os
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from seedbed.common.errors import ConfigError, VersionError
from seedbed.server.run import checkpoint as module
from seedbed.server.run.checkpoint import (
    MANIFEST_FILE,
    TENSORS_FILE,
    Checkpoint,
    CheckpointStore,
    load,
    load_newest,
)

Fault = Callable[[Path], object]


def make(step: int) -> Checkpoint:
    """Tensors and metadata that tell which checkpoint they are of."""
    return Checkpoint(
        agent_steps=step,
        tensors={"a": torch.full((3, 5), float(step)), "b": torch.tensor(step)},
        metadata={"step": step, "text": "ä", "list": [1, None, 0.1]},
    )


def assert_is(found: Checkpoint | None, step: int) -> None:
    assert found is not None
    expected = make(step)
    assert (found.agent_steps, found.metadata) == (step, expected.metadata)
    assert found.tensors.keys() == expected.tensors.keys()
    assert all(torch.equal(found.tensors[name], tensor) for name, tensor in expected.tensors.items())


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def test_round_trip_and_names(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path / "run" / "checkpoints")
    assert store.load_newest() is None
    path = store.save(make(12_800))
    assert path == tmp_path / "run" / "checkpoints" / "checkpoint-000000012800"
    assert names(path) == [MANIFEST_FILE, TENSORS_FILE]
    assert_is(load(path), 12_800)
    assert_is(store.load_newest(), 12_800)
    assert load_newest(tmp_path / "nowhere") is None


def test_every_kind_of_tensor(tmp_path: Path) -> None:
    base = torch.arange(24, dtype=torch.float32).reshape(2, 3, 4)
    tensors = {
        "gaps": base[:, ::2, 1:],
        "transposed": base.permute(2, 0, 1),
        "channels_last": base[None].to(memory_format=torch.channels_last),
        "whole": base,
        "shared": base[1],
        "tied": base,
        "expanded": torch.tensor([1.0]).expand(4),
        "scalar": torch.tensor(1.5),
        "empty": torch.empty(0, 3),
        "bfloat16": torch.tensor([1.0, 3.140625], dtype=torch.bfloat16),
        "random": torch.get_rng_state(),
        "bool": torch.tensor([True, False]),
        "int64": torch.tensor([-(2**62)]),
        "not a number": torch.tensor([float("nan"), float("-inf")]),
        "parameter": torch.nn.Parameter(torch.ones(2)),
    }
    store = CheckpointStore(tmp_path)
    store.save(Checkpoint(agent_steps=1, tensors=tensors, metadata={}))
    found = load_newest(tmp_path)
    assert found is not None
    assert found.tensors.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert (found.tensors[name].dtype, found.tensors[name].shape) == (tensor.dtype, tensor.shape), name
        assert torch.equal(found.tensors[name].nan_to_num(7.0), tensor.detach().nan_to_num(7.0)), name


def test_metadata_reads_as_json_would(tmp_path: Path) -> None:
    CheckpointStore(tmp_path).save(
        Checkpoint(agent_steps=0, tensors={}, metadata={"by_number": {10: "a", 9: (1, 2)}, "nan": float("inf")})
    )
    found = load_newest(tmp_path)
    assert found is not None
    assert found.metadata == {"by_number": {"10": "a", "9": [1, 2]}, "nan": float("inf")}


def test_keeps_the_newest(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path, keep=2)
    for step in (5, 40, 300):
        store.save(make(step))
    assert names(tmp_path) == ["checkpoint-000000000040", "checkpoint-000000000300"]
    with pytest.raises(ValueError, match="at least 1"):
        CheckpointStore(tmp_path, keep=0)


def test_the_same_step_again_does_not_touch_the_first(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path, keep=30)
    for number in range(11):
        path = store.save(Checkpoint(agent_steps=7, tensors={}, metadata={"number": number}))
    assert path.name == "checkpoint-000000000007.10"
    found = store.load_newest()
    assert found is not None
    assert found.metadata == {"number": 10}  # .10 is newer than .9
    assert load(tmp_path / "checkpoint-000000000007").metadata == {"number": 0}


def test_leftovers_are_removed_at_start_and_by_the_next_save(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path)
    leftover = tmp_path / ".partial-checkpoint-000000000009"
    for act in (lambda: CheckpointStore(tmp_path), lambda: store.save(make(1))):
        leftover.mkdir()
        (leftover / TENSORS_FILE).write_bytes(b"half")
        assert load_newest(tmp_path) is None  # reading neither takes it for a checkpoint nor removes it
        assert leftover.exists()
        act()
        assert not leftover.exists()


def _flip(name: str, position: float) -> Fault:
    def fault(path: Path) -> None:
        data = bytearray((path / name).read_bytes())
        data[int(position * (len(data) - 1))] ^= 1
        (path / name).write_bytes(data)

    return fault


def _truncate(name: str, share: float) -> Fault:
    def fault(path: Path) -> None:
        data = (path / name).read_bytes()
        (path / name).write_bytes(data[: int(share * len(data))])

    return fault


FAULTS: dict[str, tuple[Fault, str]] = {
    "flip in the tensors": (_flip(TENSORS_FILE, 1.0), "its sha256 is not the one in manifest.json"),
    "flip in the header": (_flip(TENSORS_FILE, 0.0), "its sha256 is not the one in manifest.json"),
    "tensors truncated": (_truncate(TENSORS_FILE, 0.5), "expected .* bytes, got "),
    "tensors empty": (_truncate(TENSORS_FILE, 0.0), "bytes, got 0"),
    "tensors missing": (lambda path: (path / TENSORS_FILE).unlink(), "No such file"),
    "manifest truncated": (_truncate(MANIFEST_FILE, 0.5), "JSONDecodeError"),
    "manifest empty": (_truncate(MANIFEST_FILE, 0.0), "JSONDecodeError"),
    "manifest missing": (lambda path: (path / MANIFEST_FILE).unlink(), "No such file"),
    "manifest of something else": (lambda path: (path / MANIFEST_FILE).write_text("[1]"), "TypeError"),
    "manifest not text": (lambda path: (path / MANIFEST_FILE).write_bytes(b"\xff\xfe\xff"), "UnicodeDecodeError"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_damage_falls_back_with_a_warning(name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    fault, reason = FAULTS[name]
    store = CheckpointStore(tmp_path)
    paths = [store.save(make(step)) for step in (1, 2)]
    fault(paths[1])
    with caplog.at_level(logging.WARNING):
        assert_is(load_newest(tmp_path), 1)
    (record,) = caplog.records
    assert str(paths[1]) in record.getMessage()
    with pytest.raises(ConfigError, match=reason):
        load(paths[1])
    fault(paths[0])
    with pytest.raises(ConfigError, match="all 2 are damaged"):
        load_newest(tmp_path)


def test_every_bit_of_the_manifest_is_covered(tmp_path: Path) -> None:
    """A flipped bit is either noticed, or changes nothing that is read."""
    path = CheckpointStore(tmp_path).save(make(3))
    file = path / MANIFEST_FILE
    whole = file.read_bytes()
    random_numbers = random.Random(0)
    for position in range(len(whole)):
        damaged = bytearray(whole)
        damaged[position] ^= 1 << random_numbers.randrange(8)
        file.write_bytes(damaged)
        try:
            assert_is(load(path), 3)
        except ConfigError:
            continue
        except VersionError:
            pytest.fail(f"the flip of byte {position} was believed")


def test_a_damaged_newest_does_not_push_out_good_ones(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path, keep=2)
    paths = [store.save(make(step)) for step in (10, 20)]
    _flip(TENSORS_FILE, 1.0)(paths[1])
    store = CheckpointStore(tmp_path, keep=1)
    store.save(make(15))  # went on from 10
    assert_is(store.load_newest(), 15)
    store.save(make(20))
    assert_is(store.load_newest(), 20)
    assert names(tmp_path) == ["checkpoint-000000000020.1"]


def test_a_newer_format_is_not_damage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = CheckpointStore(tmp_path)
    store.save(make(1))
    monkeypatch.setattr(module, "FORMAT_VERSION", 2)
    store.save(make(2))
    monkeypatch.undo()
    with pytest.raises(VersionError, match="expected checkpoint format 1 at most, got 2"):
        load_newest(tmp_path)


class _Recorded:
    """A file that says so before it writes."""

    def __init__(self, stream: Any, before_write: Callable[[], None]) -> None:
        self._stream = stream
        self._before_write = before_write
        self.flush, self.fileno = stream.flush, stream.fileno

    def __enter__(self) -> _Recorded:
        return self

    def __exit__(self, *exception: object) -> None:
        self._stream.close()

    def write(self, data: bytes) -> None:
        self._before_write()
        self._stream.write(data)


class Tape:
    """Records the system calls that durability hangs on, and makes one of them fail."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, fail_at: int | None = None) -> None:
        self.calls: list[tuple[str, str]] = []
        self._fail_at = fail_at
        self._names: dict[int, str] = {}
        real_open, real_fsync, real_rename, real_os_open = open, os.fsync, os.rename, os.open

        def opened(file: Any, *arguments: Any, **options: Any) -> Any:
            self._record("open", file)
            stream = real_open(file, *arguments, **options)
            self._names[stream.fileno()] = str(file)
            return _Recorded(stream, lambda: self._record("write", file))

        def os_opened(path: Any, *arguments: Any, **options: Any) -> int:
            descriptor = real_os_open(path, *arguments, **options)
            self._names[descriptor] = str(path)
            return descriptor

        def fsync(descriptor: int) -> None:
            self._record("fsync", self._names[descriptor])
            real_fsync(descriptor)

        def rename(source: Any, target: Any) -> None:
            self._record("rename", target)
            real_rename(source, target)

        monkeypatch.setattr(module, "open", opened, raising=False)
        monkeypatch.setattr(module.os, "open", os_opened)
        monkeypatch.setattr(module.os, "fsync", fsync)
        monkeypatch.setattr(module.os, "rename", rename)

    def _record(self, call: str, path: Any) -> None:
        if len(self.calls) == self._fail_at:
            self._fail_at = None
            raise OSError(errno.ENOSPC, "No space left on device")
        self.calls.append((call, Path(path).name))


def test_order_of_what_reaches_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tape = Tape(monkeypatch)
    store = CheckpointStore(tmp_path / "checkpoints", keep=1)
    assert tape.calls == [("fsync", tmp_path.name)]  # the folder's own name
    store.save(make(1))
    tape.calls.clear()
    store.save(make(2))
    assert tape.calls == [
        ("open", TENSORS_FILE),
        ("write", TENSORS_FILE),
        ("fsync", TENSORS_FILE),
        ("open", MANIFEST_FILE),
        ("write", MANIFEST_FILE),
        ("fsync", MANIFEST_FILE),
        ("fsync", ".partial-checkpoint-000000000002"),
        ("rename", "checkpoint-000000000002"),
        ("fsync", "checkpoints"),
        ("rename", ".partial-checkpoint-000000000001"),
    ]


def test_a_failure_of_any_call_leaves_one_that_loads(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    failed = 0
    for index in range(10):
        directory = tmp_path / str(index)
        store = CheckpointStore(directory, keep=1)
        store.save(make(1))
        with pytest.MonkeyPatch.context() as patch:
            Tape(patch, fail_at=index)
            try:
                store.save(make(2))
            except OSError:
                failed += 1
        # The rename is the moment from which on the new one counts.
        assert_is(load_newest(directory), 1 if index < 8 else 2)
        assert [name for name in names(directory) if name.startswith(".")] == []
        # The disk has room again.
        store.save(make(3))
        assert_is(load_newest(directory), 3)
        assert names(directory) == ["checkpoint-000000000003"]
    assert failed == 9  # not being able to remove an old one is only a warning
    assert [record.levelname for record in caplog.records] == ["WARNING"]


def test_a_real_full_disk(tmp_path: Path) -> None:
    """A limit on file sizes makes the kernel refuse the write itself."""
    code = f"""
import resource, signal, torch
from pathlib import Path
from seedbed.server.run.checkpoint import Checkpoint, CheckpointStore
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
store = CheckpointStore(Path({str(tmp_path)!r}))
store.save(Checkpoint(agent_steps=1, tensors={{"a": torch.ones(10)}}, metadata={{}}))
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
try:
    store.save(Checkpoint(agent_steps=2, tensors={{"a": torch.ones(100_000)}}, metadata={{}}))
except OSError as error:
    print(error.errno)
print(store.load_newest().agent_steps)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == [str(errno.EFBIG), "1"]
    assert names(tmp_path) == ["checkpoint-000000000001"]


_KILLING = """
import os, random, signal, sys, time
from pathlib import Path
import torch
from seedbed.server.run.checkpoint import Checkpoint, CheckpointStore, load_newest

directory, kills = Path(sys.argv[1]), int(sys.argv[2])
times = random.Random(0)
CheckpointStore(directory, keep=2).save(Checkpoint(agent_steps=0, tensors={}, metadata={"sum": 0.0}))
before, partial = 0, 0
for _ in range(kills):
    child = os.fork()  # nothing is imported again
    if child == 0:
        store = CheckpointStore(directory, keep=2)
        step = store.load_newest().agent_steps
        while True:
            step += 1
            tensor = torch.full((50_000,), float(step))
            store.save(Checkpoint(agent_steps=step, tensors={"a": tensor}, metadata={"sum": step * 50_000.0}))
    time.sleep(times.uniform(0.002, 0.1))
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    partial += any(path.name.startswith(".") for path in directory.iterdir())
    newest = load_newest(directory)
    assert newest.agent_steps >= before, (newest.agent_steps, before)
    assert newest.agent_steps == 0 or newest.tensors["a"].double().sum() == newest.metadata["sum"]
    before = newest.agent_steps
print(before, partial)
"""


@pytest.mark.system
def test_killed_at_any_moment(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _KILLING, str(tmp_path), "15"],
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    assert "damaged" not in done.stderr  # what has its final name is whole
    steps, partial = map(int, done.stdout.split())
    assert steps > 0
    assert partial > 0, "no kill fell into a save: the test proves nothing"


def test_nothing_is_pickled(tmp_path: Path) -> None:
    path = CheckpointStore(tmp_path).save(make(1))
    json.loads((path / MANIFEST_FILE).read_text())
    data = (path / TENSORS_FILE).read_bytes()
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    assert header.keys() == {"a", "b"}
