"""Each run predicted with the threshold of the others."""

import numpy as np
import pytest

from premem_core.analysis import curves, leave_one_out
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
