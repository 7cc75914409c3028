"""Series: the curves of one run as points for a tracker, and which of them a tracker lacks."""

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass

from premem_core.analysis import curves
from premem_core.analysis.curves import Curve
from premem_core.errors import PushError

PREFIX = "premem/"
NAMES = (
    *("epoch", "premem", "premem_half", "train_accuracy", "masked_accuracy"),
    *("test_accuracy", "test_half", "memorized_share"),
)
Points = Mapping[int, Mapping[str, float]]


@dataclass(frozen=True, slots=True)
class Series:
    """What a tracker gets of one run.

    Attributes:
        run: its name in the store.
        settings: what the values depend on, such as the threshold.
        points: the values by name, by the checkpoint's training step. Names begin with PREFIX; one
            that ends in `_half` is the half-width of a 90 % interval. What is NaN is left out.
    """

    run: str
    settings: Mapping[str, str | float]
    points: Points


@dataclass(frozen=True, slots=True)
class Destination:
    """Where a series goes.

    Attributes:
        project: W&B's and Trackio's project, MLflow's experiment.
        name: of the tracker's run that is made for the series.
        into: the tracker's run to write into instead, such as that of the trainer: the id in W&B
            and MLflow, the name in Trackio.
        uri: of MLflow's tracking server or database; None for what MLflow itself would use.
    """

    project: str
    name: str
    into: str | None = None
    uri: str | None = None


@dataclass(frozen=True, slots=True)
class Pushed:
    """What a push did.

    Attributes:
        run: the tracker's run: the id in W&B and MLflow, the name in Trackio.
        place: where the tracker keeps it: an address or a folder.
        points: the number of checkpoints that were written; 0 where the tracker had all.
        replaced: whether other values of an earlier push were removed.
    """

    tracker: str
    run: str
    place: str
    points: int
    replaced: bool = False

    def in_words(self) -> str:
        """One sentence."""
        where = f"the run '{self.run}' of {self.tracker} ({self.place})"
        if not self.points:
            return f"{where} has all of these points already, so nothing was written"
        points = f"{self.points} checkpoint{'' if self.points == 1 else 's'}"
        end = ", in place of the values of an earlier push" if self.replaced else ""
        return f"{points} written to {where}{end}"


@dataclass(frozen=True, slots=True)
class Difference:
    """What a tracker's run lacks of a series, and the steps at which it has something else."""

    missing: Points
    changed: tuple[int, ...]


def make_series(line: Curve, task: str) -> Series:
    """The points of a run's curves."""
    scores = line.scores
    rows = curves.table([line]).assign(train_half=line.train_half).to_dict("records")
    names = (*NAMES, "train_half")
    points = {
        int(row["step"]): {PREFIX + name: float(row[name]) for name in names if _known(row[name])}
        for row in rows
    }
    settings: dict[str, str | float] = {
        "store_run": scores.run,
        "task": task,
        "log_log_threshold": float(line.log_log_threshold),
        "estimator": line.estimator,
        "segment": scores.segment,
        "samples": scores.samples,
        "examples": len(scores.examples),
        "grader": scores.grader or "unknown",
    }
    return Series(scores.run, {PREFIX + name: value for name, value in settings.items()}, points)


def digest(*content: object) -> str:
    """16 hexadecimal digits that are the same for the same content."""
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:16]


def first_line(error: Exception) -> str:
    """The first line of an error's message; its kind if it has none."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def compare(wanted: Points, there: Points) -> Difference:
    """What of the wanted points is missing in a tracker's run, and where that has other values.

    Args:
        there: the values of the tracker's run whose names begin with PREFIX.

    >>> compare({1: {"a": 0.5}, 2: {"a": 0.6}}, {1: {"a": 0.5}, 3: {"a": 0.7}})
    Difference(missing={2: {'a': 0.6}}, changed=(3,))
    """
    missing = {
        step: lacking
        for step, values in wanted.items()
        if (lacking := {n: v for n, v in values.items() if n not in there.get(step, {})})
    }
    changed = tuple(
        sorted(
            step
            for step, values in there.items()
            if any(not math.isclose(v, _value(wanted, step, n)) for n, v in values.items())
        )
    )
    return Difference(missing, changed)


def refuse_changed(difference: Difference, run: str) -> None:
    """PushError: a run that Premem did not make has other values, which cannot be taken back."""
    if difference.changed:
        steps = ", ".join(map(str, difference.changed[:5]))
        raise PushError(
            f"the run '{run}' has other values of an earlier push at step {steps} (another "
            "threshold, or more samples), and they cannot be replaced there; nothing was written: "
            "omit --into, to push to a run of its own"
        )


def _value(points: Points, step: int, name: str) -> float:
    return points.get(step, {}).get(name, math.nan)


def _known(value: object) -> bool:
    return isinstance(value, float) and math.isfinite(value)
