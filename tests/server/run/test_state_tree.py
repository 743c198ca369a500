"""Nested states taken apart and put together."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch

from seedbed.server.run.state_tree import flatten_state, unflatten_state


def _round_trip(state: Any, prefix: str = "state") -> Any:
    tensors, structure = flatten_state(prefix, state)
    copies = {name: tensor.clone() for name, tensor in tensors.items()}  # as a file would
    return unflatten_state(copies, json.loads(json.dumps(structure)))


def assert_same(found: Any, expected: Any) -> None:
    """Equal values of equal types all the way down; tensors bit for bit."""
    if isinstance(expected, torch.Tensor):
        assert found.dtype == expected.dtype
        assert torch.equal(found, expected)
        return
    assert type(found) is type(expected)
    if isinstance(expected, dict):
        assert list(found) == list(expected)
        for key in expected:
            assert_same(found[key], expected[key])
    elif isinstance(expected, list | tuple):
        assert len(found) == len(expected)
        for one, other in zip(found, expected, strict=True):
            assert_same(one, other)
    else:
        assert found == expected


def _trained(cls: Any, **options: Any) -> tuple[torch.nn.Module, torch.optim.Optimizer]:
    torch.manual_seed(0)
    network = torch.nn.Linear(3, 2)
    optimiser = cls(network.parameters(), **options)
    _step(network, optimiser)
    return network, optimiser


def _step(network: torch.nn.Module, optimiser: torch.optim.Optimizer) -> None:
    optimiser.zero_grad()
    network(torch.arange(6.0).reshape(2, 3)).square().sum().backward()
    optimiser.step()


@pytest.mark.parametrize(
    ("cls", "options"),
    [
        (torch.optim.Adam, {"lr": 1e-2, "fused": True}),
        (torch.optim.AdamW, {"lr": torch.tensor(1e-2), "foreach": False}),
        (torch.optim.RMSprop, {"lr": 1e-2, "momentum": 0.9, "centered": True}),
    ],
)
def test_optimisers_go_on_as_if_nothing_had_happened(cls: Any, options: dict[str, Any]) -> None:
    network, optimiser = _trained(cls, **options)
    restored = _round_trip(optimiser.state_dict())
    assert_same(restored, optimiser.state_dict())

    other = torch.nn.Linear(3, 2)
    other.load_state_dict(network.state_dict())
    again = cls(other.parameters(), **{**options, "lr": 1.0})
    again.load_state_dict(restored)
    _step(network, optimiser)
    _step(other, again)
    assert torch.equal(other.weight, network.weight)  # type: ignore[arg-type]


def test_names_and_types() -> None:
    state = {
        "a.b": torch.tensor(1),
        "numbers": {0: [torch.tensor(2), None, True, 3, 0.1, float("inf")], 10: (), 2: ((1,), [], {})},
        "tensor": {"tensor": "not one"},
    }
    tensors, _ = flatten_state("s", state)
    assert {name: int(tensor) for name, tensor in tensors.items()} == {"s.a.b": 1, "s.numbers.0.0": 2}
    assert_same(_round_trip(state), state)
    assert list(flatten_state("", state)[0]) == ["a.b", "numbers.0.0"]


def test_what_cannot_be_kept_is_refused() -> None:
    with pytest.raises(TypeError, match=r"state\.x\.0: expected tensors and what JSON can hold, got dtype"):
        flatten_state("state", {"x": [torch.float32]})
    with pytest.raises(ValueError, match=r"two tensors are called 's\.a\.b'"):
        flatten_state("s", {"a.b": torch.tensor(1), "a": {"b": torch.tensor(2)}})
