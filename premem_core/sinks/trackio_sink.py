"""Trackio: a run of its own for each run of the store, or points in the trainer's run.

Points that a run has are not written again. If values have changed, a run of its own is written
anew. Only Trackio's folder on this machine is written to, because only there a run can be read and
deleted; `trackio sync` uploads it.
"""

import os
from collections import defaultdict

from premem_core.errors import PushError, UsageError
from premem_core.sinks.series import (
    PREFIX,
    Destination,
    Points,
    Pushed,
    Series,
    compare,
    refuse_changed,
)

MARK = f"{PREFIX}store_run"  # a setting that only a run of its own has
ELSEWHERE = ("TRACKIO_SPACE_ID", "TRACKIO_SERVER_URL")


def push(series: Series, to: Destination) -> Pushed:
    """Write a series to Trackio, each point at its training step.

    Raises:
        UsageError: Trackio refuses the name of the project, or is set to write to another machine,
            or there is no run `to.into`, or a run of this name is not from a push.
        PushError: `to.into` has other values.
    """
    from trackio.sqlite_storage import SQLiteStorage

    name = to.into or to.name
    _check(to, name)
    difference = compare(series.points, _points(to.project, name))
    points, replaced = difference.missing, False
    if to.into:
        refuse_changed(difference, name)
    elif difference.changed:
        points, replaced = series.points, SQLiteStorage.delete_run(to.project, name)
    if points:
        _log(series, to, name, points)
    place = str(SQLiteStorage.get_project_db_path(to.project))
    if compare(series.points, _points(to.project, name)).missing:
        raise PushError(f"Trackio did not store all points in {place}; push again")
    return Pushed("Trackio", name, place, len(points), replaced)


def _check(to: Destination, name: str) -> None:
    """UsageError: the run of this name may not be written to."""
    from trackio.sqlite_storage import SQLiteStorage

    for variable in ELSEWHERE:
        if os.environ.get(variable):
            raise UsageError(
                f"{variable} is set, but push writes only to Trackio's folder on this machine; "
                "unset it, push, and upload the project with 'trackio sync'"
            )
    try:
        SQLiteStorage.validate_project_name(to.project)
    except ValueError as error:
        raise UsageError(f"Trackio refuses the project: {error}") from error
    exists = name in SQLiteStorage.get_runs(to.project)
    if to.into and not exists:
        raise UsageError(f"Trackio's project '{to.project}' has no run '{name}'; check --into")
    of_a_push = MARK in (SQLiteStorage.get_run_config(to.project, name) or {})
    if exists and not to.into and not of_a_push:
        raise UsageError(
            f"Trackio's project '{to.project}' has a run '{name}' that is not from a push; give "
            f"--into '{name}' to write into it, or another --name"
        )


def _log(series: Series, to: Destination, name: str, points: Points) -> None:
    import trackio

    run = trackio.init(
        to.project,
        name,
        config=None if to.into else dict(series.settings),
        resume="must" if to.into else "allow",
        auto_log_gpu=False,
        auto_log_cpu=False,
        embed=False,
    )
    for step, values in points.items():
        run.log(dict(values), step=step)
    run.finish()


def _points(project: str, run: str) -> Points:
    """The points of a run that an earlier push wrote."""
    from trackio.sqlite_storage import SQLiteStorage

    points: dict[int, dict[str, float]] = defaultdict(dict)
    for row in SQLiteStorage.get_logs(project, run):
        points[row["step"]] |= {n: v for n, v in row.items() if n.startswith(PREFIX)}
    return {step: values for step, values in points.items() if values}
