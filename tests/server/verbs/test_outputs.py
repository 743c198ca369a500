"""Files that `seedbed eval` and `seedbed plot` write: asked for before the work where they can be."""

from __future__ import annotations

from pathlib import Path

import pytest

from seedbed.common.errors import UsageError
from seedbed.server.verbs import evaluate, plot


def test_a_result_without_a_folder_is_refused_before_it_is_played_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evaluate, "find_checkpoint", lambda *_, **__: pytest.fail("it has begun"))
    with pytest.raises(UsageError, match=r"^--json: expected a folder that is there, got .*away$"):
        evaluate.main(["run", "--json", str(tmp_path / "away" / "x")])


def test_a_picture_that_cannot_be_written_is_a_sentence(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    (tmp_path / "file").write_text("")
    (tmp_path / "metrics.jsonl").write_text('{"agent_steps": 1, "wall_s": 1.0, "episode_return_mean": 1.0}\n')
    with pytest.raises(UsageError, match=r"^--out: expected a file that can be written, got .*x.png \(.+\)$"):
        plot.main([str(tmp_path), "--out", str(tmp_path / "file" / "x.png")])
