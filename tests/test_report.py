import planned
import pytest
import simulated

from premem_core import analysis, curves, prediction, report
from premem_core.store import Store


@pytest.fixture(scope="module")
def html(tmp_path_factory):
    store = planned.store(tmp_path_factory.mktemp("report") / "full", "full")
    runs = curves.read_task(store, "toy")[:1]
    study = analysis.study(runs, analysis.read_baselines(store, runs))
    return report.report("<i>task</i>", analysis.analyse(study))


def test_a_report_says_how_sure_it_is_and_how_left_out_runs_did(tmp_path):
    runs, _ = simulated.study(6, seed=3)
    done = analysis.analyse(analysis.study(runs, analysis.read_baselines(Store(tmp_path), runs)))
    html = report.report("task", done)
    low, high = done.linear_ci90
    r2 = f"{done.linear_r2:.3f} (90 % over resampled runs: {low:.3f} to {high:.3f})"
    assert f"linear R² {r2}" in html
    off = prediction.errors(done.study.rate_left_out)
    assert f"others: MAE {off.mae:.3f}, RMSE {off.rmse:.3f}, R² {off.r2:.3f}" in html


def test_a_report_names_its_threshold_its_runs_and_what_they_cannot_show(html):
    assert "threshold t = " in html
    assert "plain estimator" in html
    assert "What these runs cannot show" in html
    assert "distance from initialization" in html
    assert "<i>task" not in html
