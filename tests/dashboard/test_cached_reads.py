"""Cached reads: kept while the store stays as it is, and never those of another store."""

import numpy as np
import pytest

from premem_core.analysis import curves
from premem_core.analysis.verdict.threshold import choose_threshold
from premem_core.dashboard import cached_reads
from premem_core.errors import DataError
from premem_core.store.database import Store
from premem_core.store.examples import read_task_examples
from premem_core.store.runs import read_runs, set_checkpoint_state
from tests.helpers import planned


@pytest.fixture
def show(monkeypatch):
    """Makes the dashboard show another store."""

    def show(folder) -> None:
        monkeypatch.setenv("PREMEM_STORE", str(folder))
        cached_reads.store.clear()

    yield show
    cached_reads.store.clear()


def test_what_was_read_is_kept_until_the_store_changes(tmp_path, show):
    home = planned.store(tmp_path, "full")
    show(tmp_path)
    runs = cached_reads.read(read_runs)
    scores = cached_reads.task_runs("toy")
    assert cached_reads.read(read_runs) is runs
    assert cached_reads.task_runs("toy") is scores
    set_checkpoint_state(home, "slow", 30, "failed", "a reason")
    assert cached_reads.read(read_runs)["failed"].sum() == 1
    assert [len(run.steps) for run in cached_reads.task_runs("toy")] == [2, 3]


def test_two_stores_of_the_same_version_and_names_are_not_mixed_up(stores, show):
    drawn: dict[str, int] = {}
    for plan in ("full", "lazy", "full"):
        show(stores / plan)
        samples = sum(int(run.counts.samples.sum()) for run in cached_reads.task_runs("toy"))
        assert drawn.setdefault(plan, samples) == samples
        assert cached_reads.cache_key() == (str(stores / plan), Store(stores / plan).version())
    assert drawn["lazy"] < drawn["full"]


def test_reads_with_other_arguments_are_kept_apart(stores, show):
    show(stores / "full")
    train, test = (cached_reads.read(read_task_examples, "toy", s) for s in ("train", "test"))
    assert train["question"][0].startswith("train")
    assert test["question"][0].startswith("test")
    assert cached_reads.read(read_task_examples, "toy", "train") is train


def test_the_threshold_is_the_best_of_the_runs_or_none_where_none_can_be_fitted(stores, show):
    show(stores / "full")
    runs = cached_reads.task_runs("toy")
    best = cached_reads.best_threshold("toy", runs, "plain")
    assert best == curves.best_threshold(runs)
    threshold, source = cached_reads.plan_threshold("toy")
    assert threshold == round(best.log_log_threshold, 3)
    assert "fitted to the 2 runs" in source
    assert cached_reads.is_best(best.log_log_threshold + 0.009, best)
    assert not cached_reads.is_best(best.log_log_threshold + 0.011, best)
    show(stores / "final")
    runs = cached_reads.task_runs("toy")
    assert cached_reads.best_threshold("toy", runs, "plain") is None
    threshold, source = cached_reads.plan_threshold("toy")
    own = [choose_threshold("toy", run, [run]).log_log_threshold for run in runs]
    assert threshold == round(np.median(own), 3)
    assert "median of those of 2 runs" in source
    assert not cached_reads.is_best(-2.0, None)
    with pytest.raises(DataError):
        cached_reads.calibration("toy", runs, "plain")


def test_the_best_checkpoint_is_that_of_the_highest_pm_that_is_known(stores, show):
    show(stores / "final")
    lines = cached_reads.run_curves(cached_reads.task_runs("toy"), planned.T, "plain")
    line, c = cached_reads.best_checkpoint(lines)
    assert line.premem[c] == np.nanmax([line.premem for line in lines])
    unknown = [line for line in lines if np.isnan(line.premem).all()]
    assert cached_reads.best_checkpoint(unknown) is None


def test_similar_questions_are_the_nearest_others(stores, show):
    show(stores / "full")
    texts = cached_reads.read(read_task_examples, "toy", "train").set_index("example")
    near = cached_reads.similar_questions("toy", int(texts.index[0]), texts.index[:20], n=3)
    assert len(near) == 3
    assert set(near.index) <= set(texts.index[:20])
    assert texts.index[0] not in near.index
    assert near.is_monotonic_decreasing
    assert cached_reads.similar_questions("toy", 10**6, texts.index).empty
