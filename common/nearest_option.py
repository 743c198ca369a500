"""The option that somebody meant who mistyped one: by its words, its initials, its letters, or what its help says."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping


def nearest_option(typed: str, options: Mapping[str, str]) -> str | None:
    """The likeliest option, None if none is near.

    Args:
        typed: as it stood on the command line, --lr.
        options: flag -> help.
    """
    name = typed.lstrip("-").replace("_", "-").lower()
    if not name:
        return None
    words = {flag: flag.lstrip("-").split("-") for flag in options}
    rules = (
        lambda flag: flag.lstrip("-") == name,  # --learning_rate
        lambda flag: "".join(word[0] for word in words[flag] if word) == name,  # --lr
        lambda flag: set(name.split("-")) < set(words[flag]),  # --envs, --batch
        lambda flag: set(words[flag]) < set(name.split("-")),  # --env-id
    )
    for rule in rules:
        if found := [flag for flag in options if rule(flag)]:
            return min(found, key=lambda flag: (len(words[flag]), len(flag)))
    if near := difflib.get_close_matches(typed, options, n=1, cutoff=0.7):
        return near[0]
    # --gamma: "gamma, how much less ..."; a name that many options speak of says nothing
    told = [flag for flag, text in options.items() if re.search(rf"\b{re.escape(name)}\b", text.lower())]
    return told[0] if len(told) == 1 else None
