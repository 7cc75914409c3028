"""Predictions and their intervals, on runs simulated from a known threshold."""

import dataclasses

import numpy as np
import pytest

from premem_core.analysis.studies import prediction
from premem_core.analysis.studies.calibration import calibrate
from premem_core.errors import DataError
from tests.helpers import simulated

SIMULATIONS = 200


def choose(run, calibration):
    return prediction.choose_at(
        run,
        calibration.threshold_of(run),
        calibration.estimator,
        calibration.difference_sd,
        len(calibration.runs) - 1,
    )


@pytest.fixture(scope="module")
def simulations():
    """Of each simulated study a new run, its true test accuracies, and the others' calibration."""
    made = [simulated.study(11, seed) for seed in range(SIMULATIONS)]
    return [(runs[-1], truths[-1], calibrate("simulated", runs[:-1])) for runs, truths in made]


@pytest.mark.slow
def test_ninety_percent_intervals_hold_the_true_accuracy_of_a_new_run_nine_times_in_ten(
    simulations,
):
    inside = []
    for run, truth, of_others in simulations:
        rows = prediction.predict(run, of_others)
        inside.append((rows["low"] <= truth) & (truth <= rows["high"]))
    coverage = np.mean(inside)
    print(f"\n90 % intervals hold the truth in {coverage:.1%} of {SIMULATIONS} simulations")
    assert 0.85 <= coverage <= 0.95


@pytest.mark.slow
def test_a_checkpoint_to_ship_beats_the_next_as_often_as_is_said(simulations):
    said, won = [], []
    for run, truth, of_others in simulations:
        choice = choose(run, of_others)
        at_step = dict(zip(run.steps.tolist(), truth, strict=True))
        said.append(choice.confidence)
        won.append((1 + np.sign(at_step[choice.step] - at_step[choice.next_step])) / 2)
    print(f"\nsaid {np.mean(said):.2f}, won {np.mean(won):.2f}")
    assert np.mean(said) == pytest.approx(np.mean(won), abs=0.07)


def test_one_run_gives_a_number_but_no_interval_and_says_why(runs):
    alone = calibrate("simulated", runs[:1])
    assert alone.residual_sd is None
    assert any("There is one run only" in sentence for sentence in alone.warnings)
    rows = prediction.predict(runs[1], alone)
    assert rows["low"].isna().all()
    assert rows["predicted"].notna().all()
    choice = choose(runs[1], alone)
    assert choice.confidence is None
    assert "is to be better is not known" in choice.lead_in_words()


def test_a_checkpoint_without_a_prediction_is_told_of_with_what_to_do(runs, calibration):
    known = prediction.predict(runs[0], calibration)
    assert not any("no prediction" in note for note in prediction.notes("sums", known, calibration))
    rows = known.assign(predicted=known["predicted"].where(known["step"] > known["step"].min()))
    [note] = [n for n in prediction.notes("sums", rows, calibration) if "no prediction" in n]
    assert note.startswith(f"1 of {len(rows)} checkpoints have no prediction")
    assert "calibrate with --estimator lu" in note


@pytest.mark.parametrize("others", ["none", "without a test set", "unfinished"])
def test_of_the_only_tested_run_it_is_said_that_another_one_is_needed(others, runs):
    untested = dataclasses.replace(
        runs[1], test_examples=runs[1].test_examples[:0], test_accuracy=runs[1].test_accuracy[:, :0]
    )
    unfinished = dataclasses.replace(runs[1], waiting=1)
    there = {"none": [], "without a test set": [untested], "unfinished": [unfinished]}[others]
    with pytest.raises(DataError) as caught:
        calibrate("sums", there)
    assert str(caught.value) == (
        "no threshold can be fitted: no other run of the task 'sums' has a test set and a finished "
        "scoring job; score another run with a test set, or give a saved calibration.json"
    )


def test_other_runs_that_give_no_threshold_are_named(runs):
    flat = dataclasses.replace(runs[1], test_accuracy=np.ones_like(runs[1].test_accuracy))
    needed = "at least two checkpoints with different test accuracies are needed"
    with pytest.raises(DataError, match=rf"fitted to '{flat.run}': {needed}; score another run"):
        calibrate("sums", [flat])


def test_the_checkpoint_to_ship_is_the_highest_and_its_lead_decides_the_confidence(
    runs, calibration
):
    leads = [(run, choose(run, calibration)) for run in runs]
    run, choice = max(leads, key=lambda lead: lead[1].predicted - lead[1].next_predicted)
    rows = prediction.predict(run, calibration).sort_values("predicted", ascending=False)
    assert [choice.step, choice.next_step] == rows["step"].tolist()[:2]
    assert 0.5 < choice.confidence < 1
    unsure = dataclasses.replace(calibration, difference_sd=10.0)
    assert choose(run, unsure).confidence == pytest.approx(0.5, abs=0.01)
    surer = dataclasses.replace(calibration, difference_sd=0.0)
    assert choose(run, surer).confidence >= choice.confidence


def test_a_checkpoint_is_chosen_of_a_run_whose_samples_are_a_share(runs, calibration):
    by_lu = dataclasses.replace(calibration, estimator="lu")
    samples, correct = runs[0].counts.samples.copy(), runs[0].counts.correct.copy()
    samples[:, ::2], correct[:, ::2] = 0, 0
    counts = dataclasses.replace(runs[0].counts, samples=samples, correct=correct)
    run = dataclasses.replace(runs[0], counts=counts)
    rows = prediction.predict(run, by_lu).set_index("step")["predicted"]
    choice = choose(run, by_lu)
    assert choice.step == rows.idxmax()
    assert 0.5 <= choice.confidence < 1
