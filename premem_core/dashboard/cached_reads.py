"""Cached reads: what pages read from the store, kept until the store changes."""

import contextlib
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
import pandas as pd
import streamlit as st

from premem_core.analysis import curves, run_scores
from premem_core.analysis import example_table as et
from premem_core.analysis.base_model import BaseModel, read_base_model
from premem_core.analysis.curves import Curve
from premem_core.analysis.run_scores import RunScores
from premem_core.analysis.studies.calibration import Calibration, calibrate
from premem_core.analysis.studies.predictors import Comparison, compare
from premem_core.analysis.studies.study import (
    Analysis,
    Study,
    analyse,
    make_study,
    read_baseline_predictors,
)
from premem_core.analysis.verdict import task_threshold as task_thresholds
from premem_core.analysis.verdict.threshold import Source, choose_threshold
from premem_core.analysis.verdict.verdict import Verdict, read_verdict
from premem_core.dashboard.wording import error_in_words
from premem_core.errors import DataError, PrememError, StoreError
from premem_core.grading import graded_completions
from premem_core.metrics.estimators import Estimator
from premem_core.metrics.sampling_plan import Plan
from premem_core.metrics.thresholds import Objective, ThresholdFit
from premem_core.records import Segment
from premem_core.store.database import Store
from premem_core.store.examples import read_task_examples
from premem_core.store.runs import read_runs

Read = TypeVar("Read")
SLIDER_STEP = 0.01
PAPER_GSM8K = -2.3  # the paper's threshold for GSM8K: the default where none can be fitted


@st.cache_resource
def store() -> Store:
    """The store that this dashboard shows: $PREMEM_STORE, by default ./store."""
    return Store(Path(os.environ.get("PREMEM_STORE", "store")))


@st.cache_resource(max_entries=8, show_spinner="Reading scores…")
def _runs(path: str, version: int, task: str, segment: Segment) -> list[RunScores]:
    return run_scores.read_task(store(), task, segment)


class RunsKey(NamedTuple):
    """The key of what is computed of scored runs: runs of one task, at a version of the store."""

    path: str
    version: int
    task: str
    segment: Segment
    names: tuple[str, ...]


def runs_key(task: str, runs: Sequence[RunScores]) -> RunsKey:
    """The key of what is computed of these runs of a task."""
    segment = runs[0].segment if runs else "target"
    return RunsKey(*cache_key(), task, segment, tuple(run.run for run in runs))


def runs_of(key: RunsKey) -> list[RunScores]:
    """The runs of a key."""
    runs = _runs(key.path, key.version, key.task, key.segment)
    return [run for run in runs if run.run in key.names]


class FitRequest(NamedTuple):
    """The key of a fit: the runs, estimator and objective."""

    runs: RunsKey
    estimator: Estimator
    objective: Objective


@st.cache_data(max_entries=64, show_spinner=False)
def _best_threshold(request: FitRequest) -> ThresholdFit | None:
    runs = runs_of(request.runs)
    try:
        return curves.best_threshold(runs, request.estimator, request.objective)
    except DataError:
        return None


@st.cache_resource(max_entries=16, show_spinner="Fitting with each run left out…")
def _study(request: FitRequest) -> Study:
    runs = runs_of(request.runs)
    predictors = read_baseline_predictors(store(), runs)
    return make_study(runs, predictors, request.estimator, request.objective)


@st.cache_resource(max_entries=64, show_spinner=False)
def _analysis(request: FitRequest, threshold: float) -> Analysis:
    study = _study(request)
    return analyse(study, threshold, is_best(threshold, study.fit))


@st.cache_resource(max_entries=16, show_spinner="Comparing predictors…")
def _comparison(key: RunsKey) -> Comparison:
    return compare(runs_of(key))


@st.cache_data(max_entries=64, show_spinner=False)
def _task_threshold(key: RunsKey, estimator: Estimator) -> task_thresholds.TaskThreshold:
    best = _best_threshold(FitRequest(key, estimator, "identity"))
    return task_thresholds.threshold_of_fit(key.task, runs_of(key), estimator, best)


@st.cache_data(max_entries=64, show_spinner=False)
def _calibration(key: RunsKey, estimator: Estimator) -> Calibration:
    return calibrate(key.task, runs_of(key), estimator)


@st.cache_resource(max_entries=64, show_spinner=False)
def _verdict(
    key: RunsKey, estimator: Estimator, source: Source | None, calibration: Calibration | None
) -> Verdict:
    [scores] = runs_of(key)
    threshold = choose_threshold(
        key.task,
        scores,
        _runs(key.path, key.version, key.task, key.segment),
        source=source,
        calibration=calibration,
        estimator=None if calibration else estimator,
    )
    return read_verdict(store(), key.task, scores, threshold)


@st.cache_resource(max_entries=8, show_spinner="Reading examples…")
def _described(key: RunsKey) -> pd.DataFrame:
    [scores] = runs_of(key)
    return et.describe_examples(scores, read(read_task_examples, key.task, "train"))


@st.cache_resource(max_entries=16, show_spinner=False)
def _example_table(key: RunsKey, threshold: float, estimator: Estimator) -> pd.DataFrame:
    [scores] = runs_of(key)
    base = base_models([scores]).get(scores.run)
    return et.make_example_table(scores, _described(key), threshold, estimator, base)


@st.cache_resource(max_entries=4, show_spinner="Comparing questions…")
def _vectors(path: str, version: int, task: str) -> tuple[Any, pd.Index]:
    from sklearn.feature_extraction.text import TfidfVectorizer

    texts = read(read_task_examples, task, "train").set_index("example")["question"]
    texts = texts[texts.str.strip() != ""]
    if texts.empty:
        return None, texts.index
    return TfidfVectorizer(sublinear_tf=True).fit_transform(texts), texts.index


@st.cache_resource(max_entries=128, show_spinner=False)
def _read(
    path: str, version: int, name: str, arguments: tuple[Any, ...], _function: Callable[..., Any]
) -> Any:
    return _function(store(), *arguments)


@st.cache_resource(max_entries=128, show_spinner=False)
def _completions(
    path: str,
    version: int,
    run: str,
    split: str,
    example: int,
    perturbation: str,
    step: int,
    _grades: Sequence[Path],
) -> pd.DataFrame:
    return graded_completions.read_graded_completions(
        store(), run, split, example, perturbation, step, _grades
    )


def cache_key() -> tuple[str, int]:
    """The key of every cached read: which store, at which version."""
    home = store()
    return str(home.path), home.version()


def read(function: Callable[..., Read], *arguments: Any) -> Read:
    """What the function returns for the store and the arguments, kept until the store changes.

    All sessions share the returned object: never change it.
    """
    name = f"{function.__module__}.{function.__qualname__}"
    result: Read = _read(*cache_key(), name, arguments, function)
    return result


def task_runs(task: str, segment: Segment = "target") -> list[RunScores]:
    """The scored runs of a task, ordered as `run_scores.read_task` does."""
    return _runs(*cache_key(), task, segment)


@contextlib.contextmanager
def _page_stops_at(kind: type[PrememError]) -> Iterator[None]:
    """Show an error of this kind and stop the page."""
    try:
        yield
    except kind as error:
        st.error(error_in_words(error))
        st.stop()


def run_curves(runs: Sequence[RunScores], threshold: float, estimator: Estimator) -> list[Curve]:
    """The runs' curves; if the estimator is undefined for a run, show why and stop the page."""
    with _page_stops_at(DataError):
        return [curves.curve(run, threshold, estimator) for run in runs]


def base_models(runs: Sequence[RunScores]) -> dict[str, BaseModel]:
    """The base models of these runs, by run, without those that are not scored."""
    found = {run.run: read(read_base_model, run.run, run.segment) for run in runs}
    return {run: base for run, base in found.items() if base is not None}


def is_best(threshold: float, fit: ThresholdFit | None) -> bool:
    """Whether a threshold is the best one, up to a step of the slider."""
    return fit is not None and abs(threshold - fit.log_log_threshold) < SLIDER_STEP


def best_threshold(
    task: str,
    runs: Sequence[RunScores],
    estimator: Estimator,
    objective: Objective = "identity",
) -> ThresholdFit | None:
    """The threshold with the highest R² over these runs; None where none can be fitted."""
    return _best_threshold(FitRequest(runs_key(task, runs), estimator, objective))


def analysis(
    task: str,
    runs: Sequence[RunScores],
    estimator: Estimator,
    objective: Objective,
    threshold: float,
) -> Analysis:
    """The analysis of these runs; if the estimator is undefined for a run, show why and stop."""
    with _page_stops_at(DataError):
        return _analysis(FitRequest(runs_key(task, runs), estimator, objective), threshold)


def comparison(task: str, runs: Sequence[RunScores]) -> Comparison:
    """`predictors.compare` of these runs."""
    return _comparison(runs_key(task, runs))


def calibration(task: str, runs: Sequence[RunScores], estimator: Estimator) -> Calibration:
    """`calibration.calibrate` of these runs.

    Raises:
        DataError: no threshold can be fitted to them.
    """
    return _calibration(runs_key(task, runs), estimator)


def verdict(
    task: str,
    run: RunScores,
    estimator: Estimator,
    source: Source | None = None,
    calibration: Calibration | None = None,
) -> Verdict | str:
    """The verdict on a run, or a sentence that says why there is none.

    Args:
        source, calibration: as for `choose_threshold`.
    """
    try:
        return _verdict(runs_key(task, [run]), estimator, source, calibration)
    except DataError as error:
        return str(error)


def verdicts(task: str, runs: Sequence[RunScores]) -> list[Verdict]:
    """The verdicts on these runs with the default source, where there is one."""
    estimator = run_scores.default_estimator(runs)
    found = [verdict(task, run, estimator) for run in runs]
    return [one for one in found if not isinstance(one, str)]


def example_table(
    task: str, run: RunScores, threshold: float, estimator: Estimator
) -> pd.DataFrame:
    """`example_table.make_example_table`; if the estimator is undefined, show why and stop."""
    with _page_stops_at(DataError):
        return _example_table(runs_key(task, [run]), threshold, estimator)


def completions(run: str, split: str, example: int, perturbation: str, step: int) -> pd.DataFrame:
    """`read_graded_completions` of one example at one checkpoint; if grades are cut, stop."""
    with _page_stops_at(StoreError):
        grades = read(graded_completions.regraded_shards, run)
    return _completions(*cache_key(), run, split, example, perturbation, step, grades)


def similar_questions(
    task: str, example: int, among: Sequence[int] | pd.Index, n: int = 5
) -> pd.Series:
    """The examples among these with the most similar questions: example number → cosine."""
    vectors, numbers = _vectors(*cache_key(), task)
    if vectors is None or example not in numbers:
        return pd.Series(dtype=float)
    cosines = (vectors @ vectors[numbers.get_loc(example)].T).toarray().ravel()
    others = numbers.isin(among) & (numbers != example)
    return pd.Series(cosines, numbers)[others].nlargest(n)


def task_threshold(
    task: str, runs: Sequence[RunScores], estimator: Estimator
) -> task_thresholds.TaskThreshold:
    """`task_threshold.task_threshold`; where there is nothing to choose by, the paper's."""
    if runs:
        with contextlib.suppress(DataError):
            return _task_threshold(runs_key(task, runs), estimator)
    return task_thresholds.TaskThreshold(PAPER_GSM8K, "given", "It is the paper's for GSM8K.")


def plan_threshold(
    task: str, segment: Segment = "target", plan: Plan = "lazy"
) -> tuple[float, str]:
    """The default threshold of a sampling plan for a task, and its source as a sentence."""
    runs = read(read_runs)
    is_scored = (runs[runs["task"] == task]["scored"] > 0).any()
    scored = task_runs(task, segment) if is_scored else []
    chosen = task_threshold(task, scored, "lu" if plan == "last" else "plain")
    return round(chosen.log_log_threshold, 3), chosen.why


def best_checkpoint(shown: Sequence[Curve]) -> tuple[Curve, int] | None:
    """The curve and index of the checkpoint with the highest PM; None where no PM is known."""
    checkpoints = [(curve, c) for curve in shown for c in np.flatnonzero(~np.isnan(curve.premem))]
    return max(
        checkpoints, key=lambda checkpoint: checkpoint[0].premem[checkpoint[1]], default=None
    )
