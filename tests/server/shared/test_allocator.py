"""Memory that is freed and taken again costs no page faults. In a process of its own: the setting is for good."""

from __future__ import annotations

import subprocess
import sys

import pytest

PROGRAM = """
import resource, sys, threading
from seedbed.server.shared.allocator import keep_freed_memory

if sys.argv[1] == "keep":
    keep_freed_memory()
import torch

def batch():
    first, second = torch.ones(2_000_000), torch.ones(1_000_000)
    third = first[:1_000_000] + second
    del first
    fourth = torch.ones(2_000_000)

def work():
    for _ in range(5):
        batch()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(50):
        batch()
    print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)

thread = threading.Thread(target=work)  # inference and learner are threads: glibc gives each an arena of its own
thread.start()
thread.join()
"""


def page_faults(mode: str) -> int:
    result = subprocess.run([sys.executable, "-c", PROGRAM, mode], capture_output=True, text=True, check=True)
    return int(result.stdout)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc only")
def test_freed_memory_is_kept() -> None:
    assert page_faults("keep") < 2_000, "at most one block is touched for the first time"
    if sys.version_info < (3, 13):  # from there on the threshold that glibc adapts by itself happens to be enough here
        assert page_faults("give back") > 3_000
