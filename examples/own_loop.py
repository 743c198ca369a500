"""A loop of one's own: the environment stays where it is, and asks a server for its next action.

    seedbed server --preset cartpole --run-dir runs/loop --port 7777 --num-envs 8
    python examples/own_loop.py 127.0.0.1:7777

Needs no torch here. Any number of these may run, on any machine; what they do is trained on. An environment that the
server does not have is none of its business: seedbed server --spec first --run-dir runs/loop --port 7777 takes the
contract of whoever comes first.
"""

from __future__ import annotations

import argparse
import os

import gymnasium

import seedbed


def play(server: str, num_episodes: int, token_file: str | None = None) -> list[float]:
    """Plays episodes, and returns what each of them paid."""
    env = gymnasium.make("CartPole-v1")  # in its place: a robot, a browser, a game
    returns: list[float] = []
    with seedbed.connect(server, spec=seedbed.spec_of(env), token_file=token_file) as policy:
        while len(returns) < num_episodes:
            try:
                returns.append(play_episode(env, policy))
            except seedbed.EpisodeLost:
                continue  # the server was away for too long, and has forgotten how this episode began
            except seedbed.RunFinished:
                break
    return returns


def play_episode(env: gymnasium.Env, policy: seedbed.ConnectedPolicy) -> float:
    """One episode, from its reset to its end."""
    observation, _ = env.reset()
    action = policy.first(observation)
    total = 0.0
    while action is not None:
        observation, reward, terminated, truncated, _ = env.step(action)
        total += float(reward)
        action = policy.next(observation, reward, terminated=terminated, truncated=truncated)
    return total


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="CartPole, stepped by a loop of one's own.")
    parser.add_argument("server", metavar="HOST:PORT")
    parser.add_argument("--episodes", type=int, default=100)
    parser.add_argument("--token-file", default=os.environ.get("TOKEN_FILE"))
    options = parser.parse_args()
    for number, total in enumerate(play(options.server, options.episodes, options.token_file), start=1):
        print(f"episode {number}: {total:g}")
