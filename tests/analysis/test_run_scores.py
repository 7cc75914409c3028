"""Run scores: what the store holds of a run, as arrays."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from premem_core.analysis import run_scores
from premem_core.analysis.replay import follow_plan
from premem_core.errors import UsageError
from premem_core.metrics.sample_counts import SampleCounts
from premem_core.metrics.sampling_plan import Share
from premem_core.records import Checkpoint, Example, RunRecord
from premem_core.store.database import Store
from premem_core.store.runs import add_scored_runs, set_checkpoint_state
from tests.helpers import planned, simulated


def frame(step: int, ids: list[str], correct: list[int], split: str = "train") -> pd.DataFrame:
    return pd.DataFrame(
        {"step": step, "split": split, "perturbation": "", "id": ids, "samples": 4,
         "correct": correct, "unparsed": 0, "nll": [0.1 * n for n in correct], "tokens": 9}
    )  # fmt: skip


@pytest.fixture
def store(tmp_path) -> Store:
    """A run whose checkpoints were scored on different training examples, and one untested."""
    store = Store(tmp_path)
    points = [Checkpoint(Path(), step, step / 10) for step in (20, 10, 30)]
    frames = [
        frame(20, ["a", "b"], [4, 1]),
        frame(10, ["b", "c"], [2, 3]),
        frame(20, ["x", "y"], [1, 2], "test"),
        frame(10, ["x"], [4], "test"),
        frame(30, ["x"], [4], "test"),  # a checkpoint without training scores
    ]
    runs = [
        (RunRecord("late", "t", "published", 1e-3, 2, 8, 5, "math"), points, pd.concat(frames)),
        (RunRecord("early", "t", "published", 1e-4, 2, 8, 5), points[:1], frame(20, ["a"], [1])),
        (RunRecord("unknown", "t", "published", None, None, None, 5), points[:1],
         frame(20, ["a"], [1])),
    ]  # fmt: skip
    splits = (("train", "abc"), ("test", "xy"))
    examples = [("t", split, [Example(i, i, "s", "a") for i in ids]) for split, ids in splits]
    add_scored_runs(store, runs, examples)
    return store


def test_checkpoints_are_rows_in_training_order_and_examples_columns_by_number(store):
    [run] = [run for run in run_scores.read_task(store, "t") if run.run == "late"]
    assert run.steps.tolist() == [10, 20]
    assert run.epoch.tolist() == [1, 2]
    assert run.examples.tolist() == [1, 2, 3]
    assert run.counts.samples.tolist() == [[0, 4, 4], [4, 4, 0]]
    assert run.counts.correct.tolist() == [[0, 2, 3], [4, 1, 0]]
    np.testing.assert_array_equal(run.nll, [[np.nan, 0.2, 0.1 * 3], [0.4, 0.1, np.nan]])
    np.testing.assert_array_equal(run.test_accuracy, [[1, np.nan], [0.25, 0.5]])
    assert (run.tested, run.samples, run.grader) == (True, 4, "math")
    assert (run.learning_rate, run.epochs, run.trained_on) == (1e-3, 2, 5)


def test_runs_come_by_learning_rate_and_those_without_one_last(store):
    runs = run_scores.read_task(store, "t")
    assert [run.run for run in runs] == ["early", "late", "unknown"]
    assert not runs[0].tested
    assert runs[0].test_accuracy.shape == (1, 0)


def test_checkpoints_that_wait_or_failed_are_counted_and_not_read(store):
    set_checkpoint_state(store, "late", 10, "failed", "out of memory")
    set_checkpoint_state(store, "late", 30, "waiting")
    [run] = [run for run in run_scores.read_task(store, "t") if run.run == "late"]
    assert (run.steps.tolist(), run.failed, run.waiting) == ([20], 1, 1)
    set_checkpoint_state(store, "early", 20, "waiting")
    assert "early" not in [run.run for run in run_scores.read_task(store, "t")]


def test_a_task_without_a_scored_run_is_refused_with_the_tasks_that_there_are(store, tmp_path):
    with pytest.raises(UsageError, match=r"'sums' has no scored run .*this store are: 't'"):
        run_scores.read_task(store, "sums")
    with pytest.raises(UsageError, match="none yet"):
        run_scores.read_task(Store(tmp_path / "empty"), "sums")


def test_samples_that_a_plan_left_out_are_wanted_and_make_the_mean_unknown(stores):
    [lazy, *_] = run_scores.read_task(Store(stores / "lazy"), "toy")
    assert lazy.samples == planned.K
    assert (lazy.counts.wanted == planned.K).all()
    partial = (lazy.counts.samples < planned.K).any(axis=1)
    mean, half = lazy.train_interval
    assert partial.any()
    np.testing.assert_array_equal(np.isnan(mean), partial)
    np.testing.assert_array_equal(np.isnan(half), partial)
    assert not np.isnan(lazy.test_interval).any()


@pytest.fixture(scope="module")
def runs():
    return simulated.study(3, seed=1)[0]


def test_a_label_is_learning_rate_epochs_and_size_or_the_name_where_that_says_too_little(runs):
    named = [
        replace(runs[0], run="a", learning_rate=1e-3, epochs=1, trained_on=1),
        replace(runs[0], run="b", learning_rate=1e-3, epochs=2.5, trained_on=1000),
        replace(runs[0], run="c", learning_rate=np.nan, epochs=1, trained_on=5),
        replace(runs[0], run="d", learning_rate=2e-3, epochs=2, trained_on=5),
        replace(runs[0], run="e", learning_rate=2e-3, epochs=2, trained_on=5),
    ]
    assert run_scores.run_labels(named) == {
        "a": "lr 0.001 · 1 epoch · 1 example",
        "b": "lr 0.001 · 2.5 epochs · 1,000 examples",
        "c": "c",
        "d": "d",
        "e": "e",
    }


def test_the_number_of_samples_is_said_of_all_runs(runs):
    [five, fifty, one] = (simulated.study(1, 1, samples)[0][0] for samples in (5, 50, 1))
    assert run_scores.samples_in_words([five]) == "5 samples per training question"
    assert run_scores.samples_in_words([one]) == "1 sample per training question"
    shown = np.arange(len(one.examples)) < 40  # as the plan last draws a share
    none = np.where(shown, one.counts.samples, 0)
    share = replace(one, counts=SampleCounts.of(none, np.minimum(one.counts.correct, none), 1))
    assert run_scores.samples_in_words([share]) == (
        f"1 sample each of 40 of {len(one.examples):,} training questions"
    )
    assert run_scores.samples_in_words([five, fifty]) == (
        "5 to 50 samples per training question, depending on the run"
    )


def test_an_order_is_one_of_learning_rates_only_where_all_are_known_and_differ(runs):
    by_rate = "the runs by learning rate, low to high"
    assert run_scores.order_in_words(runs) == by_rate
    alike = [replace(run, learning_rate=1e-3) for run in runs]
    unknown = [replace(runs[0], learning_rate=np.nan), *runs[1:]]
    for others in (alike, unknown, runs[:1]):
        assert run_scores.order_in_words(others) == "the runs in their order"


@pytest.mark.parametrize("checkpoints", [1, 2])
@pytest.mark.parametrize(
    ("plan", "share", "found"),
    [("last", 0.5, "lu"), ("lazy", 1.0, "plain"), ("final", 1.0, "plain"), ("full", 1.0, "plain")],
)
def test_a_share_is_read_by_lu_also_before_anything_is_forgotten(checkpoints, plan, share, found):
    whole, _ = simulated.run("run", np.random.default_rng(0), np.full(simulated.TEST, 0.5))
    nll = whole.nll[:checkpoints]
    outcomes = np.zeros((simulated.SAMPLES, *nll.shape), dtype=np.int64)  # nothing is right
    counts = follow_plan(plan, simulated.T, nll, outcomes, Share(share))
    assert run_scores.default_estimator([replace(whole, counts=counts, nll=nll)]) == found
