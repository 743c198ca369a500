"""Builds the documentation site: `python docs/site.py FOLDER`. Sphinx, MyST and furo, the extra `docs`.

The pages are plain Markdown that reads as well in a repository's own view. Here they are copied beside one another,
with those that live elsewhere in the repository; links are followed, and one that leads nowhere is an error.
docs/index.md is the table of contents: each of its sections becomes a group in the sidebar.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"

ELSEWHERE = {
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "SECURITY.md": "security.md",
    "proto/README.md": "protocol.md",
    "examples/README.md": "examples.md",
    "examples/first_steps.ipynb": "first-steps.md",
}
"""Pages that live outside of docs/ -> where they stand in the site."""

_LINK = re.compile(r"(?<!!)\[((?:[^\[\]]|\[[^\]]*\])*)\]\(([^()\s]+)\)")
_IMAGE = re.compile(r"!\[([^\]]*)\]\(([^()\s]+)\)")
_FENCE = re.compile(r"^( *)(```|~~~)")
_ITEM = re.compile(r"^- \[[^\]]+\]\(([^)#]+)\)")
_CONF = """
project = "seedbed"
version = release = {version!r}
copyright = "the authors of seedbed"
extensions = ["myst_parser"]
myst_heading_anchors = 4
myst_enable_extensions = ["colon_fence"]
html_theme = "furo"
html_title = "seedbed {version}"
html_show_sourcelink = False
html_static_path = []
exclude_patterns = ["_files"]
"""


class DeadLink(Exception):
    """A link of a page leads nowhere."""


def pages() -> dict[Path, str]:
    """Every page: where it lives in the repository -> where it stands in the site."""
    ours = {path.relative_to(ROOT): str(path.relative_to(DOCS)) for path in sorted(DOCS.rglob("*.md"))}
    return {**ours, **{Path(path): name for path, name in ELSEWHERE.items()}}


def build_sources(target: Path) -> None:
    """Writes what Sphinx reads.

    Raises:
        DeadLink: names page and link.
    """
    shutil.rmtree(target, ignore_errors=True)
    known = pages()
    for source, name in known.items():
        file = target / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(rewritten(read_page(ROOT / source), source, known, target))
    shutil.copytree(DOCS / "images", target / "images", dirs_exist_ok=True)
    index = target / known[Path("docs/index.md")]
    index.write_text(index.read_text() + contents(index.read_text(), list(known.values())))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    (target / "conf.py").write_text(_CONF.format(version=project["version"]))


def read_page(path: Path) -> str:
    """A page as Markdown; of a notebook its cells, with what they printed."""
    if path.suffix != ".ipynb":
        return path.read_text()
    lines = []
    for cell in json.loads(path.read_text())["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            lines += [source, ""]
            continue
        lines += ["```python", source, "```", ""]
        printed = "".join(text for output in cell["outputs"] for text in output.get("text", []))
        if printed:
            lines += ["```text", printed.rstrip("\n"), "```", ""]
    return "\n".join(lines)


def rewritten(text: str, source: Path, known: dict[Path, str], target: Path) -> str:
    """A page whose links lead within the site; links into the code become plain words."""
    here = Path(known[source]).parent

    def follow(found: re.Match[str]) -> str:
        words, link = found.groups()
        path, _, anchor = link.partition("#")
        if "://" in link or link.startswith("mailto:") or not path:
            return found.group(0)
        place = Path(os.path.normpath(source.parent / path))
        if not (ROOT / place).exists():
            raise DeadLink(f"{source}: {link} leads nowhere")
        page = known.get(Path("docs/index.md") if place == Path("README.md") else place)
        if page is None:
            return words
        return f"[{words}]({os.path.relpath(page, here)}{'#' + anchor if anchor else ''})"

    def show(found: re.Match[str]) -> str:
        words, link = found.groups()
        place = Path(os.path.normpath(source.parent / link))
        if not (ROOT / place).exists():
            raise DeadLink(f"{source}: {link} leads nowhere")
        return f"![{words}]({os.path.relpath(place.relative_to('docs'), here)})"

    lines, fenced = [], False
    for line in text.splitlines():
        if _FENCE.match(line):
            fenced = not fenced
            line = re.sub(r"```(mermaid|hex)\b", "```text", line)  # which Pygments does not know
        elif not fenced:
            line = _LINK.sub(follow, _IMAGE.sub(show, line))
        lines.append(line)
    return "\n".join(lines) + "\n"


def contents(index: str, known: list[str]) -> str:
    """The sidebar: a group for each section of the index, and one for pages that it does not name."""
    lines: list[str] = []
    title = ""
    groups: dict[str, list[str]] = {}
    for line in index.splitlines():
        if line.startswith("## "):
            title = line[3:]
        elif (found := _ITEM.match(line)) and not any(found.group(1) in names for names in groups.values()):
            groups.setdefault(title, []).append(found.group(1))
    named = {"index.md", *(name for names in groups.values() for name in names)}
    if rest := [name for name in known if name not in named]:
        groups["More"] = rest
    for title, names in groups.items():
        lines += ["", "```{toctree}", ":hidden:", f":caption: {title}", "", *names, "```"]
    return "\n".join(lines) + "\n"


def main() -> int:
    """Builds; returns Sphinx's exit code, where every warning is an error."""
    if len(sys.argv) != 2:
        print("expected one folder for the site", file=sys.stderr)
        return 2
    from sphinx.cmd.build import build_main

    out = Path(sys.argv[1])
    sources = out.parent / "site-sources"
    try:
        build_sources(sources)
    except DeadLink as dead:
        print(dead, file=sys.stderr)
        return 1
    code: int = build_main(["-W", "--keep-going", "-q", "-b", "html", str(sources), str(out)])
    if code == 0:
        print(out / "index.html")
    return code


if __name__ == "__main__":
    sys.exit(main())
