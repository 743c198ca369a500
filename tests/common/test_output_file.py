"""Files that a command writes: what cannot be written is told in a sentence, before the work where it can be."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from seedbed.common.errors import UsageError
from seedbed.common.output_file import check_output, writing


def test_a_file_with_a_place_passes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for file in (Path("new.json"), tmp_path / "new.json", Path(__file__)):
        check_output("--json", file)


def test_what_has_no_place_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match=f"--json: expected a folder that is there, got {tmp_path}/away$"):
        check_output("--json", tmp_path / "away" / "x.json")
    with pytest.raises(UsageError, match=f"--json: expected a file that can be written, got {tmp_path}$"):
        check_output("--json", tmp_path)
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(UsageError, match=r"expected a file that can be written, got .*x.json$"):
        check_output("--json", tmp_path / "x.json")


def test_a_disk_that_fills_is_told() -> None:
    full = r"--json: expected .*, got a.json \(No space left on device\)"
    with pytest.raises(UsageError, match=full), writing("--json", Path("a.json")):
        raise OSError(errno.ENOSPC, "No space left on device")
