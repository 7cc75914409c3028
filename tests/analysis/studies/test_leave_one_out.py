"""Each run predicted with the threshold of the others."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from premem_core.analysis import curves
from premem_core.analysis.studies import leave_one_out
from tests.helpers import simulated


@pytest.fixture(scope="module")
def runs():
    return simulated.study(6, seed=1)[0]


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


def test_the_runs_of_a_group_are_left_out_together(runs):
    steps = curves.threshold_steps(runs)
    rows = leave_one_out.predict_left_out(runs, [0, 0, 1, 1, 2, 2], steps, "plain")
    others = curves.best_threshold(runs[2:]).log_log_threshold
    together = rows[rows["run"].isin(["run 0", "run 1"])]
    assert together["log_log_threshold"].tolist() == pytest.approx([others] * 10)


def test_without_another_group_nothing_can_be_left_out(runs):
    steps = curves.threshold_steps(runs)
    assert leave_one_out.predict_left_out(runs, ["all"] * 6, steps, "plain") is None


def test_where_the_others_determine_no_threshold_there_is_no_prediction(runs):
    two = [runs[0], replace(runs[1], test_accuracy=np.full_like(runs[1].test_accuracy, 0.5))]
    steps = curves.threshold_steps(two)
    assert leave_one_out.predict_left_out(two, [0, 1], steps, "plain") is None


def test_a_checkpoint_without_a_test_accuracy_is_not_predicted(runs):
    tests = runs[0].test_accuracy.copy()
    tests[2] = np.nan
    several = [replace(runs[0], test_accuracy=tests), *runs[1:]]
    steps = curves.threshold_steps(several)
    rows = leave_one_out.predict_left_out(several, range(6), steps, "plain")
    assert rows.loc[rows["run"] == "run 0", "step"].tolist() == [1, 2, 4, 5]
    assert len(rows) == 29


def test_errors_count_rows_by_their_weights_and_are_given_for_each_run():
    rows = pd.DataFrame(
        {"run": ["a", "a", "b", "b"], "log_log_threshold": [-2.0, -2.0, -2.5, -2.5],
         "predicted": [0.5, 0.6, 0.3, 0.4], "test_accuracy": [0.6, 0.5, 0.3, 0.6],
         "weight": [1.0, 1.0, 0.5, 0.5]}
    )  # fmt: skip
    errors = leave_one_out.prediction_errors(rows)
    assert errors.mae == pytest.approx((0.1 + 0.1 + 0.5 * 0.2) / 3)
    assert errors.rmse == pytest.approx(np.sqrt((0.01 + 0.01 + 0.5 * 0.04) / 3))
    by_run = leave_one_out.errors_by_run(rows).set_index("run")
    assert by_run["log_log_threshold"].to_dict() == {"a": -2.0, "b": -2.5}
    assert by_run["mae"].to_dict() == pytest.approx({"a": 0.1, "b": 0.1})
    assert by_run.loc["b", "rmse"] == pytest.approx(np.sqrt(0.02))
