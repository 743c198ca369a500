"""Checks of what a learner is given: groups, normalisers, weights of another run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor, nn

from seedbed.common.errors import ConfigError, UsageError
from seedbed.server.algorithms.interface import moments_within
from seedbed.server.algorithms.update_steps import Group
from seedbed.server.networks.normaliser import Normalisers


def expect_same_network(
    ours: Mapping[str, Tensor], theirs: Mapping[str, Tensor], source: str, differences: Sequence[str] = ()
) -> None:
    """Refuses weights that are not those of this run's network.

    Args:
        ours, theirs: tensors by name, of this run and of another.
        source: that run, for messages.
        differences: between that run and this one, which a message names instead of tensors.

    Raises:
        ConfigError: they differ in names or shapes.
    """
    here, there = _shapes(ours), _shapes(theirs)
    if here == there:
        return
    found = list(differences)
    if not found:
        names = sorted(name for name in {*here, *there} if here.get(name) != there.get(name))
        found = [f"{name} is {there.get(name, 'missing')} there, {here.get(name, 'missing')} here" for name in names]
        found[3:] = [f"and {len(found) - 3} more"] if len(found) > 3 else []
    raise ConfigError(f"expected the network of this run in {source}, got another: {'; '.join(found)}")


def _shapes(weights: Mapping[str, Tensor]) -> dict[str, str]:
    """For comparing and for people."""
    return {name: str(list(tensor.shape)) for name, tensor in weights.items()}


def check_disjoint(groups: Mapping[str, Group]) -> None:
    members = [id(parameter) for group in groups.values() for parameter in group.parameters]
    assert len(members) == len(set(members)), f"a parameter is in two of the groups {', '.join(groups)}"


def check_normalisers(learnt: nn.Module) -> None:
    """Normalisers without accumulators would never learn what is normal.

    Raises:
        UsageError: the algorithm has none.
    """
    wants = any(module.active for module in learnt.modules() if isinstance(module, Normalisers))
    if wants and moments_within(learnt) is None:
        raise UsageError(
            "expected --normalise-observations off: what this algorithm learns has no moments of observations "
            "(Algorithm.with_statistics, Algorithm.observation_moments)"
        )
