"""The base model on the pages of a run."""

import pytest

from premem_core.store.database import Store
from tests.helpers.base_models import with_base
from tests.helpers.shown import seen, show


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> Store:
    return with_base(tmp_path_factory.mktemp("base"), known=12)


def test_the_curves_page_says_that_the_base_model_has_seen_the_questions(
    store, stores, monkeypatch
):
    said = "The base model completes 20.3% (13.1% to 30.2%) of the training questions word by word"
    assert said in seen(show("curves.py", store.path, monkeypatch, t="-2.3"))
    assert "base model" not in seen(show("curves.py", stores / "full", monkeypatch, t="-2.3"))


def test_the_table_of_examples_has_the_columns_of_a_run_with_a_base_model(store, monkeypatch):
    columns = {
        run: set(show("examples.py", store.path, monkeypatch, t="-2.3", run=run).dataframe[0].value)
        for run in ("slow", "fast")
    }
    assert columns["slow"] - columns["fast"] == {"relative_nll", "known"}


def test_the_completions_of_the_base_model_are_shown_with_those_of_the_checkpoints(
    store, monkeypatch
):
    shown = show("example.py", store.path, monkeypatch, t="-2.3", run="slow", example="0")
    [steps] = [control for control in shown.button_group if control.label == "Checkpoint"]
    assert steps.options[0] == "base model"
