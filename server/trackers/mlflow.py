"""MLflow: where MLFLOW_TRACKING_URI says, else a database in the run's directory."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from typing import Any

from seedbed.server.trackers.identity import identity, keep_identity
from seedbed.server.trackers.interface import TrackedRun

_MAX_PARAMS = 100  # of one call
_MAX_PARAM_LETTERS = 500


class MLflow:
    """The tracker behind `--track mlflow`. Variables of MLflow hold: MLFLOW_TRACKING_URI, MLFLOW_EXPERIMENT_NAME."""

    def start(self, run: TrackedRun) -> None:
        """Begins the run there, or goes on with it."""
        from mlflow import MlflowClient  # the client alone: the rest of MLflow keeps its state in the process
        from mlflow.entities import Metric, Param

        self._metric = Metric
        uri = os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{run.directory.absolute() / 'mlflow.db'}"
        self._client = MlflowClient(tracking_uri=uri)
        known = identity(run.directory, "mlflow", make=False)
        if known is not None:
            self._id = known
            self._client.update_run(known, status="RUNNING")
            return
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME", "seedbed")
        experiment = self._client.get_experiment_by_name(name)
        place = self._client.create_experiment(name) if experiment is None else experiment.experiment_id
        tags = {"environment": run.environment, "seedbed_version": run.version, "run_dir": str(run.directory)}
        self._id = self._client.create_run(place, run_name=run.name, tags=tags).info.run_id
        keep_identity(run.directory, "mlflow", self._id)
        params = [Param(name, str(value)[:_MAX_PARAM_LETTERS]) for name, value in run.options()]
        for start in range(0, len(params), _MAX_PARAMS):
            self._client.log_batch(self._id, params=params[start : start + _MAX_PARAMS])

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        """One batch."""
        now_ms = int(time.time() * 1000)
        self._client.log_batch(self._id, metrics=[self._metric(*item, now_ms, step) for item in metrics.items()])

    def finish(self, summary: Mapping[str, Any]) -> None:
        """The run is over there too, and may go on."""
        self._client.set_tag(self._id, "ended", str(summary.get("ended", "")))
        self._client.set_terminated(self._id, status="FAILED" if summary.get("failed") else "FINISHED")
