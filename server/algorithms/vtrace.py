"""V-trace actor-critic (IMPALA, arXiv 1802.01561; SEED RL, arXiv 1910.06591).

Actions are sampled from the softmax policy; the logits sampled from are recorded. The loss compares them with those of
the parameters being learnt, so any policy lag is corrected for.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from seedbed.common.specs import EnvironmentSpec
from seedbed.server.algorithms.interface import Acting, Algorithm, Decision, Loss, batch_inputs
from seedbed.server.config import LearningConfig, NetworkConfig, VTraceConfig
from seedbed.server.experience.layout import FieldSpec, TrainBatch
from seedbed.server.losses.policy_gradient import (
    baseline_loss,
    entropy,
    entropy_loss,
    kl_divergence,
    log_prob,
    masked_reduce,
    policy_gradient_loss,
)
from seedbed.server.losses.rewards import clip_rewards
from seedbed.server.losses.vtrace import vtrace
from seedbed.server.networks.actor_critic import ActorCritic
from seedbed.server.networks.interface import AgentState, Inputs, Outputs, PolicyNetwork


class VTrace(Algorithm):
    """The algorithm behind `--algorithm vtrace`."""

    def __init__(
        self, config: VTraceConfig, learning: LearningConfig, network: NetworkConfig, spec: EnvironmentSpec
    ) -> None:
        self._config = config
        self._learning = learning
        self._network = network
        self._spec = spec
        self.recorded = {"behaviour_logits": FieldSpec((spec.num_actions,), torch.float32)}
        self.num_rows = learning.unroll_length + 1
        self.period = learning.unroll_length
        self.batch_size = learning.batch_size

    def make_network(self) -> ActorCritic:
        """See the base class."""
        return ActorCritic(
            self._spec.observations,
            self._spec.num_actions,
            torso=self._network.torso,
            frame_stack=self._network.frame_stack,
            core=self._network.core,
            core_size=self._network.core_size,
            background=self._network.background,
            dtype=torch.bfloat16 if self._network.precision == "bfloat16" else torch.float32,
        )

    def act(self, network: PolicyNetwork, inputs: Inputs, state: AgentState, acting: Acting) -> Decision:
        """Samples from the policy; greedy rows take its mode."""
        outputs, state = network.step(inputs, state)
        logits = outputs.logits
        action = _sample(logits, acting.generator)
        if acting.greedy is not None:
            action = torch.where(acting.greedy, logits.argmax(-1), action)
        return Decision(action, {"behaviour_logits": logits}, state)

    def loss(self, network: PolicyNetwork, target: PolicyNetwork | None, batch: TrainBatch) -> Loss:
        """Policy gradient, baseline and entropy terms (IMPALA, section 4.2)."""
        config, fields, valid = self._config, batch.fields, batch.valid
        outputs: Outputs = network.unroll(batch_inputs(batch), batch.state)[0]
        logits, behaviour_logits = outputs.logits[:-1], fields["behaviour_logits"][:-1]
        action = fields["action"][:-1]
        log_rhos = log_prob(logits.detach(), action) - log_prob(behaviour_logits, action)
        targets = vtrace(
            log_rhos=log_rhos,
            rewards=clip_rewards(fields["reward"][1:], self._learning.reward_clipping),
            discounts=self._learning.discount * fields["discount"][1:],
            values=outputs.value.detach(),
            valid=valid,
            clip_rho=config.clip_rho,
            clip_c=config.clip_c,
            clip_pg_rho=config.clip_pg_rho,
            lambda_=config.lambda_,
            advantage=config.advantage,
        )
        reduction = config.reduction
        policy = policy_gradient_loss(
            logits=logits, actions=action, advantages=targets.advantages, valid=valid, reduction=reduction
        )
        baseline = baseline_loss(values=outputs.value[:-1], targets=targets.vs, valid=valid, reduction=reduction)
        negative_entropy = entropy_loss(logits=logits, valid=valid, reduction=reduction)
        total = policy + config.baseline_cost * baseline + config.entropy_cost * negative_entropy
        terms = {"loss": total, "policy_loss": policy, "baseline_loss": baseline}
        metrics = {name: term.detach() for name, term in terms.items()}
        return Loss(total, {**metrics, **_diagnostics(logits.detach(), behaviour_logits, log_rhos, valid)})


@torch.no_grad()
def _diagnostics(logits: Tensor, behaviour_logits: Tensor, log_rhos: Tensor, valid: Tensor) -> Mapping[str, Tensor]:
    """How far the acting policy was from the learnt one, over valid transitions."""
    absolute = torch.where(valid, log_rhos.abs(), 0.0)
    return {
        "entropy": masked_reduce(entropy(logits), valid, "mean"),
        "kl_behaviour": masked_reduce(kl_divergence(behaviour_logits, logits), valid, "mean"),
        "abs_log_rho_mean": masked_reduce(absolute, valid, "mean"),
        "abs_log_rho_max": absolute.max(),
        "rho_clipped_share": masked_reduce((log_rhos > 0).float(), valid, "mean"),
    }


def _sample(logits: Tensor, generator: torch.Generator) -> Tensor:
    """Draws from softmax(logits) by exponential races: the first of Exp(p_i) arrivals is i with probability p_i."""
    arrivals = torch.empty_like(logits).exponential_(generator=generator)
    return (logits.softmax(-1) / arrivals).argmax(-1)
