"""Pages on stores that plans left incomplete: no exception, and the reason in words."""

import pytest

from premem_core.analysis import run_scores
from tests.helpers.shown import seen, show, text


@pytest.mark.parametrize("page", ["overview.py", "curves.py", "fits.py"])
@pytest.mark.parametrize("plan", ["full", "lazy", "final"])
@pytest.mark.parametrize("t", ["-4.5", "-2.3", "0.5"])
def test_a_page_shows_whatever_a_plan_left_and_says_what_is_not_known(
    page, plan, t, stores, monkeypatch
):
    shown = seen(show(page, stores / plan, monkeypatch, t=t))
    assert ("Train accuracy is not known at" in shown) == (plan != "full")
    assert "plain estimator" in shown
    if (plan, t) == ("lazy", "-2.3"):
        assert "Pre-memorization accuracy is not known" not in shown
    if plan == "final" and t == "-2.3":
        assert "Pre-memorization accuracy is not known at 4 of 6 checkpoints" in shown


@pytest.mark.parametrize("page", ["overview.py", "curves.py", "fits.py"])
@pytest.mark.parametrize("estimator", ["plain", "jackknife"])
def test_a_lazy_run_opens_at_a_threshold_that_misses_nothing(page, estimator, stores, monkeypatch):
    shown = text(show(page, stores / "lazy", monkeypatch, estimator=estimator))
    assert "Among thresholds that need no missing sample, identity R²" in shown
    assert "Pre-memorization accuracy is not known" not in shown


@pytest.mark.parametrize("page", ["overview.py", "curves.py", "fits.py"])
def test_the_estimator_in_force_is_in_the_address_and_in_the_words(page, stores, monkeypatch):
    app = show(page, stores / "lazy", monkeypatch, estimator="jackknife")
    shown = text(app)
    assert app.query_params["estimator"] == "jackknife"
    assert "jackknife estimator" in shown
    assert "plain estimator" not in shown


def test_the_choice_of_runs_in_an_address_is_counted_on_its_button(demo_store, monkeypatch):
    names = [run.run for run in run_scores.read_task(demo_store, "demo")]
    app = show("curves.py", demo_store.path, monkeypatch, runs=names[:2])
    assert "Runs: 2 of 5" in [each.proto.popover.label for each in app.get("popover")]


@pytest.mark.parametrize("page", ["map.py", "examples.py", "example.py", "robustness.py"])
@pytest.mark.parametrize("plan", ["full", "lazy", "final"])
def test_the_examples_pages_show_whatever_a_plan_left(page, plan, stores, monkeypatch):
    show(page, stores / plan, monkeypatch, t="-2.3")
