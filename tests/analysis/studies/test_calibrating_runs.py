"""Which runs a threshold and R² rest on: small and unfinished runs do not move them."""

from dataclasses import replace

import numpy as np
import pytest

from premem_core.analysis import curves, run_scores
from premem_core.analysis.studies import prediction, study
from premem_core.analysis.studies.calibrating_runs import (
    calibrating_runs,
    run_weights,
    what_counts_less,
)
from premem_core.analysis.studies.calibration import calibrate
from premem_core.errors import DataError
from premem_core.importers.published_arrays import import_published
from premem_core.metrics import r2
from premem_core.store.database import Store
from tests.helpers import simulated


@pytest.fixture(scope="module")
def runs():
    return simulated.study(6, seed=1)[0]


def smoke_run(run, first=0):
    """The run, tried on ten of its test problems only."""
    ten = slice(first, first + 10)
    return replace(
        run,
        run="smoke",
        test_examples=run.test_examples[ten],
        test_accuracy=run.test_accuracy[:, ten],
    )


def test_runs_of_one_size_count_alike(runs):
    assert run_weights(runs).tolist() == [1.0] * len(runs)


def test_a_run_counts_by_the_smaller_of_its_numbers_of_questions(runs):
    weights = run_weights([runs[0], smoke_run(runs[1])])
    variances = 0.03**2 + 0.25 / np.array([simulated.TRAIN, 10])
    np.testing.assert_allclose(weights, variances[0] / variances)


def test_runs_with_ten_test_problems_hardly_move_r2(runs, tmp_path):
    before = study.analyse(studied(runs, tmp_path))
    moved, moved_if_all_counted_alike = [], []
    for first in range(0, 400, 40):
        after = study.analyse(studied([*runs, smoke_run(runs[0], first)], tmp_path))
        moved.append(before.r2.identity - after.r2.identity)
        premem, tests = (after.points[c].to_numpy() for c in ("premem", "test_accuracy"))
        alike = r2.identity_r2(premem, tests)
        moved_if_all_counted_alike.append(before.r2.identity - alike)
        assert any("The run 'smoke' counts 0.07" in sentence for sentence in after.caveats)
    print(np.round(moved, 3), np.round(moved_if_all_counted_alike, 3))
    assert np.median(np.abs(moved)) < 0.02
    assert np.median(np.abs(moved_if_all_counted_alike)) > 5 * np.median(np.abs(moved))
    assert max(np.abs(moved_if_all_counted_alike)) > 3 * max(np.abs(moved))


def studied(runs, folder):
    return study.make_study(runs, study.read_baseline_predictors(Store(folder), runs))


def test_a_run_whose_job_is_not_finished_does_not_take_part_and_that_is_said(runs, tmp_path):
    half_done = replace(smoke_run(runs[0]), run="half done", waiting=3)
    given = [*runs, half_done]
    assert [run.run for run in calibrating_runs(given)] == [run.run for run in runs]
    assert curves.best_threshold(given) == curves.best_threshold(runs)
    calibration = calibrate("simulated", given)
    assert "half done" not in calibration.runs
    sentence = what_counts_less(given)[0]
    assert "The run 'half done' is not used for the threshold and R²" in sentence
    assert "its scoring is not finished (3 of 8 checkpoints left)" in sentence
    assert sentence in calibration.warnings
    with pytest.raises(DataError, match=r"'half done' is not used for .*Wait for its job"):
        studied([half_done], tmp_path)


def test_what_to_expect_holds_the_measured_accuracy_of_most_published_checkpoints(
    published, tmp_path
):
    """Each run left out: 46 of 51, where PM with its sampling noise alone holds 4."""
    store = Store(tmp_path)
    import_published(store, published)
    runs = run_scores.read_task(store, "gsm8k")
    inside, inside_noise, n = 0, 0, 0
    for run in runs:
        calibration = calibrate("gsm8k", [other for other in runs if other is not run])
        rows = prediction.predict(run, calibration)
        line = curves.curve(run, calibration.log_log_threshold)
        inside += ((rows["low"] <= line.test) & (line.test <= rows["high"])).sum()
        inside_noise += (np.abs(line.premem - line.test) <= line.premem_half).sum()
        n += len(rows)
    print(
        f"\nexpected intervals hold {inside} of {n} test accuracies, sampling noise {inside_noise}"
    )
    assert n == 51
    assert inside >= 44
    assert inside_noise < 15
