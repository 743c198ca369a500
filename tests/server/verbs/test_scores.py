"""Human-normalised scores and summaries."""

from __future__ import annotations

import pytest

from seedbed.server.run.human_scores import RANDOM_AND_HUMAN, human_normalised
from seedbed.server.verbs.scores import summarise


def test_random_is_zero_and_human_one() -> None:
    assert len(RANDOM_AND_HUMAN) == 57
    for game, (random, human) in RANDOM_AND_HUMAN.items():
        assert human > random
        assert human_normalised(f"ALE/{game}-v5", random) == 0.0
        assert human_normalised(f"ALE/{game}-v5", human) == pytest.approx(1.0)


def test_by_hand() -> None:
    """By hand, from the random and human scores of both games."""
    assert human_normalised("ALE/Pong-v5", 21.0) == pytest.approx((21.0 + 20.7) / (14.6 + 20.7))
    assert human_normalised("ALE/Breakout-v5", 345.3) == pytest.approx(11.93, abs=0.01)


@pytest.mark.parametrize("environment_id", ["CartPole-v1", "Pong-v5", "ALE/Tetris-v5", "ALE/Pong", "seedbed/Pong-v5"])
def test_other_environments_have_none(environment_id: str) -> None:
    assert human_normalised(environment_id, 1.0) is None


def test_games_are_called_as_in_gymnasium() -> None:
    pytest.importorskip("ale_py")
    registry = pytest.importorskip("gymnasium").registry
    assert [game for game in RANDOM_AND_HUMAN if f"ALE/{game}-v5" not in registry] == []


def test_summary() -> None:
    summary = summarise([1.0, 2.0, 3.0, 10.0])
    assert (summary.mean, summary.median, summary.episodes) == (4.0, 2.5, 4)
    # Sample variance (9 + 4 + 1 + 36) / 3, over 4 episodes.
    assert summary.standard_error == pytest.approx((50 / 3 / 4) ** 0.5)
    assert str(summary) == "4.00 ± 2.04 (median 2.50, 4 episodes)"
    assert summarise([5.0]).standard_error is None
    with pytest.raises(ValueError, match="at least one episode return"):
        summarise([])
