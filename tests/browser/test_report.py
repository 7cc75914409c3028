import planned

from premem_core import analysis, curves, report


def test_a_report_opened_from_disk_draws_its_charts_and_asks_no_network(chromium, tmp_path):
    store = planned.store(tmp_path / "store", "full")
    runs = curves.read_task(store, "toy")
    study = analysis.study(runs, analysis.read_baselines(store, runs))
    file = tmp_path / "report.html"
    file.write_text(report.report("toy", analysis.analyse(study)))
    asked = []
    page = chromium.new_page()
    page.on("request", lambda request: asked.append(request.url))
    page.goto(file.as_uri())
    page.wait_for_selector(".js-plotly-plot .main-svg")
    assert page.locator(".js-plotly-plot").count() == 4
    page.close()
    assert [url for url in asked if not url.startswith(("file:", "data:", "blob:"))] == []
