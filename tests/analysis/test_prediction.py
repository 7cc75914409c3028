import dataclasses
import json

import numpy as np
import pytest

from premem_core.analysis import curves, leave_one_out, prediction
from premem_core.analysis.calibration import Calibration, calibrate
from premem_core.errors import DataError, UsageError
from tests.helpers import simulated

SIMULATIONS = 200


@pytest.fixture(scope="module")
def runs():
    return simulated.study(6, seed=1)[0]


@pytest.fixture(scope="module")
def calibration(runs):
    return calibrate("simulated", runs[:-1])


def test_ninety_percent_intervals_hold_the_true_accuracy_of_a_new_run_nine_times_in_ten():
    inside = []
    for seed in range(SIMULATIONS):
        runs, truths = simulated.study(11, seed)
        rows = prediction.predict(runs[-1], calibrate("simulated", runs[:-1]))
        inside.append((rows["low"] <= truths[-1]) & (truths[-1] <= rows["high"]))
    coverage = np.mean(inside)
    print(f"\n90 % intervals hold the truth in {coverage:.1%} of {SIMULATIONS} simulations")
    assert 0.85 <= coverage <= 0.95


def test_a_checkpoint_to_ship_beats_the_next_as_often_as_is_said():
    said, won = [], []
    for seed in range(SIMULATIONS):
        runs, truths = simulated.study(11, seed)
        choice = prediction.choose(runs[-1], calibrate("simulated", runs[:-1]))
        truth = dict(zip(runs[-1].steps.tolist(), truths[-1], strict=True))
        said.append(choice.confidence)
        won.append((1 + np.sign(truth[choice.step] - truth[choice.next_step])) / 2)
    print(f"\nsaid {np.mean(said):.2f}, won {np.mean(won):.2f}")
    assert np.mean(said) == pytest.approx(np.mean(won), abs=0.07)


def test_the_calibration_finds_the_threshold_that_the_data_were_made_with():
    found = [
        curves.best_threshold(simulated.study(10, seed, samples=50)[0]).log_log_threshold
        for seed in range(20)
    ]
    assert np.median(np.abs(np.array(found) - simulated.T)) < 0.05


def test_with_few_samples_the_jackknife_finds_a_threshold_nearer_to_the_truth():
    apart = {"plain": [], "jackknife": []}
    for seed in range(10):
        runs, _ = simulated.study(10, seed)
        for estimator, distances in apart.items():
            t = curves.best_threshold(runs, estimator).log_log_threshold
            distances.append(abs(t - simulated.T))
    assert np.mean(apart["jackknife"]) < np.mean(apart["plain"])


def test_a_left_out_run_is_predicted_with_the_threshold_of_the_others(runs):
    of_runs = curves.threshold_steps(runs)
    rows = leave_one_out.predict_left_out(runs, [run.run for run in runs], of_runs, "plain")
    for n, run in enumerate(runs):
        others = curves.best_threshold([*runs[:n], *runs[n + 1 :]])
        own = rows[rows["run"] == run.run]
        assert own["log_log_threshold"].tolist() == pytest.approx([others.log_log_threshold] * 5)
        line = curves.curve(run, others.log_log_threshold)
        assert own["predicted"].to_numpy() == pytest.approx(line.premem)
    residual = rows["test_accuracy"] - rows["predicted"]
    assert leave_one_out.prediction_errors(rows).mae == pytest.approx(residual.abs().mean())
    assert leave_one_out.prediction_errors(rows).rmse == pytest.approx(
        np.sqrt((residual**2).mean())
    )


def test_one_run_gives_a_number_but_no_interval_and_says_why(runs):
    alone = calibrate("simulated", runs[:1])
    assert alone.residual_sd is None
    assert any("There is one run only" in sentence for sentence in alone.warnings)
    rows = prediction.predict(runs[1], alone)
    assert rows["low"].isna().all()
    assert rows["predicted"].notna().all()
    choice = prediction.choose(runs[1], alone)
    assert choice.confidence is None
    assert "is to be better is not known" in choice.in_words(rows)


def test_runs_without_a_test_set_calibrate_nothing(runs):
    untested = [
        dataclasses.replace(run, test_accuracy=np.empty((5, 0)), test_examples=np.empty(0, int))
        for run in runs
    ]
    with pytest.raises(DataError, match="at least two checkpoints"):
        calibrate("simulated", untested)


def test_a_calibration_is_the_same_after_export_and_import(runs, calibration, tmp_path):
    file = tmp_path / "calibration.json"
    file.write_text(calibration.to_json())
    again = Calibration.read(file)
    assert again == calibration
    assert prediction.predict(runs[-1], again).equals(prediction.predict(runs[-1], calibration))


@pytest.mark.parametrize(
    "change",
    [
        {"format": 99},
        {"estimator": "best"},
        {"log_log_threshold": "low"},
        {"log_log_threshold": None},
        {"plateau": [1]},
        {"residual_sd": "0.1"},
        {"residual_sd": -1},
        {"log_log_threshold": float("inf")},
        {"residual_sd": 10**400},
        {"premem_range": [0.9, 0.1]},
        {"task": None},
        {"warnings": "abc"},
        {"runs": []},
        {"runs": 5},
        {"surplus": 1},
    ],
    ids=str,
)
def test_what_is_no_calibration_is_refused_in_one_sentence(calibration, change):
    text = json.dumps(json.loads(calibration.to_json()) | change)
    with pytest.raises(UsageError, match=r"mine\.json is no calibration that this version reads"):
        Calibration.from_json(text, "mine.json")


@pytest.mark.parametrize("text", ["", "[]", "{}", "null", '{"format": 1}'])
def test_any_other_file_is_refused_too(text):
    with pytest.raises(UsageError, match="is no calibration"):
        Calibration.from_json(text)


def test_the_checkpoint_to_ship_is_the_highest_and_its_lead_decides_the_confidence(
    runs, calibration
):
    leads = [(run, prediction.choose(run, calibration)) for run in runs]
    run, choice = max(leads, key=lambda lead: lead[1].predicted - lead[1].next_predicted)
    rows = prediction.predict(run, calibration).sort_values("predicted", ascending=False)
    assert [choice.step, choice.next_step] == rows["step"].tolist()[:2]
    assert 0.5 < choice.confidence < 1
    unsure = dataclasses.replace(calibration, difference_sd=10.0)
    assert prediction.choose(run, unsure).confidence == pytest.approx(0.5, abs=0.01)
    surer = dataclasses.replace(calibration, difference_sd=0.0)
    assert prediction.choose(run, surer).confidence >= choice.confidence
