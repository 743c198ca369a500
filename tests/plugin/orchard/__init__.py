"""Plug-in of seedbed: an environment, a torso with a transformer in it, and an algorithm with options of its own."""
