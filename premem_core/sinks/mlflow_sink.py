"""MLflow: a run of its own for each run of the store, or points in the trainer's run.

The run of its own is found again by a tag. Points that it has are not written again. If values have
changed, MLflow cannot replace them, so that run is marked as deleted (MLflow can restore it), and a
new one takes its place.
"""

import os
import re
import time
from collections import defaultdict
from typing import TYPE_CHECKING, Any

from premem_core.errors import PushError
from premem_core.sinks.series import (
    PREFIX,
    Destination,
    Points,
    Pushed,
    Series,
    compare,
    digest,
    first_line,
    refuse_changed,
)

if TYPE_CHECKING:
    from mlflow import MlflowClient

TAG = "premem_run"
BATCH = 1000  # the most metrics that MLflow takes at once


def push(series: Series, to: Destination) -> Pushed:
    """Write a series to MLflow, each point at its training step.

    Raises:
        PushError: MLflow does not answer or refuses, or `to.into` has other values.
    """
    from mlflow import MlflowClient, get_tracking_uri
    from mlflow.exceptions import MlflowException

    uri = to.uri or get_tracking_uri()
    # By default it waits for minutes for a server that is not there.
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "30")
    try:
        client = MlflowClient(tracking_uri=uri)
        if to.into is None:
            return _push_own(client, series, to, uri)
        difference = compare(series.points, _points(client, to.into))
        refuse_changed(difference, to.into)
        _write(client, to.into, difference.missing)
    except MlflowException as error:
        reason = first_line(error)
        if "Max retries exceeded" in reason:
            reason = "no server answers there; start it, or give another address (--tracking-uri)"
        said = f"MLflow at {uri} did not take the points: {reason}"
        raise PushError(_without_password(said)) from error
    return Pushed("MLflow", to.into, _without_password(uri), len(difference.missing))


def _push_own(client: "MlflowClient", series: Series, to: Destination, uri: str) -> Pushed:
    experiment = client.get_experiment_by_name(to.project)
    number = experiment.experiment_id if experiment else client.create_experiment(to.project)
    tag = digest(series.run, to.name)
    [own, *_] = client.search_runs([number], f"tags.{TAG} = '{tag}'", max_results=1) or [None]
    difference = compare(series.points, _points(client, own.info.run_id) if own else {})
    if own and not difference.changed:
        _write(client, own.info.run_id, difference.missing)
        place = _without_password(uri)
        return Pushed("MLflow", own.info.run_id, place, len(difference.missing))
    if own:
        client.delete_run(own.info.run_id)
    made = client.create_run(number, run_name=to.name, tags={TAG: tag}).info.run_id
    for name, value in series.settings.items():
        client.log_param(made, name, value)
    _write(client, made, series.points)
    client.set_terminated(made)
    place, replaced = _without_password(uri), own is not None
    return Pushed("MLflow", made, place, len(series.points), replaced)


def _without_password(text: str) -> str:
    """The text without the user and the password of an address, as a database's may have."""
    return re.sub(r"//[^/@\s]+@", "//…@", text)


def _points(client: "MlflowClient", run: str) -> Points:
    """The points of a run that an earlier push wrote."""
    points: dict[int, dict[str, float]] = defaultdict(dict)
    for name in client.get_run(run).data.metrics:
        if name.startswith(PREFIX):
            for metric in client.get_metric_history(run, name):
                points[metric.step][name] = metric.value
    return points


def _write(client: "MlflowClient", run: str, points: Points) -> None:
    from mlflow.entities import Metric

    now = int(1000 * time.time())
    metrics: list[Any] = [
        Metric(name, value, now, step)
        for step, values in points.items()
        for name, value in values.items()
    ]
    for start in range(0, len(metrics), BATCH):
        client.log_batch(run, metrics=metrics[start : start + BATCH])
