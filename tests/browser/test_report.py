from premem_core.analysis import run_scores
from premem_core.analysis.studies.study import analyse, make_study, read_baseline_predictors
from premem_core.dashboard.figures import html_report
from tests.helpers import planned


def test_a_report_opened_from_disk_draws_its_charts_and_asks_no_network(chromium, tmp_path):
    store = planned.store(tmp_path / "store", "full")
    runs = run_scores.read_task(store, "toy")
    study = make_study(runs, read_baseline_predictors(store, runs))
    file = tmp_path / "report.html"
    file.write_text(html_report.report("toy", analyse(study), run_scores.run_labels(runs)))
    asked = []
    page = chromium.new_page()
    page.on("request", lambda request: asked.append(request.url))
    page.goto(file.as_uri())
    page.wait_for_selector(".js-plotly-plot .main-svg")
    assert page.locator(".js-plotly-plot").count() == 4
    page.close()
    assert [url for url in asked if not url.startswith(("file:", "data:", "blob:"))] == []
