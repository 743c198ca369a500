"""The layer that knows the task: apart from the first update on, and no task moves what belongs to another."""

from __future__ import annotations

import torch

from seedbed.server.networks.task_input import TaskInput


def test_tasks_read_the_same_features_in_their_own_ways() -> None:
    torch.manual_seed(0)
    layer = TaskInput(64, 2)
    features = torch.tanh(torch.randn(500, 64))
    first, second = (layer(features, torch.full((500,), task)) for task in range(2))
    assert first.shape == (500, 64)
    # A one-hot number beside the 64 features left them at 0.97.
    likeness = torch.nn.functional.cosine_similarity(first, second, dim=-1).mean()
    assert likeness < 0.75


def test_rows_have_the_layer_of_their_task() -> None:
    layer = TaskInput(4, 3)
    with torch.no_grad():
        layer.common.weight.copy_(torch.eye(4))
        layer.gain.copy_(torch.tensor([1.0, -1.0, 2.0])[:, None].expand(3, 4))
        layer.shift.copy_(torch.tensor([0.0, 0.5, -1.0])[:, None].expand(3, 4))
    features = torch.tensor([1.0, -1.0, 0.25, 3.0]).expand(2, 3, 4)
    found = layer(features, torch.tensor([[0, 1, 2], [2, 1, 0]]))
    of_task = [[1.0, 0.0, 0.25, 3.0], [0.0, 1.5, 0.25, 0.0], [1.0, 0.0, 0.0, 5.0]]
    assert found.tolist() == [of_task, of_task[::-1]]


def test_what_a_task_learns_leaves_gain_and_shift_of_the_others() -> None:
    layer = TaskInput(4, 3)
    layer(torch.randn(5, 4), torch.full((5,), 1)).sum().backward()
    for parameter in (layer.gain, layer.shift):
        assert parameter.grad is not None
        assert parameter.grad[1].any()
        assert not parameter.grad[[0, 2]].any()
