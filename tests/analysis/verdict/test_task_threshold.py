"""One threshold for the runs of a task, from the best evidence there is."""

from dataclasses import replace

import numpy as np
import pytest

from premem_core.analysis import curves
from premem_core.analysis.run_scores import RunScores
from premem_core.analysis.verdict.task_threshold import given_threshold, task_threshold
from premem_core.analysis.verdict.threshold import choose_threshold
from premem_core.errors import UsageError
from tests.helpers import simulated


@pytest.fixture(scope="module")
def runs() -> list[RunScores]:
    return simulated.study(3, seed=3)[0]


@pytest.fixture(scope="module")
def untested(runs) -> list[RunScores]:
    return [
        replace(run, test_examples=np.empty(0, int), test_accuracy=np.empty((len(run.steps), 0)))
        for run in runs
    ]


def test_runs_with_a_test_set_give_the_threshold_that_fits_them(runs, untested):
    found = task_threshold("t", [*runs, untested[0]])
    assert found.log_log_threshold == curves.best_threshold(runs).log_log_threshold
    assert found.source == "other_runs"
    assert "the 3 runs of the task that have a test set" in found.why
    assert found.in_words().endswith("fitted to runs with a test set")


def test_without_test_sets_it_is_that_of_the_plan_or_of_the_runs_themselves(untested):
    planned = [replace(run, planned_threshold=-2.1) for run in untested]
    assert task_threshold("t", planned).log_log_threshold == -2.1
    one = task_threshold("t", untested[:1])
    own = choose_threshold("t", untested[0], [untested[0]])
    assert (one.log_log_threshold, one.source, one.why) == (
        own.log_log_threshold, "this_run", own.why,
    )  # fmt: skip
    all_runs = task_threshold("t", untested)
    each = [choose_threshold("t", run, [run]).log_log_threshold for run in untested]
    assert all_runs.log_log_threshold == pytest.approx(np.median(each))
    assert "the median of those of 3 runs" in all_runs.why


def test_a_threshold_that_is_no_number_is_refused():
    assert given_threshold(-2.0).source == "given"
    with pytest.raises(UsageError):
        given_threshold(float("nan"))
