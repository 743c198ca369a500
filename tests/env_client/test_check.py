"""`seedbed check`: one page about an environment, and an exit code."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from seedbed.common.environment_options import EnvironmentOptions
from seedbed.common.errors import SpecError, UsageError
from seedbed.common.plugins import Trust
from seedbed.env_client.check import check_environment, main
from seedbed.env_client.environments.building import Care

pytest.importorskip("gymnasium")

MODULE = "tests.env_client.environments.odd_environments"
CARE = Care(trust=Trust(allow_import=True))


def test_a_sound_environment_gets_a_page_and_the_command_that_trains_on_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["CartPole-v1", "--steps", "300", "--max-episode-steps", "20"]) == 0
    page = capsys.readouterr().out
    assert page.startswith("CartPole-v1@20steps\n  observation  float32[4] in [")
    assert "same seed, same episodes; another seed, others" in page
    assert re.search(r"300 random ones, \d+ episodes \(\d+ terminated, \d+ truncated\) of \d+ to 20 steps", page)
    assert re.search(r"[\d,]+ steps/s in one thread, [\d.e-]+ ms a reset", page)
    assert page.endswith("seedbed train --env=CartPole-v1 --max-episode-steps=20\n")
    assert "refused" not in page


def test_what_is_refused_ends_it(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SpecError, match=r"refused: .*expected uint8\[3\] in \[0, 255\], got int64\[3\]"):
        main([f"{MODULE}:Negative"])
    out = capsys.readouterr().out
    assert "odd_environments:Negative" in out
    assert "seedbed train" not in out
    with pytest.raises(UsageError, match="seedbed check ENV"):
        main([])


@pytest.mark.parametrize(
    ("name", "remark"),
    [
        ("Never", "no episode ended within 50 steps: --max-episode-steps cuts them"),
        ("Sound", "another seed gives the same 200 steps"),
        ('Sized{"height":200}', "costs 9,600 bytes a step"),
        ("Unseeded", "the same seed gives other episodes from step 0 on"),
        ("Leaves", "'observation' left its bounds"),
        ("Wider", "'observation' is shown as float64, its space says float32: it is rounded"),
        ("Forbids", "an action mask forbids everything before an episode's end: it counts for none"),
        ("Stays", "close() raised RuntimeError: it is gone"),
    ],
)
def test_what_its_user_should_know(name: str, remark: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_checked_env.py").write_text(
        f"import numpy as np\nfrom {MODULE} import Sound\n"
        "class Unseeded(Sound):\n    def show(self):\n        return np.random.default_rng().random(2, np.float32)\n"
        "class Leaves(Sound):\n    length = 20\n"
        "    def show(self):\n        return np.full(2, self.steps / 9, np.float32)\n"
        "class Forbids(Sound):\n    def action_masks(self):\n        return np.zeros(self.action_space.n, bool)\n"
        "class Stays(Sound):\n    def close(self):\n        raise RuntimeError('it is gone')\n"
        "class Wider(Sound):\n    def show(self):\n        return super().show().astype(np.float64)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    module = MODULE if name in ("Never", "Sound") or "Sized" in name else "my_checked_env"
    kwargs = name[name.index("{") :] if "{" in name else None
    options = EnvironmentOptions(env=f"{module}:{name.partition('{')[0]}", env_kwargs=kwargs)
    findings = check_environment(options, CARE, steps=50)
    assert findings.refusals == []
    assert any(remark in text for text in findings.remarks), findings.remarks


@pytest.mark.parametrize(
    ("body", "refusal"),
    [
        (
            "        return np.full(2, np.nan if self.steps == 7 else 0, np.float32)\n",
            "'observation' is not finite, or beyond 1e.18, after a step",
        ),
        ("        return np.zeros(2 + (self.steps == 7), np.float32)\n", r"a step raised ValueError: .*got \(3,\)"),
    ],
)
def test_what_breaks_later_is_refused(body: str, refusal: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / f"my_later_env{len(refusal)}.py").write_text(
        f"import numpy as np\nfrom {MODULE} import Sound\nclass Later(Sound):\n    def show(self):\n{body}"
    )
    monkeypatch.syspath_prepend(tmp_path)
    findings = check_environment(EnvironmentOptions(env=f"my_later_env{len(refusal)}:Later"), CARE, steps=50)
    assert len(findings.refusals) == 1
    assert re.search(refusal, findings.refusals[0])
