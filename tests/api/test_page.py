"""docs/python-api.md as it stands: its blocks are run one after the other, with a smaller training."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from tests.system.processes import FAST, Program

pytestmark = [pytest.mark.system, pytest.mark.timeout(300)]

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "python-api.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
SMALLER = 'max_steps=3000, num_envs=8, num_clients=1, batch_size=4, log_interval_s=0.3, device="cpu"'


def test_every_block_does_what_it_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    train, act, several, score, loop = (block for block in BLOCKS)
    names: dict[str, Any] = {}
    exec(train.replace("max_steps=100_000", SMALLER), names)
    assert names["result"].run_dir == Path("runs/cartpole")
    lines = Path("runs/cartpole/metrics.jsonl").read_text().splitlines()
    printed = capsys.readouterr().out.splitlines()
    assert len(printed) == len(lines) + 1, "on_log got every line"
    assert printed[-1] == str(names["result"].episode_return_mean)
    assert names["result"].metrics["agent_steps"] >= 3000
    assert Path("runs/cartpole/log").read_text().count("new run in") == 1
    assert not Path("runs/cartpole/train.log").exists()
    assert [path.name for path in Path("runs").iterdir()] == ["cartpole"], "the log was moved to its place"

    exec(act, names)
    assert names["total"] >= 8
    exec(several, names)
    exec(score, names)
    assert len(names["scores"]["returns"]) == 8

    command = re.findall(r"```sh\nseedbed (server .*)\n", PAGE)[0].split()
    with Program(*command[:-4], "--port", "0", *FAST) as server:
        exec(loop.replace("127.0.0.1:7777", server.address), names)
        metrics = Path("runs/loop/metrics.jsonl")
        server.eventually(lambda: '"episodes": 3' in metrics.read_text(), "its episodes to count")
