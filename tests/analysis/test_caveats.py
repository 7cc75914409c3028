"""Sentences about what the numbers of several runs cannot show."""

from dataclasses import replace

import numpy as np
import pytest

from premem_core.analysis import curves, run_scores
from premem_core.analysis.caveats import caveats
from premem_core.metrics.thresholds import ThresholdFit
from premem_core.store.database import Store
from tests.helpers import simulated


@pytest.fixture(scope="module")
def runs():
    return simulated.study(4, seed=1)[0]


def lines(runs, t=simulated.T):
    return [curves.curve(run, t) for run in runs]


def fit(low: float, high: float, restricted: bool = False) -> ThresholdFit:
    return ThresholdFit(-2.0, -2.1, -1.9, 0.9, (low, high), restricted)


def said(sentences: list[str], words: str) -> bool:
    return any(words in sentence for sentence in sentences)


def test_runs_that_show_what_they_should_have_no_caveat(runs):
    assert caveats(lines(runs), fit(-2.3, -1.8)) == []
    assert caveats(lines(runs), None) == []


def test_one_run_says_nothing_about_another(runs):
    assert said(caveats(lines(runs[:1]), None), "There is one run only")
    assert not said(caveats(lines(runs[:2]), None), "There is one run only")


def test_few_checkpoints_and_test_accuracies_that_hardly_differ_are_said(runs):
    found = caveats(lines(runs[:1]), None)
    assert said(found, "Only 5 checkpoints have a test accuracy")
    flat = [replace(run, test_accuracy=np.full((5, 100), 0.5)) for run in runs]
    assert said(caveats(lines(flat), None), "differ by 0.0 points at most. Below 10 points")
    assert said(caveats([], None), "Only 0 checkpoints")


def test_runs_that_memorize_nothing_do_not_show_where_memorization_begins(runs):
    words = "No checkpoint has memorized more than 0.0 % of the training examples"
    assert said(caveats(lines(runs, t=-9.0), None), words)
    assert not said(caveats(lines(runs), None), "No checkpoint has memorized")


def test_runs_of_different_graders_are_not_compared_without_a_word(runs):
    alike = [replace(run, grader="gsm8k") for run in runs]
    assert caveats(lines(alike), None) == []
    mixed = [replace(runs[0], grader="paper"), *alike[1:]]
    assert said(caveats(lines(mixed), None), "graded by different graders (gsm8k, paper)")
    # An import does not say who graded it.
    assert caveats(lines([replace(runs[0], grader=None), *alike[1:]]), None) == []


@pytest.mark.parametrize(
    ("plateau", "ends"),
    [
        ((-3.0, -1.5), "from t = -3.00 to -1.50"),
        ((-3.0, np.inf), "above t = -3.00"),
        ((-np.inf, -1.5), "below t = -1.50"),
        ((-np.inf, np.inf), "at every threshold"),
    ],
)
def test_a_threshold_that_the_data_hardly_determine_is_said(runs, plateau, ends):
    found = caveats(lines(runs), fit(*plateau))
    assert said(found, f"{ends}: the data hardly determine the threshold")


def test_what_a_plan_left_out_is_said(runs, stores):
    assert said(caveats(lines(runs), fit(-2.3, -1.8, restricted=True)), "left samples out")
    lazy = run_scores.read_task(Store(stores / "lazy"), "toy")
    assert said(caveats(lines(lazy, -3.3), None), "accuracy is not known at")
