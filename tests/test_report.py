import planned
import pytest

from premem_core import analysis, curves, report


@pytest.fixture(scope="module")
def html(tmp_path_factory):
    store = planned.store(tmp_path_factory.mktemp("report") / "full", "full")
    runs = curves.read_task(store, "toy")[:1]
    study = analysis.study(runs, analysis.read_baselines(store, runs))
    return report.report("<i>task</i>", analysis.analyse(study))


def test_a_report_names_its_threshold_its_runs_and_what_they_cannot_show(html):
    assert "threshold t = " in html
    assert "plain estimator" in html
    assert "What these runs cannot show" in html
    assert "distance from initialization" in html
    assert "<i>task" not in html
