"""Publishing of policies on a hub: `seedbed push RUN OWNER/NAME`.

What is pushed is a run directory with the newest or best policy alone: config.json, its checkpoint without the
optimiser, scores, an ONNX file where it can be made, and a card. Paths, credentials and what else belongs to one
machine stay here.
"""

from __future__ import annotations

import json
import logging
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from seedbed.common.cli import naming_extras
from seedbed.common.errors import BrokenError, MissingExtraError, SeedbedError, UsageError
from seedbed.common.logs import setup_logging
from seedbed.common.options import flatten, option, override, to_json
from seedbed.exporting import ExportConfig, export
from seedbed.hub_card import CardFacts, card_text
from seedbed.hub_folder import check_repo, first_line, named_modules
from seedbed.server.options.config import ServerConfig
from seedbed.server.run.checkpoint import CheckpointStore
from seedbed.server.run.directory import CHECKPOINTS_FOLDER, CONFIG_FILE, RunDirectory, RunFile
from seedbed.server.run.finding import find_checkpoint
from seedbed.server.run.resuming import unexposed
from seedbed.server.run.state import RunState
from seedbed.server.training.resolve import config_of
from seedbed.server.verbs.run_operand import parse_run
from seedbed.training import evaluate

RESULTS_FILE, CARD_FILE, ONNX_FILE, VIDEO_FILE = "results.json", "README.md", "policy.onnx", "replay.mp4"

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class PushConfig:
    """push"""

    best: bool = option(False, "the checkpoint of the best cohort instead of the newest")
    folder: Path | None = option(None, "write the folder here and upload nothing", metavar="DIR")
    episodes: int = option(100, "episodes of the evaluation whose result stands on the card", minimum=1)
    scores: Path | None = option(
        None, "that result, of `seedbed eval RUN --json FILE`, instead of an evaluation now", metavar="FILE"
    )
    onnx: bool = option(True, "an ONNX file beside it, played with like that of `seedbed export`")
    video: bool = option(False, "a video of the first three episodes, see `seedbed eval --video`")
    private: bool = option(False, "make the repository private, where it is new")
    message: str = option("Policy trained with seedbed", "of the upload")


def main(argv: Sequence[str]) -> int:
    """Builds the folder and uploads it; returns the exit code."""
    namespace, options = parse_run(
        argv, "push", "Publish the policy of a run on the Hugging Face hub.", PushConfig(), repo="owner/name on the hub"
    )
    if namespace.run is None or namespace.repo is None:
        raise UsageError("expected a RUN and a REPO, e.g. seedbed push runs/pong me/pong-vtrace")
    setup_logging("push")
    print(push(namespace.run, namespace.repo, options))
    return 0


def push(run: Path, repo: str, options: PushConfig | None = None) -> str:
    """Publishes a policy.

    Args:
        run: its directory, or one checkpoint folder in it.
        repo: owner/name.
        options: how.

    Returns:
        Where it is now.

    Raises:
        UsageError: the name, or a run that names modules.
        ConfigError: there is no such run.
        BrokenError: the hub does not take it.
        MissingExtraError: the extra "hub" is not installed.
    """
    options = options or PushConfig()
    check_repo(repo)
    with naming_extras():
        import huggingface_hub
    if options.folder is not None:
        if options.folder.exists() and any(options.folder.iterdir()):
            raise UsageError(f"--folder: expected a new or empty folder, got {options.folder}")
        build(run, repo, options.folder, options)
        return str(options.folder)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        build(run, repo, folder, options)
        api = huggingface_hub.HfApi(library_name="seedbed")
        try:
            url = api.create_repo(repo, private=options.private or None, exist_ok=True)
            api.upload_folder(repo_id=repo, folder_path=folder, commit_message=options.message)
        except Exception as error:  # its many kinds, the network's and the system's
            raise BrokenError(f"the hub did not take {repo}: {first_line(error)}") from error
    return str(url)


def build(run: Path, repo: str, folder: Path, options: PushConfig) -> None:
    """Writes the folder; see `push` for what goes wrong."""
    file, checkpoint = find_checkpoint(run, best=options.best)
    config = config_of(file)
    if modules := named_modules(file):
        raise UsageError(f"expected a run of built-in and installed parts, got one of {', '.join(modules)}: what a hub "
                         "brings imports no module, so nobody could load it")  # fmt: skip
    folder.mkdir(parents=True, exist_ok=True)
    cleaned = _cleaned(config)
    RunDirectory(folder).write(RunFile(to_json(cleaned), file.spec, file.version))
    state = RunState.from_checkpoint(checkpoint)
    assert state.learner is not None, "every checkpoint of a run has a learner"
    kept = RunState(
        agent_steps=state.agent_steps,
        consumed=state.consumed,
        updates=state.updates,
        wall_s=state.wall_s,
        learner={"learnt": state.learner["learnt"]},
    )
    CheckpointStore(folder / CHECKPOINTS_FOLDER).save(kept.to_checkpoint())
    scores = _scores(folder, options)
    (folder / RESULTS_FILE).write_text(json.dumps(scores, indent=2) + "\n")
    if options.onnx:
        _add_onnx(folder)
    facts = CardFacts(
        repo=repo,
        algorithm=config.algorithm,
        spec=file.spec,
        agent_steps=state.agent_steps,
        scores=scores,
        command=("seedbed", "train", "--config", CONFIG_FILE, "--run-dir", f"runs/{repo.partition('/')[2]}"),
        version=file.version,
        files=tuple(path.name for path in folder.iterdir()),
    )
    (folder / CARD_FILE).write_text(card_text(facts))


def _cleaned(config: ServerConfig) -> ServerConfig:
    """Options without those of one machine."""
    config = unexposed(config)
    defaults = flatten(ServerConfig())
    paths = {path: defaults.get(path) for path, value in flatten(config).items() if isinstance(value, Path)}
    return override(config, {**paths, "serving.port": 0, "monitoring.http_port": None, "monitoring.track": "none"})


def _scores(folder: Path, options: PushConfig) -> dict[str, Any]:
    if options.scores is not None:
        try:
            scores: dict[str, Any] = json.loads(options.scores.read_text())
            return {**scores, "mean": float(scores["mean"]), "median": float(scores["median"])}
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UsageError(
                f"--scores: expected a file of `seedbed eval --json`, got {options.scores} ({error})"
            ) from error
    video = folder / VIDEO_FILE if options.video else None
    scores = evaluate(folder, episodes=options.episodes, video=video)
    return {**scores, "video": VIDEO_FILE} if "video" in scores else scores


def _add_onnx(folder: Path) -> None:
    try:
        export(folder, folder / ONNX_FILE, ExportConfig(episodes=4))
    except MissingExtraError as error:
        _log.warning("without an ONNX file: %s", error)
    except SeedbedError as error:
        raise type(error)(f"{error}; --no-onnx pushes without that file") from error
