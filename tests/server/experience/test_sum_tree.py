"""The sum tree against a plain list: sums, boundaries, frequencies, and places that must never be drawn."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from seedbed.server.experience.sum_tree import SumTree

WEIGHTS = st.lists(st.floats(0, 1e6) | st.just(0.0), min_size=1, max_size=40)


def make_tree(priorities: list[float]) -> SumTree:
    tree = SumTree(len(priorities))
    tree[np.arange(len(priorities))] = np.array(priorities)
    return tree


def check_sums(tree: SumTree) -> None:
    nodes = tree._nodes
    inner = np.arange(1, len(nodes) // 2)
    assert np.array_equal(nodes[inner], nodes[2 * inner] + nodes[2 * inner + 1])


def test_parents_are_the_sums_of_their_children_after_every_change() -> None:
    random = np.random.default_rng(0)
    for capacity in (1, 2, 3, 7, 8, 100):
        tree, plain = SumTree(capacity), np.zeros(capacity)
        for _ in range(200):
            places = random.integers(0, capacity, random.integers(1, 20))
            values = random.lognormal(0, 8, len(places)) * (random.random(len(places)) > 0.2)
            tree[places] = values
            for place, value in zip(places, values, strict=True):
                plain[place] = value  # the last one counts
            check_sums(tree)
            assert np.array_equal(tree[np.arange(capacity)], plain)
            assert tree.total == pytest.approx(plain.sum(), rel=1e-12)


def test_sums_do_not_drift() -> None:
    tree = make_tree([1e12, 1.0])
    for _ in range(1000):
        tree[np.array([0])] = np.array([1e12 / 3])
        tree[np.array([0])] = np.array([0.0])
    assert tree.total == 1.0


def test_each_target_finds_the_place_that_holds_it() -> None:
    tree = make_tree([1.0, 0.0, 2.0, 4.0, 1.0])
    targets = np.array([0.0, 0.999, 1.0, 2.999, 3.0, 6.999, 7.0, 7.999])
    assert tree.find(targets).tolist() == [0, 0, 2, 2, 3, 3, 4, 4]


@given(WEIGHTS, st.lists(st.floats(0, 1), min_size=1, max_size=20))
def test_find_agrees_with_a_running_sum_and_avoids_zeros(priorities: list[float], shares: list[float]) -> None:
    tree = make_tree(priorities)
    if not tree.total:
        return
    targets = np.array(shares) * tree.total  # 1 is out of range: what rounding may bring
    found = tree.find(targets)
    assert (tree[found] > 0).all()
    above = np.cumsum(priorities)[found]
    below = above - np.array(priorities)[found]
    slack = 1e-9 * tree.total
    assert (below <= targets + slack).all()
    assert (above >= targets - slack).all()


def test_places_are_drawn_in_proportion_to_their_priorities() -> None:
    """A chi-squared test with 7 degrees of freedom; 29.9 is exceeded once in ten thousand times."""
    priorities = np.array([1.0, 0.0, 5.0, 0.5, 3.0, 2.0, 0.0, 8.0, 1.5, 4.0])
    tree, random = make_tree(priorities.tolist()), np.random.default_rng(1)
    draws = np.concatenate([tree.sample(1, random) for _ in range(20_000)])
    counts = np.bincount(draws, minlength=10)
    expected = priorities / priorities.sum() * len(draws)
    assert not counts[priorities == 0].any()
    some = priorities > 0
    assert ((counts - expected)[some] ** 2 / expected[some]).sum() < 29.9


def test_a_sample_is_stratified() -> None:
    """With k equal priorities, k draws are each place once, whatever the random numbers."""
    tree = make_tree([2.0] * 64)
    assert sorted(tree.sample(64, np.random.default_rng(2)).tolist()) == list(range(64))


def test_what_makes_no_sense_is_refused() -> None:
    tree = make_tree([1.0, 2.0])
    with pytest.raises(ValueError, match="finite priorities of at least 0"):
        tree[np.array([0])] = np.array([np.nan])
    with pytest.raises(ValueError, match="finite priorities of at least 0"):
        tree[np.array([0])] = np.array([-1.0])
    with pytest.raises(ValueError, match="places below 2"):
        tree[np.array([2])] = np.array([1.0])
    with pytest.raises(ValueError, match="all are 0"):
        SumTree(3).sample(1, np.random.default_rng(0))
    with pytest.raises(ValueError, match="capacity of at least 1"):
        SumTree(0)
