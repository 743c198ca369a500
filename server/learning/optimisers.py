"""Optimisers, the learning-rate schedule and gradient clipping, over any list of parameters.

On a CPU each step is a handful of calls over all parameters together, fused or `foreach`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any, Literal

import torch
from torch import Tensor

from seedbed.common.errors import UsageError
from seedbed.server.algorithms.update_steps import Group
from seedbed.server.options.learning import OptimiserConfig

OptimiserName = Literal["adam", "radam", "rmsprop", "rmsprop_tf"]


class RMSPropTF(torch.optim.Optimizer):
    """RMSProp as in TensorFlow 1, with which A3C, IMPALA and SEED RL published their results.

        mean_square = decay * mean_square + (1 - decay) * gradient^2        starting from 1
        velocity    = momentum * velocity + learning_rate * gradient / sqrt(mean_square + epsilon)
        parameter  -= velocity

    `torch.optim.RMSprop` starts from 0 and adds epsilon outside the root, and learns differently with the same numbers
    (pytorch/pytorch issue 23796). The defaults are IMPALA's for Atari (arXiv 1802.01561, table G.1).
    """

    def __init__(
        self,
        parameters: Iterable[Tensor],
        lr: float,
        *,
        decay: float = 0.99,
        epsilon: float = 0.01,
        momentum: float = 0.0,
    ) -> None:
        for name, value in (("lr", lr), ("epsilon", epsilon), ("momentum", momentum)):
            if value < 0:
                raise ValueError(f"expected {name} of at least 0, got {value}")
        if not 0 <= decay <= 1:
            raise ValueError(f"expected decay between 0 and 1, got {decay}")
        super().__init__(parameters, {"lr": lr, "decay": decay, "epsilon": epsilon, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]  # no closures: nothing here re-evaluates
        """Applies the gradients; parameters without one stay."""
        for group in self.param_groups:
            parameters = [parameter for parameter in group["params"] if parameter.grad is not None]
            if parameters:
                self._step_group(group, parameters)

    def _step_group(self, group: dict[str, Any], parameters: list[Tensor]) -> None:
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        mean_squares = [self._slot(parameter, "mean_square", 1.0) for parameter in parameters]
        torch._foreach_mul_(mean_squares, group["decay"])
        torch._foreach_addcmul_(mean_squares, gradients, gradients, value=1.0 - group["decay"])
        roots = torch._foreach_add(mean_squares, group["epsilon"])
        torch._foreach_sqrt_(roots)
        if group["momentum"] == 0.0:
            torch._foreach_addcdiv_(parameters, gradients, roots, value=-group["lr"])
            return
        velocities = [self._slot(parameter, "velocity", 0.0) for parameter in parameters]
        torch._foreach_mul_(velocities, group["momentum"])
        torch._foreach_addcdiv_(velocities, gradients, roots, value=group["lr"])
        torch._foreach_sub_(parameters, velocities)

    def _slot(self, parameter: Tensor, name: str, start: float) -> Tensor:
        state: dict[str, Tensor] = self.state[parameter]
        if name not in state:
            state[name] = torch.full_like(parameter, start)
        return state[name]


def make_optimiser(
    parameters: Iterable[Tensor],
    *,
    name: OptimiserName,
    learning_rate: float,
    epsilon: float,
    decay: float = 0.99,
    momentum: float = 0.0,
    centred: bool = False,
    beta1: float = 0.9,
    beta2: float = 0.999,
    graphed: bool = False,
) -> torch.optim.Optimizer:
    """Builds the optimiser of that name.

    Args:
        parameters: what it updates.
        name: "adam", "radam" (Liu et al. 2020, arXiv 1908.03265: Adam whose steps are small while few gradients are
            known), "rmsprop" as in PyTorch, or "rmsprop_tf" as in TensorFlow.
        learning_rate: at the start; `set_learning_rate` changes it.
        epsilon: of all four, though each adds it in another place. It scales with the gradient: going from a summed
            to a mean loss over n steps divides the epsilon of the same behaviour by n (both Adams, rmsprop), or by n^2
            (rmsprop_tf, inside the root).
        decay: of the mean square, in both RMSProps.
        momentum: of both RMSProps.
        centred: of "rmsprop": the variance of the gradient instead of its mean square (Graves 2013, arXiv 1308.0850).
        beta1, beta2: of both Adams.
        graphed: of adam on a CUDA device: its steps can be recorded, and the learning rate is a tensor.

    Raises:
        UsageError: an option that this optimiser does not have.
    """
    if centred and name != "rmsprop":
        raise UsageError(f"expected --centred with --optimiser rmsprop, got it with {name}")
    if name == "adam" and graphed:
        parameters = list(parameters)
        rate = torch.tensor(learning_rate, device=parameters[0].device)
        return torch.optim.Adam(parameters, lr=rate, betas=(beta1, beta2), eps=epsilon, fused=True, capturable=True)
    if name == "adam":
        return torch.optim.Adam(parameters, lr=learning_rate, betas=(beta1, beta2), eps=epsilon, fused=True)
    if name == "radam":
        return torch.optim.RAdam(parameters, lr=learning_rate, betas=(beta1, beta2), eps=epsilon, foreach=True)
    if name == "rmsprop":
        return torch.optim.RMSprop(
            parameters,
            lr=learning_rate,
            alpha=decay,
            eps=epsilon,
            momentum=momentum,
            centered=centred,
            foreach=True,
        )
    if name == "rmsprop_tf":
        return RMSPropTF(parameters, learning_rate, decay=decay, epsilon=epsilon, momentum=momentum)
    raise ValueError(f"expected optimiser 'adam', 'radam', 'rmsprop' or 'rmsprop_tf', got {name!r}")


def linear_decay(start: float, end_fraction: float, progress: float) -> float:
    """Goes from `start` at progress 0 to `start * end_fraction` at progress 1, and stays there."""
    return start * (1.0 + (end_fraction - 1.0) * min(max(progress, 0.0), 1.0))


def set_learning_rate(optimiser: torch.optim.Optimizer, learning_rate: float) -> None:
    """Sets the learning rate of all parameter groups."""
    for group in optimiser.param_groups:
        if isinstance(group["lr"], Tensor):
            group["lr"].fill_(learning_rate)
        else:
            group["lr"] = learning_rate


def load_optimiser(optimiser: torch.optim.Optimizer, state: Mapping[str, Any]) -> None:
    """Loads its state; whether it can be recorded is this start's affair, and every step sets the learning rate."""
    own: list[dict[str, Any]] = [
        {name: group[name] for name in ("lr", "capturable") if name in group} for group in optimiser.param_groups
    ]
    optimiser.load_state_dict(dict(state))
    for group, kept in zip(optimiser.param_groups, own, strict=True):
        group.update(kept)


def clip_gradients(parameters: Iterable[Tensor], max_norm: float) -> Tensor:
    """Scales the gradients so that their global norm is at most `max_norm`; infinity only measures.

    A gradient that is not finite becomes zero: one absurd number of one client must not turn all parameters into NaN.

    Returns:
        The norm before clipping, a scalar on the parameters' device.
    """
    parameters = list(parameters)
    if math.isinf(max_norm):
        norm = torch.nn.utils.get_total_norm([x.grad for x in parameters if x.grad is not None], foreach=True)
    else:
        norm = torch.nn.utils.clip_grad_norm_(parameters, max_norm, foreach=True)
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    lost = ~norm.isfinite()
    if lost.device.type != "cpu":  # asking would wait for the whole update
        _zero_where(lost, gradients)
    elif lost:
        torch._foreach_zero_(gradients)
    return norm


@torch.no_grad()
def _zero_where(lost: Tensor, gradients: list[Tensor]) -> None:
    """Zeroes all gradients where a scalar on their device says so: three launches, whatever number there is.

    Multiplying would not do: NaN times 0 is NaN.
    """
    flat = [gradient.as_strided((gradient.numel(),), (1,)) for gradient in gradients]  # dense, whatever their order
    kept = torch.where(lost, 0.0, torch.cat(flat))
    torch._foreach_copy_(flat, kept.split([len(part) for part in flat]))


def optimiser_of(group: Group, config: OptimiserConfig, graphed: bool) -> torch.optim.Optimizer:
    """The optimiser of a group of parameters, whose own learning rate wins."""
    return make_optimiser(
        group.parameters,
        name=config.optimiser,
        learning_rate=config.learning_rate if group.learning_rate is None else group.learning_rate,
        epsilon=config.epsilon,
        decay=config.decay,
        momentum=config.momentum,
        centred=config.centred,
        beta1=config.beta1,
        beta2=config.beta2,
        graphed=graphed,
    )
