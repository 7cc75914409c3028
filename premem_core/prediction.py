"""What test accuracy to expect of a run that has no test set, from runs that have one.

Pre-memorization accuracy is the prediction; runs with a test set say which threshold it takes and
how far it is off. Each of them is predicted with the threshold of the others (leave one run out),
and what its residuals exceed sampling noise by is what a new run may be off by too.

Axes: C checkpoints of one run in training order, N training examples.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd

from premem_core import curves, estimators, fits, metrics
from premem_core.caveats import caveats
from premem_core.curves import RunScores
from premem_core.errors import DataError, UsageError
from premem_core.estimators import ESTIMATORS, Estimator
from premem_core.thresholds import Objective, Steps

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


def left_out(
    runs: Sequence[RunScores],
    groups: Sequence[object],
    of_runs: Steps,
    estimator: Estimator,
    objective: Objective = "identity",
) -> pd.DataFrame | None:
    """Every checkpoint with a test accuracy, predicted with the threshold of the other groups.

    Args:
        groups: what each run belongs to and is left out with: its name, or its learning rate.
        of_runs: `curves.threshold_steps` of the runs.

    Returns:
        run, step, log_log_threshold, predicted, predicted_se, test_accuracy. None where
        there is one group only, or what is left without one determines no threshold.
    """
    if len(set(groups)) < 2:
        return None
    rows = []
    for group in dict.fromkeys(groups):
        others = np.array([other != group for other in groups])
        try:
            t = curves.best_step(of_runs.only(others), objective).log_log_threshold
        except DataError:
            return None
        for run in (run for run, own in zip(runs, groups, strict=True) if own == group):
            line = curves.curve(run, t, estimator)
            rows.append(
                pd.DataFrame(
                    {
                        "run": run.run,
                        "step": run.steps,
                        "log_log_threshold": t,
                        "predicted": line.premem,
                        "predicted_se": line.premem_half / metrics.Z90,
                        "test_accuracy": line.test,
                    }
                )
            )
    return pd.concat(rows, ignore_index=True).dropna(subset=["predicted", "test_accuracy"])


@dataclass(frozen=True, slots=True)
class Errors:
    """How far predictions are off: mean absolute, root mean square, identity R²."""

    mae: float
    rmse: float
    r2: float


def errors(rows: pd.DataFrame) -> Errors:
    """Of `left_out` predictions."""
    residual = (rows["test_accuracy"] - rows["predicted"]).to_numpy()
    return Errors(
        mae=float(np.abs(residual).mean()),
        rmse=float(np.sqrt((residual**2).mean())),
        r2=fits.identity_r2(rows["predicted"].to_numpy(), rows["test_accuracy"].to_numpy()),
    )


def errors_by_run(rows: pd.DataFrame) -> pd.DataFrame:
    """`errors` of each left-out run: run, log_log_threshold, mae, rmse, r2."""
    return pd.DataFrame(
        [
            {
                "run": run,
                "log_log_threshold": own["log_log_threshold"].iloc[0],
                **asdict(errors(own)),
            }
            for run, own in rows.groupby("run", sort=False)
        ]
    )


def calibrate(task: str, runs: Sequence[RunScores], estimator: Estimator = "plain") -> Calibration:
    """What these runs teach; those without a test accuracy do not count.

    Raises:
        DataError: no threshold can be fitted to them.
    """
    runs = [run for run in runs if run.tested]
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
        warnings=(*caveats(lines, fit), *([NO_INTERVAL] if rows is None else [])),
    )


def predict(run: RunScores, calibration: Calibration) -> pd.DataFrame:
    """The test accuracy to expect of each checkpoint, with a 90 % interval.

    The interval joins the sampling noise of PM (over questions) with what the threshold was off by
    on runs that it was not chosen from; Student's t, for those runs are few.

    Returns:
        run, step, epoch, predicted, low, high, test_accuracy (where measured), memorized_share,
        extrapolated; low and high are NaN where the calibration rests on one run.

    Raises:
        DataError: the estimator is not defined for this run's numbers of samples.
    """
    line = curves.curve(run, calibration.log_log_threshold, calibration.estimator)
    half = _quantile(calibration) * np.hypot(
        line.premem_half / metrics.Z90, _or_nan(calibration.residual_sd)
    )
    lowest, highest = calibration.premem_range
    return pd.DataFrame(
        {
            "run": run.run,
            "step": run.steps,
            "epoch": run.epoch,
            "predicted": line.premem,
            "low": np.clip(line.premem - half, 0.0, 1.0),
            "high": np.clip(line.premem + half, 0.0, 1.0),
            "test_accuracy": line.test,
            "memorized_share": line.memorized,
            "extrapolated": (line.premem < lowest) | (line.premem > highest),
        }
    )


def notes(task: str, rows: pd.DataFrame, calibration: Calibration) -> list[str]:
    """Why a prediction should not be trusted, where it should not, in sentences.

    Args:
        task: of the run.
        rows: `predict`.
    """
    found = list(calibration.warnings)
    if calibration.task != task:
        found.append(
            f"The calibration is of the task '{calibration.task}', the run of '{task}': thresholds "
            "carry over between tasks at best roughly."
        )
    if rows["run"].isin(calibration.runs).any():
        found.append(
            "The calibration learned from a run of this name: if it is this one, the interval is "
            "too narrow."
        )
    if rows["extrapolated"].any():
        found.append("Some checkpoints lie outside the accuracies that the calibration has seen.")
    return found


@dataclass(frozen=True, slots=True)
class Choice:
    """The checkpoint to ship: the one with the highest prediction.

    `confidence` is the probability that its test accuracy is above that of `next_step`, the second
    highest; None where there is no second, or nothing says how far a difference may be off.
    """

    step: int
    predicted: float
    next_step: int | None
    next_predicted: float | None
    confidence: float | None

    def in_words(self) -> str:
        """One sentence."""
        ship = f"Ship step {self.step}: {100 * self.predicted:.1f} % is expected on new problems"
        if self.next_step is None or self.next_predicted is None:
            return f"{ship}; no other checkpoint is known."
        second = f"step {self.next_step} ({100 * self.next_predicted:.1f} %)"
        if self.confidence is None:
            return f"{ship}; nothing tells how sure it is to beat the next, {second}."
        return f"{ship}; it beats the next, {second}, with probability {self.confidence:.2f}."


def choose(run: RunScores, calibration: Calibration) -> Choice | None:
    """Which checkpoint to ship, None where no PM is known.

    The two checkpoints answer the same questions, so the noise of their difference is that of the
    questions' differences; what differences were off by on left-out runs comes on top.
    """
    from scipy import stats  # a second to load: only where it is needed

    premem = estimators.premem(
        calibration.estimator, run.counts, run.nll, calibration.log_log_threshold
    )
    means = premem.mean(axis=1)
    order = [int(c) for c in np.argsort(-means, kind="stable") if not np.isnan(means[c])]
    if not order:
        return None
    best, *rest = order
    if not rest:
        return Choice(int(run.steps[best]), float(means[best]), None, None, None)
    second, confidence = rest[0], None
    if calibration.difference_sd is not None:
        difference = premem[best] - premem[second]
        noise = np.hypot(_standard_error(difference), calibration.difference_sd)
        lead = means[best] - means[second]
        distance = lead / noise if noise else np.inf * lead if lead else 0.0
        known = float(stats.t.cdf(distance, len(calibration.runs) - 1))
        confidence = known if np.isfinite(known) else None
    return Choice(
        int(run.steps[best]),
        float(means[best]),
        int(run.steps[second]),
        float(means[second]),
        confidence,
    )


def _residual_sd(rows: pd.DataFrame) -> float:
    squares = (rows["test_accuracy"] - rows["predicted"]) ** 2
    return float(np.sqrt(max(0.0, (squares - rows["predicted_se"] ** 2).mean())))


def _difference_sd(
    runs: Sequence[RunScores], rows: pd.DataFrame, estimator: Estimator
) -> float | None:
    """Two checkpoints answer the same questions: their difference has the noise of differences."""
    squares = []
    for run in runs:
        own = rows[rows["run"] == run.run].set_index("step")
        premem = estimators.premem(
            estimator, run.counts, run.nll, float(own["log_log_threshold"].iloc[0])
        )
        residual = own["test_accuracy"] - own["predicted"]
        at = dict(zip(run.steps.tolist(), range(len(run.steps)), strict=True))
        for a, b in combinations(own.index, 2):
            noise = [_standard_error(x[at[a]] - x[at[b]]) for x in (premem, run.test_accuracy)]
            squares.append((residual[a] - residual[b]) ** 2 - np.square(noise).sum())
    return float(np.sqrt(max(0.0, np.mean(squares)))) if squares else None


def _standard_error(values: metrics.Floats) -> float:
    return float(metrics.mean_interval(values)[1]) / metrics.Z90


def _quantile(calibration: Calibration) -> float:
    from scipy import stats  # a second to load: only where it is needed

    return float(stats.t.ppf(0.95, max(1, len(calibration.runs) - 1)))


def _or_none(value: float) -> float | None:
    return value if np.isfinite(value) else None


def _or_nan(value: float | None) -> float:
    return float("nan") if value is None else value
