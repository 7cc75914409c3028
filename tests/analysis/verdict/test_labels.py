"""Labels: what a few labelled test questions add to a verdict."""

from dataclasses import replace

import numpy as np
import pytest

from premem_core.analysis.run_scores import RunScores
from premem_core.analysis.verdict.labels import labelled_accuracy
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
    between = np.sort(rows[["predicted", "labelled"]].to_numpy(), axis=1)
    assert ((between[:, 0] <= rows["joined"]) & (rows["joined"] <= between[:, 1])).all()
    width = rows["joined_high"] - rows["joined_low"]
    assert (width < 2 * rows["labelled_half"]).all()
    assert (width < (rows["high"] - rows["low"]) + 1e-9).all()
    said = verdict.in_words()[1]
    assert said.startswith(f"By its labelled test questions, step {verdict.ship.step} has ")
    assert "joined with the prediction" in said


def test_without_an_error_of_the_prediction_the_labels_count_alone(runs):
    rows = verdict_of(with_labels(runs[0], 100), given=-2.3).checkpoints
    np.testing.assert_array_equal(rows["joined"], rows["labelled"])


def test_without_labels_nothing_is_joined(runs):
    verdict = verdict_of(with_labels(runs[0], 0))
    assert verdict.checkpoints[["labelled", "joined", "joined_low"]].isna().all(axis=None)
    assert verdict.decision is None
    assert not any("label" in sentence for sentence in verdict.in_words())
    assert verdict.as_json()["labels"] is None


def test_unseen_solutions_make_the_labelled_mean_more_certain(runs):
    """Perplexities that go with the answers, of the labelled questions and of a thousand others."""
    run, rng = with_labels(runs[0], 100), np.random.default_rng(0)
    right = run.test_accuracy[-1]
    nll = np.concatenate([1.2 - right + rng.normal(0, 0.2, 100), rng.normal(0.7, 0.55, 1000)])
    nll = np.tile(np.clip(nll, 0.01, None), (len(run.steps), 1))
    order = rng.permutation(1100)  # the store's numbers mix test and held-out solutions
    numbers = np.concatenate([run.test_examples, np.arange(5000, 6000)])
    measured = replace(run, unseen_nll=nll[:, order], unseen_examples=numbers[order])
    found = labelled_accuracy(measured, len(run.steps) - 1)
    powered = few_labels.prediction_powered_mean(
        right, np.exp(-nll[-1, :100]), np.exp(-nll[-1, 100:])
    )
    assert (found.value, found.error) == pytest.approx((powered.value, powered.error))
    assert found.error < 0.9 * few_labels.labelled_mean(right).error


def test_the_labels_that_would_decide_between_the_two_best(runs):
    verdict = verdict_of(with_labels(runs[0], 100))
    decision = verdict.decision
    assert (decision.step, decision.next_step) == (verdict.ship.step, verdict.ship.next_step)
    run = with_labels(runs[0], 100)
    first, second = (list(run.steps).index(s) for s in (decision.step, decision.next_step))
    each = run.test_accuracy[first] - run.test_accuracy[second]
    assert decision.labels == 100
    ours = verdict.ship.predicted - verdict.ship.next_predicted
    between = sorted([ours, each.mean()])
    assert between[0] <= decision.difference <= between[1]
    assert decision.error < min(each.std(ddof=1) / 10, 1.1 * TYPICAL_DIFFERENCE)
    open_ = replace(decision, difference=0.01, error=0.02, needed=316)
    assert "About 220 more labelled questions would decide" in open_.in_words()
    assert "too close for labels" in replace(open_, needed=None).in_words()


def test_a_difference_that_the_labels_show_is_decided(runs):
    run = with_labels(runs[0], 400)
    best = verdict_of(run).ship
    first, second = (list(run.steps).index(s) for s in (best.step, best.next_step))
    tests = run.test_accuracy.copy()
    tests[first], tests[second] = np.arange(400) < 100, np.arange(400) < 300
    said = verdict_of(replace(run, test_accuracy=tests)).decision.in_words()
    assert f"step {best.next_step} is better than step {best.step}" in said


def test_labels_that_contradict_the_prediction_are_named(runs):
    run = with_labels(runs[0], 400)
    assert "trust the labels" not in verdict_of(run).in_words()[1]
    wrong = replace(run, test_accuracy=np.zeros_like(run.test_accuracy))
    assert "disagree by more than their errors allow" in verdict_of(wrong).in_words()[1]
