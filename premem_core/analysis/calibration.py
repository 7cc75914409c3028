"""Calibration: what runs with a test set say about the threshold and the error of a prediction.

Each run is predicted with the threshold of the others (leave one run out). How far its residuals
exceed the sampling noise is how far off a prediction of a new run may be.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd

from premem_core.analysis import curves
from premem_core.analysis.calibrating_runs import calibrating_runs, what_counts_less
from premem_core.analysis.caveats import caveats
from premem_core.analysis.leave_one_out import left_out
from premem_core.analysis.run_scores import RunScores
from premem_core.errors import UsageError
from premem_core.metrics import estimators, intervals, pre_memorization
from premem_core.metrics.estimators import ESTIMATORS, Estimator

FORMAT = 1  # of calibration.json
NO_INTERVAL = (
    "Without one of these runs the others determine no threshold: nothing tells how it carries "
    "over to another run, and predictions have no interval."
)


@dataclass(frozen=True, slots=True)
class Calibration:
    """What runs with a test set teach about one that has none: kept as `calibration.json`.

    Attributes:
        log_log_threshold: t with the best identity R² over these runs.
        plateau: thresholds that do about as well; None for an end that is open.
        residual_sd: root mean square of (test accuracy − PM) of a left-out run, beyond the
            sampling noise of PM; None with fewer than two runs, for then nothing says how the
            threshold carries over. The noise of the tests stays in: runs answer the same test
            questions, so it does not average out, and the threshold takes some of it on.
        difference_sd: the same of the difference between two checkpoints of a left-out run, beyond
            all sampling noise; None also where no run has two.
        premem_range: lowest and highest PM that was compared with a test accuracy.
        warnings: why the numbers should not be trusted, in sentences.
    """

    task: str
    estimator: Estimator
    log_log_threshold: float
    plateau: tuple[float | None, float | None]
    identity_r2: float
    residual_sd: float | None
    difference_sd: float | None
    premem_range: tuple[float, float]
    runs: tuple[str, ...]
    checkpoints: int
    warnings: tuple[str, ...]

    def to_json(self) -> str:
        """The content of `calibration.json`."""
        return json.dumps({"format": FORMAT, **asdict(self)}, indent=1, allow_nan=False)

    @classmethod
    def read(cls, file: Path) -> "Calibration":
        """Read a `calibration.json`.

        Raises:
            UsageError: it cannot be read, or is none.
        """
        try:
            return cls.from_json(file.read_text(), file.name)
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(f"cannot read the calibration {file}: {error}") from error

    @classmethod
    def from_json(cls, text: str, name: str = "calibration.json") -> "Calibration":
        """Read a `calibration.json`.

        Raises:
            UsageError: it is none.
        """
        try:
            content = json.loads(text)
            if content.pop("format") != FORMAT:
                raise ValueError("another format")
            return _checked(cls(**content))
        except (ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
            raise UsageError(
                f"{name} is no calibration that this version reads; export one from the R² fits "
                "page, or with 'fit --save-calibration'"
            ) from error


def _checked(read: Calibration) -> Calibration:
    """Its numbers are numbers, its lists tuples; ValueError or TypeError where they are not."""
    ends = [end for end in read.plateau if end is not None]
    numbers = [read.log_log_threshold, read.identity_r2, *ends, *read.premem_range]
    spreads = [sd for sd in (read.residual_sd, read.difference_sd) if sd is not None]
    (low, high), (lowest, highest) = read.plateau, read.premem_range
    names = [read.task, read.estimator, *read.runs, *read.warnings]
    if (
        read.estimator not in ESTIMATORS
        or not np.isfinite(np.array([*numbers, *spreads, read.checkpoints], dtype=np.float64)).all()
        or any(isinstance(value, str) for value in [*numbers, *spreads, read.checkpoints])
        or any(sd < 0 for sd in spreads)
        or lowest > highest
        or not read.runs
        or not all(isinstance(name, str) for name in names)
        or any(isinstance(several, str) for several in (read.runs, read.warnings))
    ):
        raise ValueError("not what a calibration holds")
    return replace(
        read,
        plateau=(low, high),
        premem_range=(lowest, highest),
        runs=tuple(read.runs),
        warnings=tuple(read.warnings),
    )


def calibrate(task: str, runs: Sequence[RunScores], estimator: Estimator = "plain") -> Calibration:
    """What the runs that take part (`calibrating_runs`) say about a run without a test set.

    Raises:
        DataError: no threshold can be fitted to them.
    """
    given, runs = runs, calibrating_runs(runs)
    of_runs = curves.threshold_steps(runs, estimator)
    fit = curves.best_step(of_runs)
    lines = [curves.curve(run, fit.log_log_threshold, estimator) for run in runs]
    points = curves.points(lines).dropna(subset=["premem"])
    rows = left_out(runs, [run.run for run in runs], of_runs, estimator)
    return Calibration(
        task=task,
        estimator=estimator,
        log_log_threshold=fit.log_log_threshold,
        plateau=(_or_none(fit.plateau[0]), _or_none(fit.plateau[1])),
        identity_r2=fit.r2,
        residual_sd=None if rows is None else _residual_sd(rows),
        difference_sd=None if rows is None else _difference_sd(runs, rows, estimator),
        premem_range=(float(points["premem"].min()), float(points["premem"].max())),
        runs=tuple(run.run for run in runs),
        checkpoints=len(points),
        warnings=(
            *caveats(lines, fit),
            *what_counts_less(given),
            *([NO_INTERVAL] if rows is None else []),
        ),
    )


def _residual_sd(rows: pd.DataFrame) -> float:
    squares = (rows["test_accuracy"] - rows["predicted"]) ** 2
    beyond_noise = np.average(squares - rows["predicted_se"] ** 2, weights=rows["weight"])
    return float(np.sqrt(max(0.0, beyond_noise)))


def _difference_sd(
    runs: Sequence[RunScores], rows: pd.DataFrame, estimator: Estimator
) -> float | None:
    """Two checkpoints answer the same questions: their difference has the noise of differences."""
    squares, weights = [], []
    for run in runs:
        own = rows[rows["run"] == run.run].set_index("step")
        premem = estimators.premem(
            estimator, run.counts, run.nll, float(own["log_log_threshold"].iloc[0])
        )
        residual = own["test_accuracy"] - own["predicted"]
        at = dict(zip(run.steps.tolist(), range(len(run.steps)), strict=True))
        for a, b in combinations(own.index, 2):
            noise = [standard_error(x[at[a]] - x[at[b]]) for x in (premem, run.test_accuracy)]
            squares.append((residual[a] - residual[b]) ** 2 - np.square(noise).sum())
            weights.append(float(own["weight"].iloc[0]))
    if not squares:
        return None
    return float(np.sqrt(max(0.0, np.average(squares, weights=weights))))


def standard_error(values: pre_memorization.Floats) -> float:
    return float(intervals.mean_interval(values)[1]) / intervals.Z90


def _or_none(value: float) -> float | None:
    return value if np.isfinite(value) else None
