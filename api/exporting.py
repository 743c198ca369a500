"""`seedbed export RUN`: the policy of a run as ONNX or torch.export file, which needs neither seedbed nor its server.

The file is played with before it is kept: episodes of the run's environment, in which it must take the actions that
`seedbed.load` takes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from seedbed.common.counting import count
from seedbed.common.errors import MissingExtraError, UsageError
from seedbed.common.logs import setup_logging
from seedbed.common.options import option
from seedbed.common.plugins import Trust, start_directory
from seedbed.common.specs import EnvironmentSpec
from seedbed.env_client.environments.building import Care, careful_builder
from seedbed.exported_play import Agreement, Play, compare
from seedbed.loading import policy_of
from seedbed.policy import Policy
from seedbed.server.export.files import check_ending, contract_file, write
from seedbed.server.export.session import open_session
from seedbed.server.verbs.run_operand import parse_run

_NUM_ENVS = 4
_DEFAULT_NAME = "policy.onnx"


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportConfig:
    """export"""

    out: Path | None = option(
        None, "the file, which ends with .onnx or .pt2 (default: policy.onnx in the run's directory)", metavar="FILE"
    )
    best: bool = option(False, "the checkpoint of the best cohort instead of the newest")
    task: str | None = option(None, "of a run of several tasks the one that the file plays", metavar="NAME")
    episodes: int = option(
        8, "episodes that are played with the file, against seedbed.load; 0: it is written unseen", minimum=0
    )
    max_steps: int = option(2000, "of such an episode at most so many steps", minimum=1)
    tolerance: float = option(
        1e-5, "largest difference of numbers, as a share of the largest of a row where that is above 1", minimum=0
    )
    eval_seed: int = option(0, "seed of these episodes", minimum=0)
    allow_import: bool = option(False, "import modules that the run's config.json names")
    import_from: Path | None = option(None, "where they are looked for last", metavar="DIR", hidden=True)

    @property
    def trust(self) -> Trust:
        """In the modules that the run names."""
        return Trust(allow_import=self.allow_import, start_directory=start_directory(self.import_from))


def main(argv: Sequence[str]) -> int:
    """Exports, plays and prints; returns the exit code."""
    namespace, options = parse_run(argv, "export", "Write the policy of a run as an ONNX or .pt2 file.", ExportConfig())
    if namespace.run is None:
        raise UsageError("expected one RUN to export, e.g. seedbed export runs/pong")
    out = options.out or namespace.run / _DEFAULT_NAME
    check_ending(out)
    setup_logging("export")
    agreement = export(namespace.run, out, options)
    print(_describe(out, agreement))
    return 0


def export(run: Path, out: Path, options: ExportConfig | None = None) -> Agreement | None:
    """Writes a policy and its contract.

    Args:
        run: its directory, or one checkpoint folder in it.
        out: the file; its contract is put beside it, with the ending .json.
        options: how, and how it is tried.

    Returns:
        How far it agreed; None if it was not played with.

    Raises:
        ConfigError: there is no such run.
        BrokenError: the file does other things than the policy; it is not kept.
        MissingExtraError: a package is not installed.
    """
    options = options or ExportConfig()
    policy = policy_of(
        run, best=options.best, allow_import=options.allow_import, task=options.task, precision="float32"
    )
    exported = policy.exported()
    draft = out.with_name(f".{out.stem}-draft{out.suffix}")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        write(exported, draft)
        agreement = None
        if options.episodes:
            run_file = open_session(draft, exported.contract)
            agreement = compare(policy, exported.contract, run_file, _play(policy, options), options.tolerance)
        contract_file(out).write_text(exported.contract.to_text())
        draft.replace(out)
    except OSError as error:
        raise UsageError(f"--out: expected a file that can be written, got {out} ({error})") from error
    finally:
        draft.unlink(missing_ok=True)
    return agreement


def _play(policy: Policy, options: ExportConfig) -> Play:
    spec: EnvironmentSpec = policy.spec
    build = careful_builder(spec.environment, spec.preset or "modern", Care(trust=options.trust, served=(policy.rows,)))
    try:
        environments = [build(i, options.eval_seed + i) for i in range(min(_NUM_ENVS, options.episodes))]
    except MissingExtraError as error:
        raise MissingExtraError(
            f"{error}; or say --episodes 0, which writes the file without playing with it"
        ) from error
    return Play(environments, episodes=options.episodes, max_steps=options.max_steps)


def _describe(out: Path, agreement: Agreement | None) -> str:
    lines = [f"{out}, contract {contract_file(out)}"]
    if agreement is None:
        return "\n".join([*lines, "not played with (--episodes 0)"])
    played = f"{count(agreement.episodes, 'episode')}, {count(agreement.steps, 'step')}"
    lines.append(f"played {played}: actions equal to seedbed.load's, numbers to {agreement.difference:.1e}")
    if agreement.ties:
        lines.append(f"{count(agreement.ties, 'action')} differed where two were worth the same")
    if agreement.returns:
        mean = sum(agreement.returns) / len(agreement.returns)
        lines.append(f"mean return {mean:.2f} of {count(len(agreement.returns), 'complete episode')}, greedily")
    return "\n".join(lines)
