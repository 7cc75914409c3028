import pytest

from premem_core.analysis import run_scores
from premem_core.analysis.studies import leave_one_out
from premem_core.analysis.studies.study import analyse, make_study, read_baseline_predictors
from premem_core.dashboard.figures import html_report
from premem_core.store.database import Store
from tests.helpers import planned, simulated


@pytest.fixture(scope="module")
def html(tmp_path_factory):
    store = planned.store(tmp_path_factory.mktemp("report") / "full", "full")
    runs = run_scores.read_task(store, "toy")[:1]
    study = make_study(runs, read_baseline_predictors(store, runs))
    return html_report.report("<i>task</i>", analyse(study), run_scores.run_labels(runs))


def test_a_report_says_how_sure_it_is_and_how_left_out_runs_did(tmp_path):
    runs, _ = simulated.study(6, seed=3)
    done = analyse(make_study(runs, read_baseline_predictors(Store(tmp_path), runs)))
    html = html_report.report("task", done, run_scores.run_labels(runs))
    low, high = done.linear_ci90
    r2 = f"{done.r2.linear:.3f} (90 % over resampled runs: {low:.3f} to {high:.3f})"
    assert f"linear R² of {r2}" in html
    off = leave_one_out.prediction_errors(done.study.rate_left_out)
    assert f"others: MAE {off.mae:.3f}, RMSE {off.rmse:.3f}, R² {off.r2:.3f}" in html


def test_a_report_names_its_threshold_its_runs_and_what_they_cannot_show(html):
    assert "threshold t = " in html
    assert "plain estimator" in html
    assert "Limits of these results" in html
    assert "distance from initialization" in html
    assert "<i>task" not in html
