"""Sizes that are too large: a sentence that names the options, whichever memory it is that has no room."""

from __future__ import annotations

import pytest
import torch

from seedbed.server.verbs.train import out_of_memory


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (torch.OutOfMemoryError("CUDA out of memory"), "the device has no memory left: a smaller --batch-size"),
        (MemoryError(), "this machine has no memory left: a smaller --batch-size"),
        (RuntimeError("a defect"), None),
    ],
)
def test_what_comes_of_too_little_memory_names_the_options(
    error: RuntimeError | MemoryError, words: str | None
) -> None:
    told = out_of_memory(error)
    assert (told is None) if words is None else words in str(told)


def test_the_cpu_says_so_in_words_of_its_own() -> None:
    with pytest.raises(RuntimeError) as raised:
        torch.empty(1 << 60)
    told = out_of_memory(raised.value)
    assert told is not None
    assert "--unroll-length" in str(told)
    assert "\n" not in str(told)
