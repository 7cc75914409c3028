"""The viewing pages on stores that plans left incomplete: no exception, and the reason in words."""

from pathlib import Path

import planned
import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest

PAGES = Path(__file__).parents[1] / "pages"


@pytest.fixture(scope="module")
def stores(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pages")
    for plan in ("full", "lazy", "final"):
        planned.store(folder / plan, plan)
    return folder


def show(page, store, monkeypatch, **query):
    monkeypatch.setenv("PREMEM_STORE", str(store))
    st.cache_resource.clear()
    st.cache_data.clear()
    app = AppTest.from_file(str(PAGES / page), default_timeout=60)
    for name, value in query.items():
        app.query_params[name] = value
    app.run()
    assert not app.exception
    return app


def text(app):
    return " ".join(element.value for element in [*app.markdown, *app.caption])


@pytest.mark.parametrize("page", ["overview.py", "curves.py", "fits.py"])
@pytest.mark.parametrize("plan", ["full", "lazy", "final"])
@pytest.mark.parametrize("t", ["-4.5", "-2.3", "0.5"])
def test_a_page_shows_whatever_a_plan_left_and_says_what_is_not_known(
    page, plan, t, stores, monkeypatch
):
    shown = text(show(page, stores / plan, monkeypatch, t=t))
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
    assert "Where no sample is missing, identity R²" in shown
    assert "Pre-memorization accuracy is not known" not in shown


@pytest.mark.parametrize("page", ["overview.py", "curves.py", "fits.py"])
def test_the_estimator_in_force_is_in_the_address_and_in_the_words(page, stores, monkeypatch):
    shown = text(show(page, stores / "lazy", monkeypatch, estimator="jackknife"))
    assert "jackknife estimator" in shown
    assert "plain estimator" not in shown
