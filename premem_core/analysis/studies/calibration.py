"""Calibration: a threshold and the error of its predictions, from runs with a test set.

Each run is predicted with the threshold of the other runs (leave one run out). The part of its
residuals that sampling noise does not explain is the error to expect for a new run.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd

from premem_core.analysis import curves
from premem_core.analysis.caveats import caveats
from premem_core.analysis.run_scores import RunScores, relative_scores
from premem_core.analysis.studies.calibrating_runs import calibrating_runs, what_counts_less
from premem_core.analysis.studies.leave_one_out import predict_left_out
from premem_core.errors import DataError, UsageError
from premem_core.metrics import intervals, pre_memorization, threshold_rules
from premem_core.metrics.estimators import ESTIMATORS, Estimator
from premem_core.records import SEGMENTS, Segment

FORMAT = 1  # of calibration.json
ANOTHER = "score another run with a test set, or give a saved calibration.json"
NO_INTERVAL = (
    "Predictions have no interval: when one of these runs is left out, the others do not determine "
    "a threshold, so the error on a new run cannot be estimated."
)


@dataclass(frozen=True, slots=True)
class Calibration:
    """The threshold and the errors with which a run without a test set is predicted.

    It can be saved as a file, `calibration.json`.

    Attributes:
        log_log_threshold: t with the best identity R² over these runs; u where it is relative.
        plateau: lowest and highest t with an R² close to the best; None for an open end.
        residual_sd: root mean square of (test accuracy − PM) of a left-out run, after subtracting
            the sampling noise of PM. None with fewer than two runs: the error on another run is
            then unknown. The noise of the test accuracies is not subtracted: all runs answer the
            same test questions, so it does not average out, and it affects the threshold.
        difference_sd: the same for the difference between two checkpoints of a left-out run, after
            subtracting the noise of both accuracies. None also where no run has two checkpoints.
        premem_range: lowest and highest PM of the points that the threshold was fitted to.
        warnings: sentences that say why the numbers may be wrong.
        segment: the part of a solution whose perplexity is compared with the threshold.
        relative: the threshold of a run is u − s₁, relative to the spread of its NLLs.
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
    segment: Segment = "target"
    relative: bool = False

    def threshold_of(self, run: RunScores) -> float:
        """The threshold t of a run."""
        spread = threshold_rules.first_spread(run.nll[0]) if self.relative else 0.0
        return self.log_log_threshold - spread

    def half_width(self, standard_errors: pre_memorization.Floats) -> pre_memorization.Floats:
        """The half-width of the 90 % interval of each prediction; NaN where it is unknown.

        The sampling noise of PM over questions is combined with the errors that the threshold made
        on left-out runs. Student's t is used, because these runs are few.

        Args:
            standard_errors: of the run's PM over questions.
        """
        from scipy import stats

        error = float("nan") if self.residual_sd is None else self.residual_sd
        quantile = float(stats.t.ppf(0.95, max(1, len(self.runs) - 1)))
        return np.asarray(quantile * np.hypot(standard_errors, error))

    def to_json(self) -> str:
        """The content of `calibration.json`."""
        content = {"format": FORMAT, "threshold_source": "other_runs", **asdict(self)}
        return json.dumps(content, indent=1, allow_nan=False)

    @classmethod
    def read(cls, file: Path) -> "Calibration":
        """Read a `calibration.json`.

        Raises:
            UsageError: the file cannot be read, or holds no calibration.
        """
        try:
            return cls.from_json(file.read_text(), file.name)
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(f"cannot read the calibration {file}: {error}") from error

    @classmethod
    def from_json(cls, text: str, name: str = "calibration.json") -> "Calibration":
        """Read the content of a `calibration.json`.

        Args:
            name: of the file, for the error message.

        Raises:
            UsageError: the text holds no calibration.
        """
        try:
            content = json.loads(text)
            if content.pop("format") != FORMAT:
                raise ValueError(f"not format {FORMAT}")
            content.pop("threshold_source", None)
            return _checked(cls(**content))
        except (ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
            raise UsageError(
                f"{name} is not a calibration that this version of Premem can read; export one "
                "from the Verdict page, or with 'fit --save-calibration'"
            ) from error


def _checked(read: Calibration) -> Calibration:
    """The calibration, its lists made tuples; ValueError or TypeError where a value is invalid."""
    ends = [end for end in read.plateau if end is not None]
    numbers = [read.log_log_threshold, read.identity_r2, *ends, *read.premem_range]
    spreads = [sd for sd in (read.residual_sd, read.difference_sd) if sd is not None]
    (low, high), (lowest, highest) = read.plateau, read.premem_range
    names = [read.task, read.estimator, *read.runs, *read.warnings]
    if (
        read.estimator not in ESTIMATORS
        or read.segment not in SEGMENTS
        or not np.isfinite(np.array([*numbers, *spreads, read.checkpoints], dtype=np.float64)).all()
        or any(isinstance(value, str) for value in [*numbers, *spreads, read.checkpoints])
        or any(sd < 0 for sd in spreads)
        or lowest > highest
        or not isinstance(read.relative, bool)
        or not read.runs
        or not all(isinstance(name, str) for name in names)
        or any(isinstance(values, str) for values in (read.runs, read.warnings))
    ):
        raise ValueError("a value that no calibration has")
    return replace(
        read,
        plateau=(low, high),
        premem_range=(lowest, highest),
        runs=tuple(read.runs),
        warnings=tuple(read.warnings),
    )


def calibrate(
    task: str,
    runs: Sequence[RunScores],
    estimator: Estimator = "plain",
    *,
    relative: bool = False,
) -> Calibration:
    """Fit a threshold to the runs that take part (`calibrating_runs`), and measure its errors.

    Args:
        relative: fit u, of which each run's threshold is u − s₁.

    Raises:
        DataError: no threshold can be fitted to them.
    """
    all_runs, runs = runs, calibrating_runs(runs)
    if not runs:
        raise DataError(
            f"no threshold can be fitted: no other run of the task '{task}' has a test set and a "
            f"finished scoring job; {ANOTHER}"
        )
    if relative:
        runs = [relative_scores(run) for run in runs]
    steps = curves.threshold_steps(runs, estimator)
    try:
        fit = steps.best()
    except ValueError as error:
        names = ", ".join(f"'{run.run}'" for run in runs)
        raise DataError(f"no threshold can be fitted to {names}: {error}; {ANOTHER}") from error
    lines = [curves.curve(run, fit.log_log_threshold, estimator) for run in runs]
    points = curves.points(lines).dropna(subset=["premem"])
    rows = predict_left_out(runs, [run.run for run in runs], steps, estimator)
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
            *what_counts_less(all_runs),
            *([NO_INTERVAL] if rows is None else []),
        ),
        segment=runs[0].segment,
        relative=relative,
    )


def _residual_sd(rows: pd.DataFrame) -> float:
    """`Calibration.residual_sd` of the rows of `predict_left_out`."""
    squares = (rows["test_accuracy"] - rows["predicted"]) ** 2
    beyond_noise = np.average(squares - rows["predicted_se"] ** 2, weights=rows["weight"])
    return float(np.sqrt(max(0.0, beyond_noise)))


def _difference_sd(
    runs: Sequence[RunScores], rows: pd.DataFrame, estimator: Estimator
) -> float | None:
    """`Calibration.difference_sd` of the rows of `predict_left_out`.

    Both checkpoints answer the same questions, so the noise of their difference is estimated from
    the differences of single questions.
    """
    squares, weights = [], []
    for run in runs:
        run_rows = rows[rows["run"] == run.run].set_index("step")
        t = float(run_rows["log_log_threshold"].iloc[0])
        residual = run_rows["test_accuracy"] - run_rows["predicted"]
        row_of = {step: row for row, step in enumerate(run.steps.tolist())}
        for a, b in combinations(run_rows.index, 2):
            tests = run.test_accuracy[row_of[a]] - run.test_accuracy[row_of[b]]
            _, error = curves.premem_change(run, t, estimator, row_of[a], row_of[b])
            noise = [error, standard_error(tests)]
            squares.append((residual[a] - residual[b]) ** 2 - np.square(noise).sum())
            weights.append(float(run_rows["weight"].iloc[0]))
    if not squares:
        return None
    return float(np.sqrt(max(0.0, np.average(squares, weights=weights))))


def standard_error(values: pre_memorization.Floats) -> float:
    """The standard error of the mean over questions, values (N,)."""
    return float(intervals.mean_interval(values)[1]) / intervals.Z90


def _or_none(value: float) -> float | None:
    return value if np.isfinite(value) else None
