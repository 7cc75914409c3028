"""The viewing pages on stores that plans left incomplete: no exception, and the reason in words."""

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest

from premem_core.analysis import run_scores
from premem_core.curation import selection
from premem_core.curation.recipe import Criterion, Recipe
from premem_core.dashboard import recipe_file
from premem_core.demo import demo_study
from premem_core.errors import UsageError
from premem_core.records import Checkpoint, Example, Grade, RunRecord
from premem_core.store.completions import read_completions
from premem_core.store.database import Store
from premem_core.store.examples import read_task_examples
from premem_core.store.runs import (
    add_scored_runs,
    read_checkpoints,
    read_runs,
    set_checkpoint_state,
)
from tests.helpers import planned
from tests.helpers.paths import PAGES
from tests.helpers.shown import numbers, tables, titles, verbatim


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
    return " ".join(element.value for element in [*app.markdown, *app.caption, *app.warning])


def seen(app):
    """The text as a reader sees it: what is escaped for Markdown stands for itself."""
    return re.sub(r"\\([^\w\s])", r"\1", text(app))


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
    assert "Where no sample is missing, identity R²" in shown
    assert "Pre-memorization accuracy is not known" not in shown


@pytest.mark.parametrize("page", ["overview.py", "curves.py", "fits.py"])
def test_the_estimator_in_force_is_in_the_address_and_in_the_words(page, stores, monkeypatch):
    shown = text(show(page, stores / "lazy", monkeypatch, estimator="jackknife"))
    assert "jackknife estimator" in shown
    assert "plain estimator" not in shown


@pytest.fixture(scope="module")
def demo_store(tmp_path_factory):
    folder = tmp_path_factory.mktemp("compare") / "store"
    demo_study.install(folder)
    return Store(folder)


def compared(store, run, steps, split):
    """Differences between two checkpoints from the completions themselves."""
    means = [
        (rows["grade"] == Grade.CORRECT).groupby(rows["example"]).mean()
        for rows in (read_completions(store, run, step, split) for step in steps)
    ]
    return means[0], means[1]


@pytest.mark.parametrize("split", ["train", "test"])
def test_two_checkpoints_are_compared_and_a_flipped_question_is_shown_verbatim(
    split, demo_store, monkeypatch
):
    app = show("compare.py", demo_store.path, monkeypatch, split=split)
    run, steps = "lr3e-4_ep5_n500", (32, 160)
    a, b = compared(demo_store, run, steps, split)
    up, down = ((a <= 0.5) & (b > 0.5)).sum(), ((a > 0.5) & (b <= 0.5)).sum()
    shown = text(app)
    assert f"Step {steps[1]} answers **{100 * abs((b - a).mean()):.1f} ± " in shown
    assert f"**{up}** went wrong → right, **{down}** right → wrong (sign test, p" in shown
    assert len(app.dataframe[0].value) == up + down
    first = app.dataframe[0].value.iloc[0]
    example = read_task_examples(demo_store, "demo", split).set_index("id").loc[first["id"]]
    texts = verbatim(app)
    assert texts[:3] == [example["question"], example["solution"], example["answer"]]
    completions = [read_completions(demo_store, run, step, split) for step in steps]
    expected = [t for c in completions for t in c[c["example"] == example["example"]]["completion"]]
    assert texts[3:] == expected


def test_the_address_of_a_comparison_holds_both_sides_and_the_question(demo_store, monkeypatch):
    a, b = "lr3e-3_ep15_n1000", "lr3e-4_ep5_n500"
    rows = show(
        "compare.py", demo_store.path, monkeypatch, run_a=a, step_a="189",
        run_b=b, way="right → wrong",
    ).dataframe[0].value  # fmt: skip
    assert set(rows["outcome"]) == {"right → wrong"}
    app = show(
        "compare.py", demo_store.path, monkeypatch, run_a=a, step_a="189",
        run_b=b, way="right → wrong", question=rows["id"].iloc[2],
    )  # fmt: skip
    assert verbatim(app)[0].startswith(rows["question"].iloc[2].removesuffix("…"))
    last = read_checkpoints(demo_store, b)["step"].max()
    assert f"Step {last} of {label(demo_store, b)} answers" in text(app)
    assert f"than step 189 of {label(demo_store, a)} (paired t test" in text(app)


def label(store, run):
    return run_scores.run_labels(run_scores.read_task(store, "demo"))[run]


def test_a_comparison_says_what_a_plan_left_out(stores, monkeypatch):
    shown = text(show("compare.py", stores / "lazy", monkeypatch))
    assert "the sampling plan did not need all of their samples" in shown
    assert "its scores were imported without completions" in shown
    assert "left out" not in text(show("compare.py", stores / "full", monkeypatch))


def test_the_same_checkpoint_twice_is_not_compared(stores, monkeypatch):
    app = show("compare.py", stores / "full", monkeypatch, step_b="10")
    assert "A and B are the same checkpoint" in app.info[0].value
    assert not numbers(app)


def test_a_run_of_one_checkpoint_is_not_the_one_to_begin_with(tmp_path, monkeypatch):
    home = imported(tmp_path, {"one": 0, "other": 0})
    set_checkpoint_state(home, "one", 2, "failed", "no reason")
    app = show("compare.py", home.path, monkeypatch)
    assert app.selectbox(key="run_a").value == "other"
    assert "Step 2 answers" in text(app)


def imported(folder, ids):
    """Runs as the published ones are, without texts: of each the first id of its questions."""
    home = Store(folder)
    numbers = np.arange(4)
    frames = {
        run: pd.DataFrame(
            {"step": np.repeat([1, 2], 4), "split": "train", "perturbation": "",
             "id": [str(first + i) for i in [*numbers, *numbers]], "samples": 3,
             "correct": [0, 1, 2, 3, 3, 2, 1, 1], "unparsed": 0, "nll": 0.5, "tokens": 9}
        )
        for run, first in ids.items()
    }  # fmt: skip
    points = [Checkpoint(Path(), step) for step in (1, 2)]
    add_scored_runs(home, 
        [(RunRecord(run, "t", "published", rate, 2, 8, 4), points, frame)
         for rate, (run, frame) in enumerate(frames.items(), start=1)],
        [("t", "train", [Example(str(i), "", "", "") for i in range(20)])],
    )  # fmt: skip
    return home


def test_an_import_without_texts_is_compared_all_the_same(tmp_path, monkeypatch):
    home = imported(tmp_path, {"one": 0, "other": 0})
    app = show("compare.py", home.path, monkeypatch)
    shown = text(app)
    assert "of the 4 training questions right than step 1" in shown
    assert "**2** went wrong → right, **2** right → wrong (sign test, p\N{NO-BREAK SPACE}=" in shown
    assert "The store has no texts of this task's questions" in shown
    assert "imported without completions" in shown
    assert not verbatim(app)
    assert len(app.dataframe[0].value) == 4


def test_what_cannot_be_compared_is_said(tmp_path, monkeypatch):
    home = imported(tmp_path, {"one": 0, "other": 10})
    app = show("compare.py", home.path, monkeypatch, split="test")
    assert "No test question was asked at step 1" in app.info[0].value
    app = show("compare.py", home.path, monkeypatch, run_b="other")
    assert "A and B have no training question in common" in app.info[0].value
    app = show("compare.py", Store(tmp_path / "empty").path, monkeypatch)
    assert "Nothing is scored yet" in app.info[0].value


def test_the_choice_of_runs_in_an_address_is_counted_on_its_button(demo_store, monkeypatch):
    names = [run.run for run in run_scores.read_task(demo_store, "demo")]
    app = show("curves.py", demo_store.path, monkeypatch, runs=names[:2])
    assert "Runs: 2 of 5" in [each.proto.popover.label for each in app.get("popover")]


def test_the_fit_follows_the_objective_in_the_address(demo_store, monkeypatch):
    identity = show("fits.py", demo_store.path, monkeypatch)
    linear = show("fits.py", demo_store.path, monkeypatch, objective="linear")
    assert "Linear R² at every threshold" in [each.value for each in linear.subheader]
    assert "Linear R² (plain estimator) is best at t" in text(linear)
    r2 = [float(numbers(app)[1].replace("−", "-")) for app in (identity, linear)]
    assert r2[0] < r2[1]


def test_a_prediction_learns_from_the_chosen_runs_but_not_from_the_run_itself(
    demo_store, monkeypatch
):
    low, warm, *_ = (run.run for run in run_scores.read_task(demo_store, "demo"))

    def learned_from(*runs):
        page = {"predict": warm, "calibrate": list(runs)}
        return text(show("fits.py", demo_store.path, monkeypatch, **page))

    assert "Calibrated on 4 runs" in learned_from()
    assert "Calibrated on 1 run at" in learned_from(low, warm)


LONGEST = "lr3e-3_ep24_n500"


def test_the_map_says_how_much_was_learned_and_memorized(demo_store, monkeypatch):
    shown = text(show("map.py", demo_store.path, monkeypatch, t="-2.3"))
    assert (
        "of the 500 scored examples of lr 0\\.003 · 24 epochs · 500 examples were answered" in shown
    )
    assert "Each column is 2 neighbouring examples, learned first" in shown


def test_examples_are_searched_and_filtered_by_the_address(demo_store, monkeypatch):
    def found(**query):
        app = show("examples.py", demo_store.path, monkeypatch, **query)
        return app.dataframe[0].value if len(app.dataframe) else None

    everything = found(t="-2.3")
    assert len(everything) == 500
    some = found(t="-2.3", q="STICKERS sells")
    assert 0 < len(some) < 100
    texts = read_task_examples(demo_store, "demo", "train").set_index("id").loc[some["id"]]
    words = texts["question"].str.cat(texts["solution"], sep=" ").str.lower()
    assert (words.str.contains("stickers") & words.str.contains("sells")).all()
    low = found(t="-2.3", pm=["0", "20"])
    assert 0 < len(low) < 500
    assert low["premem"].max() <= 20
    assert set(found(t="-2.3", since=["512"])["memorized"]) == {512}
    assert (found(t="-2.3", flips="2")["flips"] >= 2).all()
    assert found(t="-2.3", ids=["train-0003", "train-0001"])["id"].tolist() == [
        "train-0001",
        "train-0003",
    ]
    run = {"run": "lr1e-3_ep5_n1000", "t": "-2.3"}
    assert len(found(**run, grades=["incorrect"])) == (found(**run)["accuracy"] < 100).sum() > 0
    assert found(q="no such words").empty


def test_one_example_is_shown_with_its_completions_and_its_neighbours(demo_store, monkeypatch):
    app = show("example.py", demo_store.path, monkeypatch, example="train-0011", t="-2.3")
    shown = text(app)
    assert "train\\-0011: 12 of 500" in shown
    row = read_task_examples(demo_store, "demo", "train").set_index("id").loc["train-0011"]
    assert verbatim(app)[:2] == [row["question"], row["solution"]]
    drawn = read_completions(demo_store, LONGEST, 768, "train").query(
        f"example == {row['example']}"
    )
    assert sorted(verbatim(app)[2:]) == sorted(drawn["completion"])
    assert len(titles(app)) == 2 + len(drawn) == 7
    assert "% copied from the solution" in titles(app)[2]
    [[head, *near]] = tables(app)
    assert head == ["Example", "Question", "PM", "Accuracy", "Similarity"]
    assert len(near) == 5
    assert not any("train-0011" in row[0] for row in near)
    assert all("example=train-" in row[0] and "t=-2.3" in row[0] for row in near)


def test_an_example_of_another_run_is_one_sentence(demo_store, monkeypatch):
    app = show("example.py", demo_store.path, monkeypatch, example="train-9999")
    assert "not trained on an example 'train\\-9999'" in app.error[0].value


@pytest.mark.parametrize("page", ["map.py", "examples.py", "example.py", "robustness.py"])
@pytest.mark.parametrize("plan", ["full", "lazy", "final"])
def test_the_examples_pages_show_whatever_a_plan_left(page, plan, stores, monkeypatch):
    show(page, stores / plan, monkeypatch, t="-2.3")


def test_robustness_is_shown_for_every_perturbation_of_the_demo(demo_store, monkeypatch):
    app = show("robustness.py", demo_store.path, monkeypatch, t="-2.3")
    [[head, *rows]] = tables(app)
    assert len(rows) == 5
    for row in rows:
        before, after, lost = (float(row[at].split()[0].replace("−", "-")) for at in (2, 3, 4))
        assert head[2:5] == ["As it is", "Perturbed", "Lost, points"]
        assert before - after == pytest.approx(lost, abs=0.11)
    assert "a change of" in text(app)
    assert "broke" in text(app)


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
def test_a_recipe_of_the_command_line_is_the_same_on_the_page(tmp_path, monkeypatch, asked):
    home = planned.store(tmp_path / "store", "full")
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


@pytest.mark.parametrize(
    ("asked", "sentence"),
    [
        ({"log_log_threshold": -9.0}, "no control for a threshold outside"),
        ({"criteria": (Criterion("premem", weight=0.001),)}, "no control for so small a weight"),
        ({"criteria": (Criterion("metadata:foo"),)}, "chooses by 'metadata:foo'"),
        ({"quota_field": "foo"}, "no control for quotas of 'foo'"),
        ({"quota_field": "level", "quotas": {"x": 0.5}}, "a quota of a value of 'level'"),
        ({"gates": {"duplicates": 0.01}}, "takes a value from 0.05 to 1"),
        ({"runs": ("other",)}, "judges by a run 'other'"),
        ({"task": "other"}, "of the task 'other'"),
    ],
)
def test_a_recipe_that_the_page_cannot_show_is_refused(tmp_path, monkeypatch, asked, sentence):
    home = planned.store(tmp_path / "store", "full", levels=3)
    monkeypatch.setenv("PREMEM_STORE", str(home.path))
    st.cache_resource.clear()
    recipe = Recipe(**{"task": "toy", "runs": ("slow",), "log_log_threshold": -2.3,
                       "criteria": (Criterion("premem"),)} | asked)  # fmt: skip
    with pytest.raises(UsageError, match=sentence):
        recipe_file._check(recipe)


def test_a_gate_that_cannot_look_is_told_of_and_is_not_in_the_recipe(tmp_path, monkeypatch):
    home = planned.store(tmp_path / "store", "full")
    app = show("curate.py", home.path, monkeypatch, t="-2.3", gates=["suspected wrong labels"])
    assert "no chosen run has completions from before it memorized" in text(app)
    assert "quality gates" not in app.markdown[0].value


def test_a_selection_of_nothing_says_so(tmp_path, monkeypatch):
    home = planned.store(tmp_path / "store", "full")
    app = show("curate.py", home.path, monkeypatch, t="-2.3", **{"below-premem": "-1"})
    assert app.markdown[0].value.startswith("**0 examples** of 60")
    assert app.info[0].value == "No example is as asked for; widen the bounds."
