"""The page that compares two checkpoints."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from premem_core.analysis import run_scores
from premem_core.records import Checkpoint, Example, Grade, RunRecord
from premem_core.store.completions import read_completions
from premem_core.store.database import Store
from premem_core.store.examples import read_task_examples
from premem_core.store.runs import (
    add_scored_runs,
    read_checkpoints,
    set_checkpoint_state,
)
from tests.helpers.shown import numbers, seen, show, text, verbatim


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
    assert f"Step {steps[1]} is **{100 * abs((b - a).mean()):.1f} ± " in shown
    assert (
        f"**{up}** questions changed from wrong to right, **{down}** from right to wrong "
        "(sign test, p" in shown
    )
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
    assert f"Step {last} of {label(demo_store, b)} is **" in seen(app)
    assert f"than step 189 of {label(demo_store, a)} on the " in seen(app)
    assert "training questions (paired t test" in seen(app)


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
    assert "Step 2 is **" in text(app)


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
    assert "accurate than step 1 on the 4 training questions" in shown
    assert (
        "**2** questions changed from wrong to right, **2** from right to wrong "
        "(sign test, p\N{NO-BREAK SPACE}=" in shown
    )
    assert "The store has no texts of this task's questions" in shown
    assert "imported without completions" in shown
    assert not verbatim(app)
    assert len(app.dataframe[0].value) == 4


def test_what_cannot_be_compared_is_said(tmp_path, monkeypatch):
    home = imported(tmp_path, {"one": 0, "other": 10})
    app = show("compare.py", home.path, monkeypatch, split="test")
    assert "No test question is scored at step 1" in app.info[0].value
    app = show("compare.py", home.path, monkeypatch, run_b="other")
    assert "A and B have no training question in common" in app.info[0].value
    app = show("compare.py", Store(tmp_path / "empty").path, monkeypatch)
    assert "Nothing is scored yet" in app.info[0].value
