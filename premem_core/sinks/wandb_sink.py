"""Weights & Biases: a run of its own for each push with other values, or points in a trainer's run.

W&B can neither replace nor remove points. So the id of a run of its own is made from its content: a
push of the same values finds it, and one of other values makes another run. The values have an axis
of their own, the checkpoint's training step.
"""

import shutil
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from premem_core.errors import PushError, UsageError
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
    from wandb import Settings

STEP = f"{PREFIX}step"
WHOLE = "premem-push"  # an empty file in the folder of an offline run whose points are all written


def push(series: Series, to: Destination) -> Pushed:
    """Write a series to W&B, or to its folder where it is offline (`WANDB_MODE=offline`).

    Raises:
        UsageError: there is no run `to.into`, or W&B is offline, which cannot continue a run, or it
            is disabled.
        PushError: W&B does not answer or refuses, or `to.into` has other values.
    """
    import wandb

    settings = wandb.setup().settings
    if settings.mode == "disabled":
        raise UsageError("W&B is disabled, so nothing would be written; unset WANDB_MODE")
    try:
        if settings.mode == "offline":
            return _push_offline(series, to, Path(settings.wandb_dir))
        return _push_online(series, to)
    except wandb.Error as error:
        raise PushError(f"W&B did not take the points: {first_line(error)}") from error


def _push_offline(series: Series, to: Destination, folder: Path) -> Pushed:
    if to.into:
        raise UsageError(
            "W&B is offline, and can continue a run only online; omit --into, to push to a run of "
            "its own, or unset WANDB_MODE"
        )
    run = _own_run(series, to)
    for earlier in folder.glob(f"offline-run-*-{run}"):
        if (earlier / WHOLE).exists():
            return Pushed("W&B", run, str(earlier), 0)
        shutil.rmtree(earlier)  # a push that was killed left it
    place = _write(series, to, run, series.points)
    (Path(place) / WHOLE).touch()
    return Pushed("W&B", run, place, len(series.points))


def _push_online(series: Series, to: Destination) -> Pushed:
    run = to.into or _own_run(series, to)
    known = _find(to.project, run)
    if to.into and not known:
        raise UsageError(f"W&B's project '{to.project}' has no run '{run}'; check --into")
    difference = compare(series.points, _points(known) if known else {})
    if to.into:
        refuse_changed(difference, run)
    place = known.url if known else ""
    if difference.missing:
        place = _write(series, to, run, difference.missing, resume="must" if known else None)
    return Pushed("W&B", run, place, len(difference.missing))


def _own_run(series: Series, to: Destination) -> str:
    """The id of a run of its own, which only a push of the same content to the same place has."""
    return digest(
        to.project, to.name, series.run, dict(series.settings), list(series.points.items())
    )


def _find(project: str, run: str) -> Any:
    """The run as W&B's server knows it; None if it knows none."""
    import wandb

    try:
        return wandb.Api().run(f"{project}/{run}")
    except (wandb.Error, ValueError) as error:
        if "Could not find run" not in str(error):
            raise
        return None


def _points(known: Any) -> Points:
    """The points of a run that an earlier push wrote."""
    points: dict[int, dict[str, float]] = defaultdict(dict)
    try:
        rows = list(known.scan_history(use_cache=False))
    except Exception as error:  # its class is not a public one of W&B's
        raise PushError(f"the points of {known.url} cannot be read: {first_line(error)}") from error
    for row in rows:
        if row.get(STEP) is not None:
            values = {n: v for n, v in row.items() if n.startswith(PREFIX) and n != STEP}
            points[int(row[STEP])] |= {n: v for n, v in values.items() if v is not None}
    return points


def _write(
    series: Series, to: Destination, run: str, points: Points, resume: Literal["must"] | None = None
) -> str:
    """Write points to a run, and return its address, or its folder where W&B is offline."""
    import wandb

    about: dict[str, Any] = {}
    if not to.into:
        about = {"name": f"{to.name}-{run[:6]}", "config": dict(series.settings)}
    with wandb.init(
        project=to.project,
        id=run,
        resume=resume,
        settings=_settings(),
        reinit="create_new",
        **about,
    ) as started:
        started.define_metric(STEP, hidden=True)
        started.define_metric(f"{PREFIX}*", step_metric=STEP)
        for step, values in points.items():
            started.log({STEP: step, **values})
    wandb.teardown()  # waits until all is on the disk, or uploaded
    offline = started.settings.mode == "offline"
    return str(started.settings.sync_dir if offline else started.url)


def _settings() -> "Settings":
    """Nothing about this machine is written, because it did not train the model."""
    import wandb

    return wandb.Settings(
        console="off",
        disable_code=True,
        disable_git=True,
        silent=True,
        x_disable_machine_info=True,
        x_disable_meta=True,
        x_disable_stats=True,
        x_save_requirements=False,
    )
