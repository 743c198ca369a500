"""What a program of ours sets for gRPC before it imports it; and its end, whatever hangs in it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.parametrize(("own", "expected"), [(None, "0"), ("1", "1")])
@pytest.mark.parametrize("program", ["seedbed.env_client.__main__", "seedbed.server.__main__"])
def test_grpc_leaves_forks_alone_unless_asked_to(program: str, own: str | None, expected: str) -> None:
    """Before gRPC looks at the variable: when it is imported."""
    code = (
        "import importlib.abc, os, sys\n"
        "class Look(importlib.abc.MetaPathFinder):\n"
        "    def find_spec(self, name, path, target=None):\n"
        "        if name == 'grpc':\n"
        "            print(os.environ.get('GRPC_ENABLE_FORK_SUPPORT'))\n"
        "sys.meta_path.insert(0, Look())\n"
        f"import {program}\n"
        "import grpc\n"
    )
    environment = {name: value for name, value in os.environ.items() if name != "GRPC_ENABLE_FORK_SUPPORT"}
    environment |= {} if own is None else {"GRPC_ENABLE_FORK_SUPPORT": own}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.split() == [expected]


HANGS = """
import concurrent.futures, sys, threading, time
from seedbed.common.logs import end_without_waiting, run_main

def main(argv):
    hang = lambda: concurrent.futures.ThreadPoolExecutor().submit(time.sleep, 1000)
    threading.Thread(target=hang, daemon=True).start()
    time.sleep(0.2)
    if argv:
        end_without_waiting()
    print("done", flush=True)
    return 3

sys.exit(run_main(main))
"""


@pytest.mark.parametrize("told", [True, False])
def test_a_program_in_which_something_hangs_ends_all_the_same(told: bool) -> None:
    """An interpreter waits at its end for the threads of executors."""
    command = [sys.executable, "-c", HANGS, *(["told"] if told else [])]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "done\n"
        if told:
            assert process.wait(60) == 3
        else:
            with pytest.raises(subprocess.TimeoutExpired):
                process.wait(1)
    finally:
        process.kill()
        process.communicate()


@pytest.mark.skipif(os.name == "nt", reason="a shell of POSIX")
def test_a_program_without_standard_streams_works(tmp_path: Path) -> None:
    """A daemon's: whatever is opened first would get their numbers, and lines of the log with them."""
    code = (
        "import os, sys\nfrom pathlib import Path\nfrom seedbed.common.logs import run_main\n"
        "def main(argv):\n    with open('data', 'w') as file:\n        assert file.fileno() > 2\n"
        "        print('out', flush=True)\n        os.write(2, b'err')\n        file.write('mine')\n    return 0\n"
        "sys.exit(run_main(main, []))\n"
    )
    command = f"'{sys.executable}' -c \"$CODE\" <&- >&- 2>&-"
    done = subprocess.run(command, shell=True, cwd=tmp_path, env={**os.environ, "CODE": code}, check=False)
    assert done.returncode == 0
    assert (tmp_path / "data").read_text() == "mine"
