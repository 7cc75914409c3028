"""What test accuracy to expect of a run that has no test set, from runs that have one.

Pre-memorization accuracy is the prediction; runs with a test set say which threshold it takes and
how far it is off. Each of them is predicted with the threshold of the others (leave one run out),
and what its residuals exceed sampling noise by is what a new run may be off by too.

Axes: C checkpoints of one run in training order, N training examples.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import stats

from premem_core import curves, estimators, fits, metrics
from premem_core.caveats import caveats
from premem_core.curves import RunScores
from premem_core.errors import DataError, UsageError
from premem_core.estimators import ESTIMATORS, Estimator

FORMAT = 1  # of calibration.json


@dataclass(frozen=True, slots=True)
class Calibration:
    """What runs with a test set teach about one that has none: kept as `calibration.json`.

    Attributes:
        log_log_threshold: t with the best identity R² over these runs.
        plateau: thresholds that do about as well; None for an end that is open.
        residual_sd: of (test accuracy − PM) of a left-out run, beyond sampling noise; None with
            fewer than two runs, for then nothing says how the threshold carries over.
        difference_sd: the same of the difference between two checkpoints of a left-out run.
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
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise UsageError(
                f"{name} is no calibration that this version reads; export one from the R² fits "
                "page, or with 'fit --save-calibration'"
            ) from error


def _checked(read: Calibration) -> Calibration:
    """Its numbers are numbers, its lists tuples; ValueError or TypeError where they are not."""
    ends = [end for end in read.plateau if end is not None]
    numbers = [read.log_log_threshold, read.identity_r2, *ends, *read.premem_range]
    spreads = [sd for sd in (read.residual_sd, read.difference_sd) if sd is not None]
    if (
        read.estimator not in ESTIMATORS
        or np.isnan(np.array([*numbers, *spreads], dtype=np.float64)).any()
        or any(isinstance(value, str) for value in [*numbers, *spreads])
        or any(sd < 0 for sd in spreads)
        or isinstance(read.runs, str)
    ):
        raise ValueError("not what a calibration holds")
    (low, high), (lowest, highest) = read.plateau, read.premem_range
    return replace(
        read,
        plateau=(low, high),
        premem_range=(lowest, highest),
        runs=tuple(map(str, read.runs)),
        warnings=tuple(map(str, read.warnings)),
    )


def left_out(
    runs: Sequence[RunScores], groups: Sequence[object], estimator: Estimator = "plain"
) -> pd.DataFrame:
    """Every checkpoint with a test accuracy, predicted with the threshold of the other groups.

    Args:
        groups: what each run belongs to and is left out with: its name, or its learning rate.

    Returns:
        run, step, log_log_threshold, predicted, predicted_se, test_accuracy, test_se.

    Raises:
        DataError: no threshold can be fitted to what is left when a group is out.
    """
    of_runs = curves.threshold_steps(runs, estimator)
    rows = []
    for group in dict.fromkeys(groups):
        others = np.array([other != group for other in groups])
        t = curves.best_step(of_runs.only(others)).log_log_threshold
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
                        "test_se": line.test_half / metrics.Z90,
                    }
                )
            )
    return pd.concat(rows, ignore_index=True).dropna(subset=["predicted", "test_accuracy"])


def errors(rows: pd.DataFrame) -> dict[str, float]:
    """MAE, RMSE and R² of `left_out` predictions: how far they are off."""
    residual = (rows["test_accuracy"] - rows["predicted"]).to_numpy()
    return {
        "mae": float(np.abs(residual).mean()),
        "rmse": float(np.sqrt((residual**2).mean())),
        "r2": fits.identity_r2(rows["predicted"].to_numpy(), rows["test_accuracy"].to_numpy()),
    }


def errors_by_run(rows: pd.DataFrame) -> pd.DataFrame:
    """`errors` of each left-out run: run, log_log_threshold, mae, rmse, r2."""
    return pd.DataFrame(
        [
            {"run": run, "log_log_threshold": own["log_log_threshold"].iloc[0], **errors(own)}
            for run, own in rows.groupby("run", sort=False)
        ]
    )


def calibrate(task: str, runs: Sequence[RunScores], estimator: Estimator = "plain") -> Calibration:
    """What these runs teach; those without a test accuracy do not count.

    Raises:
        DataError: no threshold can be fitted to them.
    """
    runs = [run for run in runs if run.test_accuracy.shape[1]]
    of_runs = curves.threshold_steps(runs, estimator)
    fit = curves.best_step(of_runs)
    lines = [curves.curve(run, fit.log_log_threshold, estimator) for run in runs]
    points = curves.points(lines).dropna(subset=["premem"])
    residual_sd = difference_sd = None
    if len(runs) > 1:
        try:
            rows = left_out(runs, [run.run for run in runs], estimator)
        except DataError:  # the others alone would not do: no residual is known
            rows = None
        if rows is not None:
            residual_sd, difference_sd = _spreads(rows)
    return Calibration(
        task=task,
        estimator=estimator,
        log_log_threshold=fit.log_log_threshold,
        plateau=(_or_none(fit.plateau[0]), _or_none(fit.plateau[1])),
        identity_r2=fit.r2,
        residual_sd=residual_sd,
        difference_sd=difference_sd,
        premem_range=(float(points["premem"].min()), float(points["premem"].max())),
        runs=tuple(run.run for run in runs),
        checkpoints=len(points),
        warnings=tuple(caveats(lines, fit)),
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
            return f"{ship}; one run cannot tell how sure it is to beat the next, {second}."
        return f"{ship}; it beats the next, {second}, with probability {self.confidence:.2f}."


def choose(run: RunScores, calibration: Calibration) -> Choice | None:
    """Which checkpoint to ship, None where no PM is known.

    The two checkpoints answer the same questions, so the noise of their difference is that of the
    questions' differences; what differences were off by on left-out runs comes on top.
    """
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
        sampling = difference.std(ddof=1) / np.sqrt(difference.size)
        noise = np.hypot(sampling, calibration.difference_sd)
        distance = (means[best] - means[second]) / noise if noise else 0.0
        confidence = float(stats.t.cdf(distance, len(calibration.runs) - 1))
    return Choice(
        int(run.steps[best]),
        float(means[best]),
        int(run.steps[second]),
        float(means[second]),
        confidence,
    )


def _spreads(rows: pd.DataFrame) -> tuple[float, float]:
    """Standard deviations of left-out residuals, and of their differences within a run."""
    residual = (rows["test_accuracy"] - rows["predicted"]).to_numpy()
    noise = (rows["predicted_se"] ** 2 + rows["test_se"] ** 2).to_numpy()
    pairs = [
        (a - b) ** 2
        for _, own in pd.Series(residual).groupby(rows["run"].to_numpy())
        for i, a in enumerate(own)
        for b in own.iloc[:i]
    ]
    beyond = float(np.sqrt(max(0.0, (residual**2 - noise).mean())))
    return beyond, float(np.sqrt(np.mean(pairs))) if pairs else beyond


def _quantile(calibration: Calibration) -> float:
    return float(stats.t.ppf(0.95, max(1, len(calibration.runs) - 1)))


def _or_none(value: float) -> float | None:
    return value if np.isfinite(value) else None


def _or_nan(value: float | None) -> float:
    return float("nan") if value is None else value
