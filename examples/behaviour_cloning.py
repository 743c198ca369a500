"""Behaviour cloned from recorded episodes: supervised learning on a Minari data set, then a score in its environment.

    seedbed record runs/cartpole --dataset seedbed/cartpole-v0 --episodes 100
    python examples/behaviour_cloning.py seedbed/cartpole-v0

Needs minari, gymnasium and torch, not seedbed. For observations that are one vector and actions that are one of a few.
"""

from __future__ import annotations

import argparse

import gymnasium
import minari
import numpy as np
import torch
from torch import nn


def clone(dataset: minari.MinariDataset, updates: int = 3000, seed: int = 0) -> nn.Module:
    """The policy that makes the recorded actions likeliest."""
    torch.manual_seed(seed)
    episodes = list(dataset.iterate_episodes())
    # The observation behind the last action has no action of its own.
    observations = torch.tensor(np.concatenate([episode.observations[:-1] for episode in episodes]))
    actions = torch.tensor(np.concatenate([episode.actions for episode in episodes]))
    assert isinstance(dataset.action_space, gymnasium.spaces.Discrete)
    actions = actions - int(dataset.action_space.start)
    normalise = nn.BatchNorm1d(observations.shape[1], affine=False)
    layers = [nn.Linear(observations.shape[1], 64), nn.Tanh(), nn.Linear(64, 64), nn.Tanh()]
    policy = nn.Sequential(normalise, *layers, nn.Linear(64, int(dataset.action_space.n)))
    optimiser = torch.optim.Adam(policy.parameters(), lr=1e-3)
    for _ in range(updates):
        rows = torch.randint(len(observations), (256,))
        loss = nn.functional.cross_entropy(policy(observations[rows]), actions[rows])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return policy.eval()


@torch.no_grad()
def score(policy: nn.Module, env: gymnasium.Env, episodes: int, start: int = 0, seed: int = 0) -> list[float]:
    """Returns of episodes in which the policy's likeliest action is taken."""
    returns = []
    for episode in range(episodes):
        observation, _ = env.reset(seed=seed + episode)
        total, over = 0.0, False
        while not over:
            logits = policy(torch.as_tensor(observation, dtype=torch.float32)[None])
            observation, reward, terminated, truncated, _ = env.step(int(logits.argmax()) + start)
            total += float(reward)
            over = terminated or truncated
        returns.append(total)
    return returns


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Clones the behaviour in a Minari data set.")
    parser.add_argument("dataset", metavar="ID")
    parser.add_argument("--updates", type=int, default=3000)
    parser.add_argument("--episodes", type=int, default=50)
    options = parser.parse_args()
    recorded = minari.load_dataset(options.dataset)
    theirs = [float(episode.rewards.sum()) for episode in recorded.iterate_episodes()]
    print(f"{len(theirs)} recorded episodes, mean return {np.mean(theirs):.1f}")
    cloned = clone(recorded, options.updates)
    ours = score(cloned, recorded.recover_environment(), options.episodes, int(recorded.action_space.start))
    print(f"{len(ours)} episodes of the clone, mean return {np.mean(ours):.1f}")
