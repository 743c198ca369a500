"""Advantage actor-critic in step: A3C's loss on what the very parameters being learnt did."""

from __future__ import annotations

from seedbed.server.algorithms.a3c import A3C


class A2C(A3C):
    """The algorithm behind `--algorithm a2c`. A train batch is one unroll of every environment; the lag is 0."""

    regime = "rounds"
