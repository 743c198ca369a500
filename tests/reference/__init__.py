"""Slow oracles that look like the papers."""
