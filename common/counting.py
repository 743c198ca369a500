"""Counted things in sentences for people."""

from __future__ import annotations


def count(number: int, thing: str) -> str:
    """As "1 episode", "2 episodes"."""
    return f"{number:,} {thing}{'' if number == 1 else 's'}"
