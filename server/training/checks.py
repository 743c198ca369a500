"""Checks of algorithms and torsos for their authors' tests: what every part of seedbed relies on, tried on the CPU.

Batches are recorded as a server records them: the algorithm acts on random rows. Whatever is wrong is an
AssertionError with a sentence.
"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from seedbed.common.options import override
from seedbed.common.plugins import Trust
from seedbed.common.specs import ArraySpec, EnvironmentSpec, discrete
from seedbed.server.algorithms.batch_reading import batch_inputs
from seedbed.server.algorithms.interface import Algorithm
from seedbed.server.algorithms.registry import find_algorithm
from seedbed.server.experience.batch import TrainBatch
from seedbed.server.experience.unroll import ACTION_MASK, FieldSpec, action_field
from seedbed.server.learning.learner import Learner
from seedbed.server.networks.check import check_torso as try_torso
from seedbed.server.networks.distributions import ActionSpace
from seedbed.server.networks.registry import find_core, find_torso
from seedbed.server.networks.torso import Torso
from seedbed.server.options.config import ServerConfig
from seedbed.server.options.learning import OptimiserConfig
from seedbed.server.options.network import NetworkConfig
from seedbed.server.training.recording import record

VECTORS = EnvironmentSpec(
    environment="vectors",
    observations=(ArraySpec(name="observation", dtype="float32", shape=(6,)),),
    actions=(discrete("action", 3),),
)
"""Environment that algorithms are checked with unless another is given."""

IMAGES = (ArraySpec(name="observation", dtype="uint8", shape=(84, 84), low=(0,), high=(255,)),)
"""Observations that torsos are checked with unless others are given."""

_SMALL: Mapping[str, Any] = {
    "network.frame_stack": 1,
    "network.precision": "float32",
    "learning.batch_size": 4,
}
_NETWORK = NetworkConfig(precision="float32")
_CPU = torch.device("cpu")
_BEHAVIOUR = "behaviour"
_ANY = Trust(allow_import=True)
_TOLERANCE = 1e-4


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    """Small tensors: more threads only wait for one another."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@_one_thread()
def check_algorithm(
    algorithm: type[Algorithm] | str, spec: EnvironmentSpec = VECTORS, options: Mapping[str, Any] | None = None
) -> None:
    """Acts, records, learns, is saved and restored.

    Args:
        algorithm: the class, or its name.
        spec: of an environment that it can learn.
        options: common ones or its own, by dotted path, over its defaults and a small network.

    Raises:
        AssertionError: it breaks a rule that the rest relies on.
    """
    found = find_algorithm(algorithm, _ANY) if isinstance(algorithm, str) else algorithm
    start = replace(ServerConfig(), algorithm=found.__name__, algorithm_options=found.Options())
    config = override(start, {**found.defaults(spec), **_SMALL, **(options or {})})
    find_torso(config.network.torso, _ANY)
    find_core(config.network.core, _ANY)
    torch.manual_seed(0)
    made = found(config, spec)
    learner = Learner(made, config.optimiser, _CPU)
    batch = record(made, learner.network, spec, num_unrolls=made.batch_size)
    _check_recorded(made, batch)
    _check_actions(spec, batch)
    _check_unroll_is_step_by_step(made, learner, batch)
    _check_behaviour(made, learner, spec, batch)
    _check_nothing_is_learnt_from_nothing(made, learner, batch)
    _check_moments(made, learner, batch)
    _check_restored(made, config.optimiser, spec)


@_one_thread()
def check_torso(
    torso: type[Torso] | str,
    shown: tuple[ArraySpec, ...] = IMAGES,
    frame_stacks: tuple[int, ...] = (),
    config: NetworkConfig = _NETWORK,
) -> None:
    """Reads rows, each by itself, and learns with all of its weights.

    Args:
        torso: class, or name.
        shown: specs of the observations.
        frame_stacks: K of each; 1 unless given.
        config: options of the network.

    Raises:
        AssertionError: it breaks a rule that the rest relies on.
    """
    torch.manual_seed(0)
    found = find_torso(torso, _ANY) if isinstance(torso, str) else torso
    try_torso(found, shown, frame_stacks or (1,) * len(shown), config)


def _check_recorded(algorithm: Algorithm, batch: TrainBatch) -> None:
    """Every field that it says it records, of the shape and dtype that it says."""
    for name, spec in algorithm.recorded.items():
        came = batch.fields[name]
        got = FieldSpec(tuple(came.shape[2:]), came.dtype)
        assert got == spec, f"expected `act` to record {name} as {spec}, got {got}"
        assert torch.isfinite(came.float()).all(), f"expected finite values of {name}"
    initial = algorithm.acting(algorithm.make_learnt()).initial_state(batch.valid.shape[1])
    for number, (part, first) in enumerate(zip(batch.state, initial, strict=True)):
        assert part.shape == first.shape, f"expected state {number} to keep {first.shape}, got {part.shape}"
        assert part.dtype == first.dtype, f"expected state {number} to keep {first.dtype}, got {part.dtype}"


def _check_actions(spec: EnvironmentSpec, batch: TrainBatch) -> None:
    """Samples that the learner asks the probability of, finite and of the spec's shape."""
    for action in spec.actions:
        samples = batch.fields[action_field(action.name)]
        assert samples.shape[2:] == action.shape, f"expected {action.shape} of {action.name}, got {samples.shape[2:]}"
        assert torch.isfinite(samples.float()).all(), f"expected finite samples of {action.name}"


def _check_unroll_is_step_by_step(algorithm: Algorithm, learner: Learner, batch: TrainBatch) -> None:
    """The learner sees the numbers that acted."""
    inputs, state = batch_inputs(batch), batch.state
    with torch.no_grad():
        whole = list(_tensors(learner.network.unroll(inputs, state)[0]))
        rows = []
        for t in range(algorithm.num_rows):
            outputs, state = learner.network.step(inputs.map(lambda x, t=t: x[t]), state)  # type: ignore[misc]
            rows.append(list(_tensors(outputs)))
    for number, (of_unroll, of_steps) in enumerate(zip(whole, zip(*rows, strict=True), strict=True)):
        far = (of_unroll - torch.stack(of_steps)).abs().max()
        assert far < _TOLERANCE, f"expected `unroll` and `step` to agree, output {number} differs by {far:.2g}"


def _check_behaviour(algorithm: Algorithm, learner: Learner, spec: EnvironmentSpec, batch: TrainBatch) -> None:
    """|log rho| = 0 while nothing was learnt, where it records the policy that acted."""
    if _BEHAVIOUR not in algorithm.recorded:
        return
    space = ActionSpace(spec.actions)
    samples = tuple(batch.fields[action_field(action.name)] for action in spec.actions)
    with torch.no_grad():
        outputs, _ = learner.network.unroll(batch_inputs(batch), batch.state)
    policy = getattr(outputs, "policy", None)
    if policy is None or policy.shape[-1] != space.param_size:
        return
    mask = batch.fields.get(ACTION_MASK)
    now = space.distribution(policy, mask).log_prob(samples)
    then = space.distribution(batch.fields[_BEHAVIOUR], mask).log_prob(samples)
    far = (now - then).abs().max()
    assert far < _TOLERANCE, f"expected log rho of 0 before anything is learnt, got {far:.2g}"


def _check_nothing_is_learnt_from_nothing(algorithm: Algorithm, learner: Learner, batch: TrainBatch) -> None:
    """A train batch without a valid transition has losses of 0, and so gradients."""
    empty = replace(batch, valid=torch.zeros_like(batch.valid))
    for step in algorithm.steps(learner.learnt, learner.target, empty):
        if step.loss is None:
            continue
        assert step.loss.detach() == 0, f"expected a loss of 0 of a batch without transitions, got {step.loss:.3g}"
        if step.loss.requires_grad:
            for gradient in torch.autograd.grad(step.loss, list(_trained(learner.learnt)), allow_unused=True):
                assert gradient is None or not gradient.any(), "expected a gradient of 0 without transitions"


def _check_moments(algorithm: Algorithm, learner: Learner, batch: TrainBatch) -> None:
    """Whatever statistics an update gives, `no_moments` names: a learner without rows shares as many numbers."""
    known = {name: tuple(zero.shape) for name, zero in algorithm.no_moments(learner.learnt).items()}
    given = dict(algorithm.observed(learner.learnt, batch))
    for step in algorithm.steps(learner.learnt, learner.target, batch):
        given.update(step.moments or {})
    for name, moment in given.items():
        assert known.get(name) == tuple(moment.shape), (
            f"expected no_moments() to have {name} of shape {tuple(moment.shape)}, got {known.get(name)}"
        )


def _check_restored(algorithm: Algorithm, optimiser: OptimiserConfig, spec: EnvironmentSpec) -> None:
    """Steps as planned; and a learner that was saved and restored goes on as one that was not."""
    torch.manual_seed(1)
    ours, theirs = (Learner(algorithm, optimiser, _CPU) for _ in range(2))
    for version in range(3):
        batch = record(algorithm, ours.network, spec, num_unrolls=algorithm.batch_size, seed=version, version=version)
        if version == 2:  # its optimiser has moments by now
            theirs.set_state(copy.deepcopy(ours.get_state()))
            random = torch.get_rng_state()
            _update(theirs, algorithm, batch)
            torch.set_rng_state(random)
        _update(ours, algorithm, batch)
    for name, value in ours.learnt.state_dict().items():
        assert torch.isfinite(value.float()).all(), f"expected finite values of {name} after three updates"
        other = theirs.learnt.state_dict()[name]
        assert torch.equal(value, other), f"expected {name} to be the same in a learner that was saved and restored"


def _update(learner: Learner, algorithm: Algorithm, batch: TrainBatch) -> None:
    plan = tuple(algorithm.plan(learner.num_updates))
    before = learner.optimiser_steps
    try:
        update = learner.update(batch, 0.0)
    except (AssertionError, ValueError) as error:
        raise AssertionError(f"expected the steps of plan(): {', '.join(plan)}; {error}") from error
    assert learner.optimiser_steps - before <= len(plan)
    for name, metric in update.metrics.items():
        assert torch.isfinite(metric.float()).all(), f"expected a finite {name}"


def _trained(module: nn.Module) -> Iterator[nn.Parameter]:
    return (parameter for parameter in module.parameters() if parameter.requires_grad)


def _tensors(outputs: Any) -> Iterator[Tensor]:
    if isinstance(outputs, Tensor):
        yield outputs
    else:
        for part in outputs:
            yield from _tensors(part)
