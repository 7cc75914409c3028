"""What a page looks at: one address shows the same on every page, and says what it cannot show."""

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from premem_core.analysis import run_scores
from premem_core.records import Checkpoint, Example, RunRecord
from premem_core.store.database import Store
from premem_core.store.runs import add_scored_runs, set_checkpoint_state
from tests.helpers import planned
from tests.helpers.shown import seen, show

WITH_THRESHOLD = ("overview.py", "curves.py", "fits.py", "map.py", "examples.py", "curate.py")


@pytest.fixture(scope="module")
def demo(demo_store):
    return demo_store.path


def address(app, name):
    value = app.query_params[name]
    return value if isinstance(value, str) else value[0]


def fill(folder, runs, n=40, test=40):
    """A store of runs of two checkpoints; of each its learning rate and its samples."""
    rng = np.random.default_rng(3)
    made = []
    for name, (rate, samples) in runs.items():
        frames = []
        for step, skill in ((1, 0.4), (2, 0.7)):
            for split, of in (("train", n), ("test", test)):
                correct = rng.binomial(samples, np.clip(rng.normal(skill, 0.2, of), 0, 1))
                nll = rng.gamma(3 - step, 0.1, of) if split == "train" else np.full(of, np.nan)
                frames.append(
                    pd.DataFrame(
                        {"step": step, "split": split, "perturbation": "",
                         "id": [str(i) for i in range(of)], "samples": samples,
                         "correct": correct, "unparsed": 0, "nll": nll, "tokens": 9}
                    )
                )  # fmt: skip
        record = RunRecord(name, "toy", "published", rate, 2, 8, n)
        made.append((record, [Checkpoint(Path(), 1), Checkpoint(Path(), 2)], pd.concat(frames)))
    store = Store(folder)
    examples = [
        (split, [Example(str(i), f"{split} {i}?", "#### 1", "1") for i in range(of)])
        for split, of in (("train", n), ("test", test))
    ]
    add_scored_runs(store, made, [("toy", split, members) for split, members in examples])
    return store


@pytest.mark.parametrize("page", WITH_THRESHOLD)
def test_the_address_holds_the_threshold_and_it_does_not_hang_on_the_runs_that_are_shown(
    page, demo, monkeypatch
):
    app = show(page, demo, monkeypatch, runs=["lr3e-4_ep5_n500"], run="lr3e-4_ep5_n500")
    assert address(app, "t") == "-1.88"
    assert address(app, "task") == "demo"
    assert app.slider(key="t").value == -1.88


def test_a_threshold_of_zero_in_an_address_is_a_threshold(demo, monkeypatch):
    app = show("curves.py", demo, monkeypatch, t="0")
    assert app.slider(key="t").value == 0
    assert address(app, "t") == "0.00"


def test_a_link_names_a_run_by_its_stored_name_also_after_its_twin_is_scored(tmp_path, monkeypatch):
    fill(tmp_path, {"first": (1e-4, 5), "other": (1e-3, 5)})
    for page in ("map.py", "example.py", "examples.py"):
        app = show(page, tmp_path, monkeypatch, run="first")
        assert app.selectbox(key="run").value == "first"
        assert address(app, "run") == "first"
    fill(tmp_path, {"a twin": (1e-4, 5)})  # it is shown as the first one was: now both by name
    app = show("map.py", tmp_path, monkeypatch, run="first")
    assert app.selectbox(key="run").value == "first"
    assert " of first were answered right" in seen(app)
    assert not app.warning


@pytest.mark.parametrize(
    ("page", "query", "sentence"),
    [
        ("map.py", {"run": "gone"}, "gives 'gone' for “Run”, which this store does not have"),
        ("curves.py", {"runs": ["gone"]}, "gives 'gone' for “Runs”, which this store does"),
        ("overview.py", {"task": "gone"}, "gives 'gone' for “Task”, which this store does"),
        ("curves.py", {"t": "warm"}, "a threshold of 'warm', but t must be a number from -5.0"),
        ("curves.py", {"t": "7"}, "a threshold of '7', but t must be a number from -5.0 to 0.5"),
        ("compare.py", {"run_b": "gone"}, "gives 'gone' for “Run B”, which this store does"),
        ("compare.py", {"step_a": "9"}, "gives '9' for “Checkpoint A”, which this store does"),
        ("robustness.py", {"step": "9"}, "gives '9' for “Checkpoint”, which this store does"),
    ],
)
def test_what_an_address_asks_for_and_the_store_lacks_is_said(
    page, query, sentence, demo, monkeypatch
):
    assert sentence in seen(show(page, demo, monkeypatch, **query))


def test_a_question_of_an_address_that_is_not_there_is_said(demo, monkeypatch):
    shown = seen(show("compare.py", demo, monkeypatch, question="gone"))
    assert "asks for question 'gone', which is not in this table" in shown


def test_a_run_that_is_not_finished_moves_no_default_and_that_is_said(tmp_path, monkeypatch):
    fill(tmp_path, {"a": (1e-4, 5), "b": (1e-3, 5)})
    before = address(show("curves.py", tmp_path, monkeypatch), "t")
    store = fill(tmp_path, {"half": (1e-2, 5)})
    set_checkpoint_state(store, "half", 2, "waiting")
    app = show("curves.py", tmp_path, monkeypatch)
    assert address(app, "t") == before
    assert (
        "The run 'half' is not used for the threshold and R², because its scoring is not finished "
        "(1 of 2 checkpoints left)." in seen(app)
    )


def test_a_smoke_run_counts_little_and_that_is_said_where_the_threshold_is(tmp_path, monkeypatch):
    fill(tmp_path, {"a": (1e-4, 5), "b": (1e-3, 5)}, n=400, test=400)
    fill(tmp_path, {"smoke": (1e-2, 5)}, n=10, test=10)
    shown = seen(show("overview.py", tmp_path, monkeypatch))
    assert "The run 'smoke' counts 0.06 times as much as the largest" in shown
    assert "10 test problems and 10 training examples" in shown


def test_what_to_expect_comes_from_the_other_runs_with_its_interval(demo, monkeypatch):
    shown = seen(show("curves.py", demo, monkeypatch))
    assert "Expect **" in shown
    assert "on new problems, with the threshold from other runs" in shown
    assert " % (90 % interval " in shown
    assert " ± " not in shown.split("on new problems")[0]


def test_of_a_lone_run_the_expectation_is_typical_and_no_r2_is_given(tmp_path, monkeypatch):
    fill(tmp_path, {"alone": (1e-4, 5)})
    shown = seen(show("curves.py", tmp_path, monkeypatch))
    expected = r"Expect \*\*\S+ % \(typically \S+ to \S+ %, with \d+ labelled test questions\)\*\*"
    assert re.search(expected, shown)
    assert "with the threshold from this run alone" in shown
    shown = seen(show("overview.py", tmp_path, monkeypatch))
    assert "R² says something over several runs only" in shown
    assert re.search(
        r"Identity R² \(plain estimator\) is highest at t = \S+ \S+ \S+ over 1 run", shown
    )


def test_two_other_runs_give_a_prediction_without_an_interval_and_the_reason_is_true(
    tmp_path, monkeypatch
):
    fill(tmp_path, {"a": (1e-4, 5), "b": (1e-3, 5)})
    shown = seen(show("curves.py", tmp_path, monkeypatch))
    assert "labelled test questions)** on new problems, with the threshold from other run" in shown
    page = show("verdict.py", tmp_path, monkeypatch, run="a")
    assert "predicted without them is" in seen(page)
    assert "how far that is off is not known" in seen(page)


def test_without_samples_that_the_others_threshold_needs_other_evidence_is_taken(
    tmp_path, monkeypatch
):
    planned.store(tmp_path, "lazy")
    shown = seen(show("curves.py", tmp_path, monkeypatch))
    assert "nan" not in shown
    assert "with the threshold from this run alone" in shown


def test_the_verdict_predicts_from_the_same_runs_as_the_curves_whichever_are_shown(
    demo, demo_store, monkeypatch
):
    labels = run_scores.run_labels(run_scores.read_task(demo_store, "demo"))
    names = ["lr1e-3_ep5_n1000", "lr3e-3_ep15_n1000"]
    curves = seen(show("curves.py", demo, monkeypatch, runs=names)).replace("\\", "")
    [best] = [name for name in names if f"of **{labels[name]}** has memorized" in curves]
    [expected] = re.findall(r"Expect \*\*(.+?)\*\* on new problems", curves)
    verdict = seen(show("verdict.py", demo, monkeypatch, runs=names, run=best)).replace("\\", "")
    assert f"expect {expected} on new problems" in verdict


def test_the_objective_goes_with_the_address_to_every_page(demo, monkeypatch):
    app = show("curves.py", demo, monkeypatch, objective="linear")
    assert address(app, "objective") == "linear"
    assert "Linear R² (plain estimator) is highest at" in seen(app)
    assert address(app, "t") == address(show("fits.py", demo, monkeypatch, objective="linear"), "t")
    app = show("curves.py", demo, monkeypatch)
    assert address(app, "objective") == "identity"


def test_numbers_of_samples_that_differ_between_runs_are_both_said(tmp_path, monkeypatch):
    fill(tmp_path, {"few": (1e-4, 5), "many": (1e-3, 50)})
    shown = seen(show("curves.py", tmp_path, monkeypatch))
    assert "5 to 50 samples per training question, depending on the run" in shown
    shown = seen(show("curves.py", tmp_path, monkeypatch, runs=["many"]))
    assert "50 samples per training question," in shown


def test_the_overview_says_of_which_step_its_numbers_are(tmp_path, monkeypatch):
    store = fill(tmp_path, {"a": (1e-4, 5), "b": (1e-3, 5)})
    set_checkpoint_state(store, "b", 2, "failed", "out of memory")
    rows = show("overview.py", tmp_path, monkeypatch).dataframe[0].value.set_index("run")
    assert rows["step"].to_dict() == {"a": 2, "b": 1}
    assert rows["scored"].to_dict() == {"a": "2 of 2", "b": "1 of 2, 1 failed"}


def test_a_colour_is_called_a_learning_rate_only_where_it_is_one(tmp_path, monkeypatch):
    fill(tmp_path / "rates", {"a": (1e-4, 5), "b": (1e-3, 5)})
    fill(tmp_path / "none", {"a": (None, 5), "b": (None, 5)})
    assert "Colour: the runs by learning rate, low to high." in seen(
        show("fits.py", tmp_path / "rates", monkeypatch)
    )
    assert "Colour: the runs in their order." in seen(
        show("fits.py", tmp_path / "none", monkeypatch)
    )


def test_a_lazy_store_opens_where_nothing_is_missing_and_holds_that_in_its_address(
    tmp_path, monkeypatch
):
    planned.store(tmp_path, "lazy")
    app = show("curves.py", tmp_path, monkeypatch)
    assert float(address(app, "t")) >= planned.T
