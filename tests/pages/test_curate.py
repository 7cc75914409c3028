"""The Curate page: quotas, recipes of the command line, what it cannot show."""

import pytest

from premem_core.curation import selection
from premem_core.curation.recipe import Criterion, Recipe
from premem_core.records import Conversation, Example
from premem_core.store.database import Store
from premem_core.store.runs import read_runs
from tests.helpers import planned
from tests.helpers.shown import show, tables, text
from tests.helpers.stores import scored


def test_the_curate_page_takes_quotas_and_plans_new_problems_by_group(tmp_path, monkeypatch):
    home = planned.store(tmp_path / "store", "full", levels=3)
    query = {"t": "-2.3", "quota-by": "level", "quota-level-Level 1": "0.1", "budget": "20"}
    app = show("curate.py", home.path, monkeypatch, **query, cover="level", new="30")
    assert "**20 examples** of 60" in app.markdown[0].value
    [shown] = [each for each in tables(app) if each[0][0] == "level"]
    assert shown[1][:2] == ["Level 1", "2"]  # a tenth of the budget
    assert [row[0] for row in shown[1:]] == ["Level 1", "Level 2", "Level 3"]
    assert sum(int(row[2]) for row in shown[1:]) == 30

    runs = tuple(read_runs(home)["run"])
    criteria = (Criterion("premem", below=0.75), Criterion("metadata:level", weight=0.01))
    recipe = Recipe(
        "toy", runs, -2.3, criteria, budget=20, quota_field="level", quotas={"Level 1": 0.1}
    )
    chosen = selection.build_selection(home, recipe)[2]
    assert (chosen["level"] == "Level 1").sum() == 2
    app.session_state["recipe_to_open"] = recipe
    app.run()
    assert not app.exception
    asked = {each.key: each.value for each in [*app.number_input, *app.selectbox]}
    assert (asked["quota-by"], asked["quota-level-Level 1"], asked["budget"]) == ("level", 0.1, 20)
    assert app.dataframe[0].value["id"].tolist() == chosen["id"].tolist()


@pytest.mark.parametrize(
    "asked",
    [
        {"criteria": (Criterion("premem", above=0.5),)},
        {"criteria": (Criterion("premem", below=0.75, above=0.3),)},
        {"criteria": (Criterion("perplexity", below=1.2), Criterion("words")), "combine": "any"},
        {"shape": "alpaca", "weights": "repeat", "seed": 5},
        {"kept": ("7",), "dropped": ("1", "2"), "budget": 9},
    ],
)
def test_a_recipe_of_the_command_line_is_the_same_on_the_page(stores, monkeypatch, asked):
    home = Store(stores / "full")
    recipe = Recipe(**{"task": "toy", "runs": ("slow",), "log_log_threshold": -2.3,
                       "criteria": (Criterion("premem", below=0.75),)} | asked)  # fmt: skip
    app = show("curate.py", home.path, monkeypatch)
    app.session_state["recipe_to_open"] = recipe
    app.run()
    assert not app.exception
    wanted = selection.build_selection(home, recipe)[2]
    assert app.dataframe[-1].value["id"].tolist() == wanted["id"].tolist()
    assert app.session_state["shape"] == recipe.shape
    assert app.session_state["weights"] == recipe.weights


def test_a_gate_that_cannot_look_is_told_of_and_is_not_in_the_recipe(stores, monkeypatch):
    home = Store(stores / "full")
    app = show("curate.py", home.path, monkeypatch, t="-2.3", gates=["suspected wrong labels"])
    assert "no chosen run has completions from before memorization" in text(app)
    assert "quality gates" not in app.markdown[0].value


def test_a_selection_of_nothing_says_so(stores, monkeypatch):
    home = Store(stores / "full")
    app = show("curate.py", home.path, monkeypatch, t="-2.3", **{"below-premem": "-1"})
    assert app.markdown[0].value.startswith("**0 examples** of 60")
    assert app.info[0].value == "No example is within the bounds; widen them."


def test_chats_are_written_as_messages_and_what_loses_turns_is_refused(tmp_path, monkeypatch):
    turns = [
        {"role": "user", "content": "1+1?"},
        {"role": "assistant", "content": "2"},
        {"role": "user", "content": "2+2?"},
    ]
    chat = Conversation(tuple(turns), {"role": "assistant", "content": "#### 4"})
    home = scored(tmp_path / "store", [Example("a", "2+2?", "#### 4", "4", {}, chat)])
    app = show("curate.py", home.path, monkeypatch)
    assert app.selectbox(key="shape").value == "messages"
    assert not app.error
    app.selectbox(key="shape").select("plain").run()
    [error] = app.error
    assert "has no place for all turns of example 'a'" in error.value
    app.selectbox(key="shape").select("alpaca").run()
    assert not app.error
    app.button_group(key="kind").set_value("csv").run()
    [error] = app.error
    assert "cannot be written as CSV" in error.value
