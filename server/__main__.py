"""Verbs of the server's side (`seedbed train`, `server`, `eval`, ...): reads the command line, then starts one.

Imports torch only inside a verb: spawned frontends import this module again.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from contextlib import nullcontext

from seedbed.common.errors import UsageError
from seedbed.common.logs import run_main
from seedbed.server.training.command_line import read_command_line
from seedbed.server.training.local_clients import credential_options
from seedbed.server.training.place import place_of
from seedbed.server.training.stop_signal import StopSignal
from seedbed.server.verbs.learners import check_room, gossips, place_of_dry_run, run_learners, take_learners
from seedbed.server.verbs.seeds import run_seeds, take_seeds

_DESCRIPTIONS = {
    "train": "Train with local environment clients, over gRPC on loopback. Run again to resume.",
    "server": "Train with environment clients that connect from elsewhere (seedbed env --server HOST:PORT).",
}


def main(argv: Sequence[str]) -> int:
    """Runs `argv[0]`, a verb, and returns the exit code."""
    verb, *options = argv
    match verb:
        case "train" | "server":
            stop = StopSignal().catch()
            place = place_of(os.environ)
            seeds, options = take_seeds(options)
            everything = options
            learners, options = take_learners(options)
            given = read_command_line(options, prog=f"seedbed {verb}", description=_DESCRIPTIONS[verb])
            if given.wants_help:
                from seedbed.server.training.resolve import print_help

                print_help(given)
                return 0
            serving = given.serving  # told before anything is written, or torch is imported
            serving.credentials.verify(serving.host)
            if verb == "train":
                if given.asks_client:
                    raise UsageError("expected --spec first with `seedbed server`: local clients need --env")
                credential_options(serving.credentials)
            place.check_network(insecure=given.replicas.insecure_cluster_network)
            given.replicas.check_world(max(learners, place.world))
            if seeds:
                return run_seeds(verb, everything, seeds, given.directory.path, stop)
            if learners > 1 and not given.dry_run:
                check_room(learners)
                return run_learners(verb, options, learners, stop, lambda: gossips(given.directory))
            if place.store is not None:
                stop.at_end_of_input()
            from seedbed.server.verbs.train import train  # torch takes seconds: a wrong option is told before

            with place_of_dry_run(learners) if learners > 1 else nullcontext(place) as own:
                return train(given, stop, local=verb == "train", place=own)
        case "eval":
            from seedbed.server.verbs import evaluate as evaluation

            return evaluation.main(options)
        case "record":
            from seedbed.server.verbs import record

            return record.main(options)
        case "list":
            from seedbed.server.verbs import listing

            return listing.main(options)
        case "completion":
            from seedbed.server.verbs import completion

            return completion.main(options)
        case "plot":
            from seedbed.server.verbs import plot

            return plot.main(options)
    raise UsageError(f"expected train, server, eval, record, list, completion or plot, got {verb!r}")


if __name__ == "__main__":
    sys.exit(run_main(main, sys.argv[1:]))
