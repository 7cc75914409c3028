"""Calibrations: the threshold that they find, what a file holds, and what is no calibration."""

import dataclasses
import json

import numpy as np
import pytest

from premem_core.analysis import curves
from premem_core.analysis.studies import prediction
from premem_core.analysis.studies.calibration import Calibration, calibrate
from premem_core.analysis.studies.leave_one_out import predict_left_out
from premem_core.errors import DataError, UsageError
from premem_core.metrics.estimators import Estimator
from premem_core.metrics.sample_counts import SampleCounts
from tests.helpers import simulated


def test_the_calibration_finds_the_threshold_that_the_data_were_made_with():
    found = [
        curves.best_threshold(simulated.study(10, seed, samples=50)[0]).log_log_threshold
        for seed in range(20)
    ]
    assert np.median(np.abs(np.array(found) - simulated.T)) < 0.05


def test_with_few_samples_the_jackknife_finds_a_threshold_nearer_to_the_truth():
    apart: dict[Estimator, list[float]] = {"plain": [], "jackknife": []}
    for seed in range(10):
        runs, _ = simulated.study(10, seed)
        for estimator, distances in apart.items():
            t = curves.best_threshold(runs, estimator).log_log_threshold
            distances.append(abs(t - simulated.T))
    assert np.mean(apart["jackknife"]) < np.mean(apart["plain"])


def test_runs_without_a_test_set_calibrate_nothing(runs):
    untested = [
        dataclasses.replace(run, test_accuracy=np.empty((5, 0)), test_examples=np.empty(0, int))
        for run in runs
    ]
    with pytest.raises(DataError, match="no other run of the task 'simulated' has a test set"):
        calibrate("simulated", untested)
    with pytest.raises(DataError, match="no run has a test set and a finished scoring job; give a"):
        curves.best_threshold(untested)


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
    with pytest.raises(
        UsageError, match=r"mine\.json is not a calibration that this version of Premem can read"
    ):
        Calibration.from_json(text, "mine.json")


@pytest.mark.parametrize("text", ["", "[]", "{}", "null", '{"format": 1}'])
def test_any_other_file_is_refused_too(text):
    with pytest.raises(UsageError, match="is not a calibration"):
        Calibration.from_json(text)


def test_a_calibration_names_its_runs_its_points_and_their_range(runs, calibration):
    assert calibration.runs == tuple(run.run for run in runs[:-1])
    assert calibration.checkpoints == 25
    premem = np.concatenate(
        [curves.curve(run, calibration.log_log_threshold).premem for run in runs[:-1]]
    )
    assert calibration.premem_range == pytest.approx((premem.min(), premem.max()))
    assert calibration.plateau[0] < calibration.log_log_threshold < calibration.plateau[1]
    best = curves.best_threshold(runs[:-1])
    assert (calibration.log_log_threshold, calibration.identity_r2) == pytest.approx(
        (best.log_log_threshold, best.r2)
    )


def test_the_residual_is_what_sampling_noise_does_not_explain(runs, calibration):
    steps = curves.threshold_steps(runs[:-1])
    rows = predict_left_out(runs[:-1], range(5), steps, "plain")
    squares = (rows["test_accuracy"] - rows["predicted"]) ** 2
    assert calibration.residual_sd == pytest.approx(
        np.sqrt((squares - rows["predicted_se"] ** 2).mean())
    )
    assert 0 < calibration.residual_sd < np.sqrt(squares.mean())


def test_runs_of_one_checkpoint_have_no_difference_to_measure(runs):
    first = [
        dataclasses.replace(
            run, steps=run.steps[at], epoch=run.epoch[at], nll=run.nll[at],
            test_accuracy=run.test_accuracy[at],
            counts=SampleCounts(run.counts.samples[at], run.counts.correct[at],
                                run.counts.wanted[at]),
        )
        for n, run in enumerate(runs)
        for at in [slice(n % 5, n % 5 + 1)]
    ]  # fmt: skip
    calibration = calibrate("simulated", first)
    assert calibration.residual_sd is not None
    assert calibration.difference_sd is None


def test_a_file_that_cannot_be_read_is_one_sentence(tmp_path):
    with pytest.raises(UsageError, match=r"cannot read the calibration .*absent"):
        Calibration.read(tmp_path / "absent.json")
    (tmp_path / "picture.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UsageError, match=r"cannot read the calibration .*picture"):
        Calibration.read(tmp_path / "picture.json")
