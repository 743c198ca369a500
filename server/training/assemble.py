"""Assembly of a device process: the parts that act and learn, wired together. Nothing runs yet.

Training, evaluation, tests and benchmarks all build them here.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from seedbed.common.errors import UsageError
from seedbed.common.specs import EnvironmentSpec
from seedbed.server.algorithms.interface import Algorithm
from seedbed.server.algorithms.registry import find_algorithm
from seedbed.server.experience.account import Collector, DiscardingSink
from seedbed.server.experience.fifo import UnrollFifo
from seedbed.server.experience.open_unrolls import OpenUnrolls
from seedbed.server.experience.regimes import REGIMES, Regime
from seedbed.server.experience.source import Source
from seedbed.server.experience.unroll import FieldSpec, UnrollLayout
from seedbed.server.inference.graphs import CudaCapture, Graphs
from seedbed.server.inference.parameters import Parameters
from seedbed.server.inference.policy import Inference
from seedbed.server.learning.exchange.interface import Exchange
from seedbed.server.learning.learner import Learner
from seedbed.server.networks.array_kinds import frame_stacks
from seedbed.server.networks.interface import PolicyNetwork
from seedbed.server.options.config import ServerConfig
from seedbed.server.options.run import RunConfig
from seedbed.server.run.state import RunState
from seedbed.server.shared.slots import SlotTable

logger = logging.getLogger(__name__)

_GATHERING_THREADS = 4  # rows for a GPU are gathered at the speed of memory, which one thread does not reach


@dataclass(frozen=True, slots=True)
class Parts:
    """What acts and learns, from slots to parameters.

    Attributes:
        algorithm: what is learnt.
        regime: how unrolls reach the learner.
        slots: rows shared with the frontends.
        unrolls: the open ones.
        sink: where complete ones go.
        source: where the learner finds them; never anything without `--train`.
        learner: changes the parameters.
        parameters: hand-over to inference.
        inference: the policy over all slots.
    """

    algorithm: Algorithm
    regime: Regime
    slots: SlotTable
    unrolls: OpenUnrolls
    sink: Collector | DiscardingSink
    source: Source
    learner: Learner
    parameters: Parameters
    inference: Inference

    @property
    def device(self) -> torch.device:
        """Of inference and learning."""
        return self.unrolls.device

    @property
    def rows_of_a_round(self) -> int | None:
        """L where acting and learning take turns, None where they do not."""
        return self.algorithm.num_rows if self.regime.on_policy and not isinstance(self.sink, DiscardingSink) else None


@dataclass(frozen=True, slots=True)
class OtherWeights:
    """What another run has learnt.

    Attributes:
        tensors: as in "learnt" of the learner's state.
        source: that run, for messages.
        differences: between the two runs, where their networks differ.
    """

    tensors: Mapping[str, Tensor]
    source: str
    differences: Sequence[str]


def assemble(
    config: ServerConfig,
    spec: EnvironmentSpec,
    state: RunState | None = None,
    *,
    weights: OtherWeights | None = None,
    greedy_environments: range | None = None,
    exchange: Exchange | None = None,
    first_index: int = 0,
) -> Parts:
    """Builds all parts, and restores those that have a state.

    Args:
        config: of the run.
        spec: of its environment.
        state: where the run stands; at its beginning if None.
        weights: of another run, to begin with.
        greedy_environments: indices of the environments that explore nothing; those of the configuration if None.
        exchange: of the learner with others; None: there are none.
        first_index: of this replica's environments.

    Raises:
        SpecError: the algorithm cannot learn this environment.
        UsageError: options do not go together, or what they ask for does not fit here.
        ConfigError: the weights are those of another network.
    """
    state = RunState() if state is None else state
    device = choose_device(config.run)
    torch.manual_seed(config.environment.seed)
    algorithm = find_algorithm(config.algorithm)(config, spec)
    regime = REGIMES[algorithm.regime]
    learner = Learner(algorithm, config.optimiser, device, exchange)
    if state.learner is not None:
        learner.set_state(state.learner)
    elif weights is not None:
        learner.take_weights(weights.tensors, weights.source, weights.differences)
    slots = SlotTable(spec, config.num_slots)
    unrolls = OpenUnrolls(make_layout(config, spec, algorithm, learner.network), slots.num_slots, device)
    source: Source
    sink: Collector | DiscardingSink
    if config.run.train:
        source, sink = regime.make(config, algorithm, unrolls)
    else:
        source, sink = UnrollFifo(unrolls.layout, 1, device), DiscardingSink(unrolls)
    on_policy = config.run.train and regime.on_policy
    parameters = Parameters(learner.network, version=learner.num_updates, on_policy=on_policy)
    inference = Inference(
        algorithm=algorithm,
        parameters=parameters,
        slots=slots,
        unrolls=unrolls,
        device=device,
        seed=config.environment.seed,
        steps_before=state.agent_steps,
        greedy_environments=config.fleet.greedy_environments if greedy_environments is None else greedy_environments,
        graphs=_make_graphs(config, slots, device),
        first_index=first_index,
    )
    _restore_draws(inference, config, state, device)
    return Parts(algorithm, regime, slots, unrolls, sink, source, learner, parameters, inference)


def _make_graphs(config: ServerConfig, slots: SlotTable, device: torch.device) -> Graphs:
    capture = CudaCapture() if config.serving.cuda_graphs and device.type == "cuda" else None
    return Graphs(min(config.serving.max_inference_batch, slots.num_slots), capture)


def _restore_draws(inference: Inference, config: ServerConfig, state: RunState, device: torch.device) -> None:
    """Actions go on as they would have, where the generator's state is of this kind of device."""
    if state.random is not None and state.random_device == device.type:
        inference.random_state = state.random
    elif state.random is not None:
        logger.info("the run was on another kind of device (%s): actions are drawn anew", state.random_device)
        inference.draw_anew(config.environment.seed + state.agent_steps)


def choose_device(config: RunConfig) -> torch.device:
    """The device of inference and learning.

    Raises:
        UsageError: CUDA is asked for and not there.
    """
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    on_cpu = config.device == "cpu" or (config.device == "auto" and not count)
    torch.set_num_threads(config.torch_threads or (1 if on_cpu else _GATHERING_THREADS))
    if on_cpu:
        return torch.device("cpu")
    number = int(config.device.partition(":")[2] or 0)
    if number >= count:
        found = f"{count} of them" if count else "none"
        raise UsageError(f"expected a CUDA device for --device {config.device}, torch {torch.__version__} sees {found}")
    if ":" not in config.device:
        return torch.device("cuda")
    torch.cuda.set_device(number)
    return torch.device("cuda", number)


def answers(device: torch.device) -> bool:
    """Whether a device still does what it was given, of which it may be asked to save the results; a CPU does."""
    if device.type != "cuda":
        return True
    try:
        torch.cuda.synchronize(device)
    except RuntimeError:
        logger.exception("the device does not answer")
        return False
    return True


def make_layout(
    config: ServerConfig, spec: EnvironmentSpec, algorithm: Algorithm, network: PolicyNetwork
) -> UnrollLayout:
    """The shape of every unroll."""
    return UnrollLayout(
        spec=spec,
        num_rows=algorithm.num_rows,
        period=algorithm.period,
        recorded=algorithm.recorded,
        state_specs=tuple(FieldSpec(tuple(part.shape[1:]), part.dtype) for part in network.initial_state(1)),
        frame_stacks=frame_stacks(spec.shown, config.network.frame_stack),
        blocks=network.blocks,
        trained_rows=algorithm.trained_rows,
        stagger=algorithm.batch_size if REGIMES[algorithm.regime].staggers else 0,
    )
