"""Labels: what a few labelled test questions add to a verdict."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from premem_core.analysis.run_scores import RunScores
from premem_core.analysis.studies.calibration import calibrate
from premem_core.analysis.verdict.threshold import choose_threshold
from premem_core.analysis.verdict.verdict import TYPICAL_DIFFERENCE, Verdict, make_verdict
from premem_core.metrics import few_labels
from tests.helpers import simulated


@pytest.fixture(scope="module")
def runs() -> list[RunScores]:
    return simulated.study(6, seed=3)[0]


def with_labels(run: RunScores, n: int) -> RunScores:
    """The run with its first n test questions only."""
    return replace(run, test_examples=run.test_examples[:n], test_accuracy=run.test_accuracy[:, :n])


def verdict_of(run: RunScores, **source) -> Verdict:
    return make_verdict("t", run, choose_threshold("t", run, [run], **source))


def test_labels_and_prediction_are_joined_at_every_checkpoint(runs):
    verdict = verdict_of(with_labels(runs[0], 100))
    rows = verdict.checkpoints
    np.testing.assert_allclose(rows["labelled"], rows["test_accuracy"])
    assert not rows["disagree"].any()
    between = np.sort(rows[["predicted", "labelled"]].to_numpy(), axis=1)
    assert ((between[:, 0] <= rows["joined"]) & (rows["joined"] <= between[:, 1])).all()
    width = rows["joined_high"] - rows["joined_low"]
    assert (width < 2 * rows["labelled_half"]).all()
    assert (width < (rows["high"] - rows["low"]) + 1e-9).all()


def test_the_checkpoint_to_ship_is_the_best_by_labels_and_prediction(runs):
    verdict = verdict_of(with_labels(runs[0], 100))
    joined = verdict.checkpoints.set_index("step")["joined"]
    assert verdict.ship.step == verdict.decision.step == joined.idxmax()
    assert verdict.ship.predicted == joined.max()
    assert verdict.ship.confidence == verdict.decision.confidence > 0.5
    ship, labels, *_ = verdict.in_words()
    assert ship.startswith(
        f"Ship step {verdict.ship.step}: expect {100 * joined.max():.1f} % (typically "
    )
    assert "with 100 labelled test questions) on new problems" in ship
    assert f"By its 100 labelled test questions alone, step {verdict.ship.step} has " in labels
    assert "; predicted without them is " in labels


def test_labels_decide_against_the_prediction(runs):
    """Step 2 is the best by 400 labels, whatever its pre-memorization accuracy."""
    run = with_labels(runs[0], 400)
    tests = np.tile(np.arange(400) < 40, (len(run.steps), 1)).astype(float)
    tests[1] = np.arange(400) < 240
    verdict = verdict_of(replace(run, test_accuracy=tests))
    assert verdict.ship.step == run.steps[1]
    assert f"step {run.steps[1]} is 50.0 points better than" in verdict.in_words()[1]
    assert verdict.ship.confidence > 0.99


def test_without_an_error_of_the_prediction_the_labels_count_alone(runs):
    verdict = verdict_of(with_labels(runs[0], 100), given=-2.3)
    rows = verdict.checkpoints
    np.testing.assert_array_equal(rows["joined"], rows["labelled"])
    first, second = (
        list(runs[0].steps).index(s) for s in (verdict.decision.step, verdict.decision.next_step)
    )
    each = (runs[0].test_accuracy[first] - runs[0].test_accuracy[second])[:100]
    assert verdict.decision.difference == pytest.approx(each.mean())


def test_labels_that_the_calibration_used_are_not_counted_twice(runs):
    calibration = calibrate("t", runs, "plain")
    threshold = choose_threshold("t", runs[0], runs, calibration=calibration)
    rows = make_verdict("t", runs[0], threshold).checkpoints
    np.testing.assert_array_equal(rows["joined"], rows["labelled"])


@pytest.mark.parametrize("labels", [0, 1, 9])
def test_with_fewer_than_ten_labels_nothing_is_joined(runs, labels):
    verdict = verdict_of(with_labels(runs[0], labels))
    assert verdict.checkpoints[["labelled", "joined", "joined_low"]].isna().all(axis=None)
    assert verdict.decision is None
    assert not any("label" in sentence for sentence in verdict.in_words())
    assert verdict.as_json()["labels"] is None


def with_solutions(run: RunScores, shift: float = 0.0) -> RunScores:
    """The run, with perplexities that go with the answers, and those of a thousand others."""
    rng = np.random.default_rng(0)
    right = run.test_accuracy
    share = right.mean(axis=1, keepdims=True)
    alike = rng.random((len(run.steps), 1000)) < share
    nll = np.concatenate([1.2 - right, 1.2 - alike + shift], axis=1)
    nll = np.clip(nll + rng.normal(0, 0.2, nll.shape), 0.01, None)
    order = rng.permutation(nll.shape[1])  # the store's numbers mix test and held-out solutions
    numbers = np.concatenate([run.test_examples, np.arange(5000, 6000)])
    return replace(run, unseen_nll=nll[:, order], unseen_examples=numbers[order])


def test_unseen_solutions_make_the_labelled_mean_more_certain(runs):
    run = with_solutions(with_labels(runs[0], 100))
    last = verdict_of(run, given=-2.3).checkpoints.iloc[-1]
    chances = pd.Series(np.exp(-run.unseen_nll[-1]), run.unseen_examples)
    powered = few_labels.prediction_powered_mean(
        run.test_accuracy[-1],
        chances[run.test_examples].to_numpy(),
        chances.drop(run.test_examples).to_numpy(),
    )
    assert (last["labels"], last["unseen_used"]) == (100, 1000)
    assert (last["labelled"], last["labelled_half"]) == pytest.approx((powered.value, powered.half))
    assert powered.error < 0.9 * few_labels.labelled_mean(run.test_accuracy[-1]).error


def test_unseen_solutions_of_another_kind_are_left_aside(runs):
    run = with_solutions(with_labels(runs[0], 100), shift=0.4)
    rows = verdict_of(run, given=-2.3).checkpoints
    assert (rows["unseen_used"] == 0).all()
    np.testing.assert_allclose(rows["labelled"], rows["test_accuracy"])


def test_how_many_labels_would_decide_is_said_to_two_digits(runs):
    decision = verdict_of(with_labels(runs[0], 100)).decision
    unsure = replace(decision, difference=0.01, error=0.02, needed=316)
    assert "about 320 labelled questions in all would give" in unsure.in_words()
    assert "too close for labels" in replace(unsure, needed=None).in_words()
    assert decision.error < 1.1 * TYPICAL_DIFFERENCE


def test_labels_that_contradict_the_prediction_count_alone(runs):
    run = with_labels(runs[0], 400)
    assert "count alone" not in verdict_of(run).in_words()[1]
    rng = np.random.default_rng(1)
    wrong = replace(run, test_accuracy=(rng.random(run.test_accuracy.shape) < 0.97).astype(float))
    verdict = verdict_of(wrong)
    assert "disagree by more than their errors allow" in verdict.in_words()[1]
    apart = verdict.checkpoints[verdict.checkpoints["disagree"]]
    np.testing.assert_array_equal(apart["joined"], apart["labelled"])
