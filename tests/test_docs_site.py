"""The documentation site: every link leads somewhere, every page is in the contents, references are complete."""

from __future__ import annotations

import importlib.util
import json
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from seedbed.common import errors
from seedbed.common.cli import VERBS
from seedbed.proto import seedbed_pb2 as pb

ROOT = Path(__file__).resolve().parent.parent
REFERENCE = ROOT / "docs" / "reference"


def load(path: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(Path(path).stem + "_of_site", ROOT / path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


site = load("docs/site.py")


def test_every_link_leads_somewhere_and_every_page_is_in_the_contents(tmp_path: Path) -> None:
    site.build_sources(tmp_path / "sources")
    index = (tmp_path / "sources" / "index.md").read_text()
    named = re.findall(r"^([\w/-]+\.md)$", index, re.MULTILINE)
    assert sorted(named) == sorted(set(site.pages().values()) - {"index.md"}), "each once"
    assert "](../" not in (tmp_path / "sources" / "architecture.md").read_text()


def test_a_dead_link_is_an_error(tmp_path: Path) -> None:
    known = site.pages()
    page = Path("docs/faq.md")
    with pytest.raises(site.DeadLink, match=r"docs/faq.md: nowhere.md leads nowhere"):
        site.rewritten("see [this](nowhere.md)", page, known, tmp_path)
    text = site.rewritten(
        "[a](../proto/README.md#x) [b](../Dockerfile) [c](http://x)\n```\n[d](no.md)\n```", page, known, tmp_path
    )
    assert text == "[a](protocol.md#x) b [c](http://x)\n```\n[d](no.md)\n```\n"


@pytest.mark.slow
def test_sphinx_has_no_warning(tmp_path: Path) -> None:
    pytest.importorskip("furo", reason="the extra `docs` is not installed")
    pytest.importorskip("myst_parser", reason="the extra `docs` is not installed")
    done = subprocess.run(
        [sys.executable, ROOT / "docs" / "site.py", tmp_path / "site"], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    assert "Errors and exit codes" in (tmp_path / "site" / "reference" / "exit-codes.html").read_text()


def test_every_message_and_field_of_the_wire_is_on_its_page() -> None:
    page = (REFERENCE / "wire.md").read_text()
    sections = dict(re.findall(r"^## message ([\w.]+)\n(.*?)(?=^## |\Z)", page, re.MULTILINE | re.DOTALL))
    found = {
        name: {(int(number), field) for number, field in re.findall(r"^\| (\d+) \| `(\w+)` \|", text, re.MULTILINE)}
        for name, text in sections.items()
    }
    expected = {
        name: {(field.number, field.name) for field in message.fields}
        for name, message in pb.DESCRIPTOR.message_types_by_name.items()
    }
    assert found == expected


def test_every_verb_that_has_options_is_on_their_page() -> None:
    page = (REFERENCE / "options.md").read_text()
    titles = " ".join(re.findall(r"^## (seedbed .*)$", page, re.MULTILINE))
    missing = [verb for verb in VERBS if f"seedbed {verb}" not in titles]
    assert missing == ["list", "completion"], "which have none"


def test_exit_codes_are_those_of_the_family_in_words() -> None:
    """The table at the top of errors.py is for readers of the code; this is for users."""
    told = re.findall(r"^[|`]- (\w+) +(\d+) +(\S+) +(no|yes) ", errors.__doc__ or "", re.MULTILINE)
    rows = re.findall(
        r"^\| (\d+) \| `(\w+)` \| (\w*) \| (\w+) \|", (REFERENCE / "exit-codes.md").read_text(), re.MULTILINE
    )
    assert sorted(rows) == sorted((code, name, status.strip("-"), again) for name, code, status, again in told)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_the_notebook_prints_what_it_keeps() -> None:
    done = subprocess.run(
        [sys.executable, "run_notebook.py", "first_steps.ipynb", "--check"],
        cwd=ROOT / "examples",
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert done.returncode == 0, done.stderr


def test_the_notebook_is_one_that_was_executed() -> None:
    notebook = json.loads((ROOT / "examples" / "first_steps.ipynb").read_text())
    cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1))
    for cell in cells:
        compile("".join(cell["source"]), "cell", "exec")
