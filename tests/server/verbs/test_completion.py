"""`seedbed completion`: scripts that shells read, and that know verbs, options and names."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from seedbed.common.cli import VERBS
from seedbed.common.errors import MissingExtraError, UsageError
from seedbed.server.verbs import completion

pytest.importorskip("shtab")


@pytest.fixture(scope="module")
def script(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """For bash, as a shell would get it."""
    file = tmp_path_factory.mktemp("completion") / "seedbed.bash"
    with file.open("w") as output:
        subprocess.run(
            [sys.executable, "-c", "from seedbed.common.cli import main; main()", "completion", "bash"],
            stdout=output,
            check=True,
        )
    return file


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ("seedbed ev", {"eval"}),
        ("seedbed train --burn", {"--burn-in"}),
        ("seedbed train --clip-rat", {"--clip-ratio"}),
        ("seedbed train --algorithm pp", {"ppo"}),
        ("seedbed train --torso impala_s", {"impala_shallow"}),
        ("seedbed train --preset car", {"cartpole"}),
        ("seedbed env --first", {"--first-index"}),
        ("seedbed train --import-f", set()),
    ],
)
def test_a_shell_completes(words: str, found: set[str], script: Path) -> None:
    if shutil.which("bash") is None:
        pytest.skip("no bash")
    text = f"source {script}; COMP_WORDS=({words}); COMP_CWORD={len(words.split()) - 1}; _shtab_seedbed; " + (
        'echo "${COMPREPLY[@]}"'
    )
    done = subprocess.run(["bash", "-c", text], capture_output=True, text=True, check=True)
    assert set(done.stdout.split()) == found
    assert done.stderr == ""


def test_every_verb_is_in_it(script: Path) -> None:
    assert all(f"seedbed_{verb}_" in script.read_text() for verb in VERBS)


def test_what_is_wrong_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    for argv in ([], ["fish"]):
        with pytest.raises(UsageError, match="expected seedbed completion bash or seedbed completion zsh, got"):
            completion.main(argv)
    monkeypatch.setitem(sys.modules, "shtab", None)
    with pytest.raises(MissingExtraError, match='expected the extra "completion"'):
        completion.main(["bash"])
