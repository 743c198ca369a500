"""Follows a page as a reader would: `python docs/follow.py PAGE FOLDER`.

Blocks in ```python that begin with `# NAME.py` become files of that name in the folder; blocks in ```sh are run there,
one after the other, in one shell, until one fails. All other blocks are for reading.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

_BLOCK = re.compile(r"^```(python|sh)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_FILE = re.compile(r"# ([\w./-]+\.py)\n")


def script(page: str, folder: Path) -> str:
    """Writes the files of a page into a folder; returns its commands, each said before it runs.

    Files are written at once, since no command of a page looks for one that is not there.
    """
    lines = ["set -eu", f"cd '{folder}'"]
    for language, text in _BLOCK.findall(page):
        if language == "sh":
            for command in text.splitlines():
                lines += [f"printf '$ %s\\n' {_quoted(command)}", command]
        elif found := _FILE.match(text):
            (folder / found.group(1)).write_text(text)
    return "\n".join(lines) + "\n"


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"


def main() -> int:
    """Follows it; returns the exit code of the command that failed, or 0."""
    if len(sys.argv) != 3:
        print("expected a page and a folder", file=sys.stderr)
        return 2
    page, folder = Path(sys.argv[1]), Path(sys.argv[2]).absolute()
    folder.mkdir(parents=True, exist_ok=True)
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])  # this Python's own programs
    return subprocess.run(["bash", "-c", script(page.read_text(), folder)], env={**os.environ, "PATH": path}).returncode


if __name__ == "__main__":
    sys.exit(main())
