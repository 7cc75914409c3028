"""Predictors and thresholds on the published runs, or those of a store, by runs left out.

(1) The error and R² of each predictor, each run or each learning rate left out, and of the choice
    of the best of them.
(2) How often 90 % intervals of left-out runs hold the measured accuracy, and how wide they are.
(3) Each run alone, without its test set: the threshold by the first checkpoint's accuracy, and by
    unseen solutions.
(4) The same without each run's first checkpoint.

    python benchmarks/predictors.py kang2024 gsm8k
    python benchmarks/predictors.py data/demo/store demo
"""

import shutil
import sys
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import stats

sys.path.insert(0, str(Path(__file__).parents[1]))

from premem_core.analysis import curves, run_scores
from premem_core.analysis.run_scores import RunScores
from premem_core.analysis.studies import predictors
from premem_core.analysis.studies.calibration import calibrate
from premem_core.analysis.studies.leave_one_out import predict_left_out
from premem_core.analysis.studies.predictors import PREDICTORS, Predictor
from premem_core.analysis.verdict.expectation import WITHHELD, expect, first_memorized
from premem_core.analysis.verdict.threshold import Threshold, choose_threshold
from premem_core.importers.published_arrays import import_published
from premem_core.metrics import r2, threshold_rules
from premem_core.metrics.sample_counts import SampleCounts
from premem_core.store.database import Store

OFF = 0.10  # a prediction that is off by more must be withheld, or carry a warning


def left_out(runs: list[RunScores]) -> None:
    comparison = predictors.compare(runs)
    print("(1) each run, or each learning rate, left out:")
    print(comparison.table.drop(columns="label").round(4).to_string(index=False))
    print(f"best: {comparison.best}; chosen without the run itself: {comparison.nested}")


def intervals_of_left_out(task: str, runs: list[RunScores]) -> None:
    print("(2) 90 % intervals of left-out runs:")
    for one in PREDICTORS:
        ours, section_11 = [], []
        for run in runs:
            others = [other for other in runs if other.run != run.run]
            calibration = calibrate(task, others, one.estimator, relative=one.relative)
            rows = expect(run, choose_threshold(task, run, runs, calibration=calibration))
            ours.append(rows)
            section_11.append(_with_interval_of_errors(rows, [one.scores(o) for o in others], one))
        for name, found in (("ours", ours), ("docs/method.md, 11", section_11)):
            print(f"{one.name:14} {name:20} {_coverage(found)}")


def _with_interval_of_errors(
    rows: pd.DataFrame, others: list[RunScores], one: Predictor
) -> pd.DataFrame:
    """The rows with the interval of the errors on left-out runs alone (docs/method.md, 11)."""
    names = [other.run for other in others]
    steps = curves.threshold_steps(others, one.estimator)
    of_others = predict_left_out(others, names, steps, one.estimator)
    assert of_others is not None
    squares = (of_others["test_accuracy"] - of_others["predicted"]) ** 2
    mean_square = squares.groupby(of_others["run"]).mean().mean()
    half = stats.t.ppf(0.95, len(others) - 1) * np.sqrt(mean_square * (1 + 1 / len(others)))
    return rows.assign(low=rows["predicted"] - half, high=rows["predicted"] + half)


def _coverage(found: list[pd.DataFrame]) -> str:
    rows = pd.concat(found)
    held = rows["test_accuracy"].between(rows["low"], rows["high"])
    whole = held.groupby(rows["run"]).all().mean()
    width = (rows["high"] - rows["low"]).mean()
    return f"held {held.mean():.3f}, width {width:.4f}, all of a run {whole:.2f}"


def alone(task: str, runs: list[RunScores]) -> None:
    print("(3) each run alone (the rules were fitted with the published runs):")
    for source in ("this_run", "unseen"):
        rows = [expect(run, choose_threshold(task, run, runs, source=source)) for run in runs]
        print(f"{source}: {_errors(pd.concat(rows))}, typical interval {_coverage(rows)}")
        if source == "this_run":
            whole = pd.concat(rows)
            held = whole["test_accuracy"].between(whole["band_low"], whole["band_high"])
            width = (whole["band_high"] - whole["band_low"]).mean()
            print(f"  band of PM over t: held {held.mean():.3f}, width {width:.3f}")
    pooled = np.concatenate([run.unseen_nll.reshape(1, -1) for run in runs], axis=1)
    for quantile in (0.007, 0.008, 0.009):
        t = threshold_rules.from_unseen(pooled, quantile)
        rows = [expect(run, choose_threshold(task, run, runs, given=t)) for run in runs]
        print(f"unseen, pooled, quantile {quantile:.1%}, t = {t:.3f}: {_errors(pd.concat(rows))}")


def _errors(rows: pd.DataFrame) -> str:
    predicted, test = rows["predicted"].to_numpy(), rows["test_accuracy"].to_numpy()
    known = ~np.isnan(predicted)
    mae = np.abs(predicted - test)[known].mean()
    return f"identity R² {r2.identity_r2(predicted, test):.3f}, MAE {mae:.4f}, n {known.sum()}"


def without_first(task: str, runs: list[RunScores]) -> None:
    print("(4) without each run's first checkpoint, at t = -2.3 and by the rule for a run alone:")
    ways: dict[str, Callable[[RunScores], Threshold]] = {
        "t = -2.3": lambda run: choose_threshold(task, run, [run], given=-2.3),
        "this_run": lambda run: choose_threshold(task, run, [run], source="this_run"),
    }
    for name, way in ways.items():
        for run in (cut(run) for run in runs if len(run.steps) > 1):
            threshold = way(run)
            share = first_memorized(run, threshold.log_log_threshold)
            premem = expect(run, threshold)["premem"].to_numpy()
            off = float(np.nanmax(np.abs(premem - run.test_accuracy.mean(axis=1))))
            said = "withheld" if share > WITHHELD else "warned" if share > 0.2 else "given"
            wrong = "  <- off, without a warning" if off > OFF and said == "given" else ""
            print(
                f"{name:9} {run.run:44} memorized first {share:.2f}  off {off:.3f}  {said}{wrong}"
            )


def cut(run: RunScores) -> RunScores:
    """The run without its first checkpoint."""
    counts = run.counts
    return replace(
        run,
        steps=run.steps[1:],
        epoch=run.epoch[1:],
        nll=run.nll[1:],
        counts=SampleCounts(counts.samples[1:], counts.correct[1:], counts.wanted[1:]),
        test_accuracy=run.test_accuracy[1:],
        unseen_nll=run.unseen_nll[1:],
    )


def main() -> None:
    source, task = Path(sys.argv[1]), sys.argv[2]
    with tempfile.TemporaryDirectory() as folder:
        store = Store(Path(folder) / "store")
        if (source / store.database.name).exists():
            shutil.copytree(source, store.path, dirs_exist_ok=True)
        else:
            import_published(store, source)
        runs = run_scores.read_task(store, task)
    print(f"{task}: {len(runs)} runs, {sum(len(run.steps) for run in runs)} checkpoints")
    left_out(runs)
    intervals_of_left_out(task, runs)
    alone(task, runs)
    without_first(task, runs)


if __name__ == "__main__":
    main()
