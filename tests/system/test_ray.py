"""`seedbed fleet --ray` on a real Ray; the drill runs in namespaces of its own."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from tests.system.namespaces import missing_rights

pytestmark = [pytest.mark.system, pytest.mark.slow, pytest.mark.timeout(900)]


def test_a_node_is_lost_and_its_rows_come_back() -> None:
    if importlib.util.find_spec("ray") is None:
        pytest.skip("ray, of the extra `ray`, is not installed")
    if reason := missing_rights():
        pytest.skip(reason)
    folder = Path(tempfile.mkdtemp(prefix="ray-"))  # short: sockets lie in it
    # Process 1 there is a shell, because it has to bury the dead: workers look whether their raylet is still a process.
    own = ("unshare", "--net", "--pid", "--fork", "--mount-proc", "--kill-child")
    try:
        done = subprocess.run(
            [*own, "bash", "-c", f"{sys.executable} -m tests.system.ray_drill {folder}; exit $?"],
            cwd=Path(__file__).resolve().parents[2],
            capture_output=True,
            text=True,
            timeout=600,
        )
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    print(done.stdout, done.stderr[-6000:])
    assert done.returncode == 0
    measured = dict(line.split() for line in done.stdout.splitlines() if len(line.split()) == 2 and "_s " in line)
    assert set(measured) == {"rows_live_s", "rows_back_s", "left_s"}
    # On a busy machine as long as the first start needs, since that is what is done again.
    assert float(measured["rows_back_s"]) < max(30.0, 2 * float(measured["rows_live_s"]))
