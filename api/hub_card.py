"""Model card of a policy on a hub: what it plays, how well, how it was trained, how it is used."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from seedbed.common.specs import EnvironmentSpec

LIBRARY = "seedbed"
_TASK = "reinforcement-learning"


@dataclass(frozen=True, slots=True, kw_only=True)
class CardFacts:
    """What stands on a card.

    Attributes:
        repo: owner/name.
        algorithm: that learnt it.
        spec: of the environment.
        agent_steps: after which it was saved.
        scores: of `seedbed eval --json`.
        command: the words that repeat the training.
        version: of seedbed.
        files: beside the card: "policy.onnx" and "replay.mp4" are spoken of.
    """

    repo: str
    algorithm: str
    spec: EnvironmentSpec
    agent_steps: int
    scores: Mapping[str, Any]
    command: tuple[str, ...]
    version: str
    files: tuple[str, ...]


def card_text(facts: CardFacts) -> str:
    """Front matter as hubs read it, with the result in it, and a page for people."""
    from huggingface_hub import EvalResult, ModelCardData

    environment, scores = facts.spec.environment, facts.scores
    data = ModelCardData(
        library_name=LIBRARY,
        tags=[_TASK, "deep-reinforcement-learning", environment, facts.algorithm],
        model_name=f"{facts.algorithm} on {environment}",
        eval_results=[
            EvalResult(
                task_type=_TASK,
                task_name=_TASK,
                dataset_type=environment,
                dataset_name=environment,
                metric_type="mean_reward",
                metric_name="mean_reward",
                metric_value=_mean(scores),
                verified=False,
            )
        ],
    )
    return f"---\n{data.to_yaml()}\n---\n\n{_page(facts)}"


def _mean(scores: Mapping[str, Any]) -> str:
    error = scores.get("standard_error")
    return f"{scores['mean']:.2f}" if error is None else f"{scores['mean']:.2f} +/- {error:.2f}"


def _page(facts: CardFacts) -> str:
    spec, scores = facts.spec, facts.scores
    preset = f", Atari preset {spec.preset}" if spec.preset else ""
    task = f', task="{scores["tasks"][0]["task"]}"' if facts.spec.tasks else ""
    lines = [
        f"# {facts.algorithm} on {spec.environment}",
        "",
        f"A policy trained with seedbed {facts.version} for {facts.agent_steps:,} agent steps "
        f"({facts.agent_steps * spec.frames_per_step:,} frames){preset}.",
        "",
        "| | |",
        "|---|---|",
        f"| mean return | {_mean(scores)} (standard error) |",
        f"| median | {scores['median']:.2f} |",
        f"| episodes | {scores['episodes']}, {scores['policy']} policy |",
    ]
    if facts.spec.tasks:
        lines += ["", "| task | mean return |", "|---|---|"]
        lines += [f"| {row['task']} | {_mean(row)} |" for row in scores["tasks"] if "mean" in row]
    elif scores.get("human_normalised") is not None:
        lines.append(f"| human-normalised | {scores['human_normalised']:.1%} |")
    lines += [
        "",
        "## Use",
        "",
        "```python",
        "import seedbed",
        "",
        f'policy = seedbed.load("hf:{facts.repo}"{task})',
        "memory = policy.initial_memory()",
        "action, memory = policy.act(observation, memory, reward=reward)",
        "```",
        "",
        "The folder is a run directory: `seedbed eval FOLDER` scores it, `seedbed train --init-from FOLDER` begins "
        "with its weights. Nothing in it is pickled, and loading imports no module that it names.",
    ]
    if "policy.onnx" in facts.files:
        lines += ["", "`policy.onnx` needs ONNX Runtime alone; `policy.json` says what goes in and out."]
    if "replay.mp4" in facts.files:
        lines += ["", '<video controls autoplay loop src="replay.mp4"></video>']
    lines += ["", "## Training", "", "```sh", shlex.join(facts.command), "```", ""]
    return "\n".join(lines)
