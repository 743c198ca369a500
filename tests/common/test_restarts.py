"""How often something may break."""

from __future__ import annotations

from seedbed.common.restarts import RestartBudget


def test_so_many_restarts_in_any_window() -> None:
    budget = RestartBudget(3, 600.0)
    assert [budget.spend(now_s) for now_s in (0.0, 10.0, 599.0, 599.9)] == [1, 2, 3, None]
    assert budget.spend(600.0) == 3, "the first one is forgotten"
    assert budget.spend(609.9) is None
    assert budget.spend(610.0) == 3
    assert budget.spend(5000.0) == 1
