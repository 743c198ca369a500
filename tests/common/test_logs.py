"""What a program of ours sets for gRPC before it imports it; somebody's own settings stand."""

from __future__ import annotations

import os
import subprocess
import sys

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
