"""The Grades page: graders compared, disagreements verbatim, grades set by hand."""

import shutil
from pathlib import Path

import pandas as pd
import pytest
from streamlit.testing.v1 import AppTest

from premem_core.dashboard import cached_reads
from premem_core.grading import grader_comparison, hand_grades, regrade, run_graders
from premem_core.grading.run_graders import AS_SCORED
from premem_core.records import Grade
from premem_core.store.database import Store
from tests.helpers.demo import RUN, counts, imported, old_store, wrong
from tests.helpers.paths import PAGES
from tests.helpers.shown import show, verbatim

FIRST, LONGEST = "lr3e-4_ep5_n500", "lr3e-3_ep24_n500"  # by learning rate


@pytest.fixture
def store(tmp_path) -> Store:
    return old_store(tmp_path / "store")


@pytest.fixture(scope="module")
def graded_by_math_and_paper(tmp_path_factory) -> Path:
    """That store with two runs graded again; the grades of their jobs still count."""
    store = old_store(tmp_path_factory.mktemp("graded") / "store")
    for run, grader in ((FIRST, "math"), (FIRST, "paper"), (LONGEST, "math")):
        regrade.grade_again(store, run, grader)
    return store.path


@pytest.fixture
def graded(graded_by_math_and_paper, tmp_path) -> Store:
    shutil.copytree(graded_by_math_and_paper, tmp_path / "graded")
    return Store(tmp_path / "graded")


def page_of(store: Store, monkeypatch) -> AppTest:
    monkeypatch.setenv("PREMEM_STORE", str(store.path))
    cached_reads.store.clear()
    app = AppTest.from_file(str(PAGES / "grades.py"), default_timeout=60)
    app.query_params["run"] = FIRST
    return app


@pytest.fixture
def page(store, monkeypatch) -> AppTest:
    return page_of(store, monkeypatch)


def shown(page: AppTest) -> str:
    assert not page.exception
    return " ".join(element.value for element in [*page.markdown, *page.caption])


def test_the_page_grades_compares_and_shows_a_disagreement_verbatim(page, store):
    page.run()
    assert "**math** has not graded 20,000 completions" in shown(page)
    first = run_graders.regradable_runs(store)[0]
    page.selectbox(key="against").select("paper").run()
    page.button[0].click().run()
    compared = grader_comparison.compare_graders(store, first, AS_SCORED, "paper")
    assert f"disagree on **{compared.disagreements:,}** of 20,000 completions" in shown(page)
    [table] = page.dataframe
    assert len(table.value) == 1000
    row = grader_comparison.disagreements(store, first, AS_SCORED, "paper", limit=1).iloc[0]
    texts = verbatim(page)
    assert texts == [
        *(row["question"], row["solution"], row["answer"]),
        *(row["completion"], row["extracted_one"], row["extracted_other"]),
    ]

    page.segmented_control(key="kind").set_value("unparsed, incorrect").run()
    assert set(page.dataframe[0].value["grade_one"]) == {"unparsed"}
    assert "(no answer found)" in verbatim(page)

    before = counts(store)
    page.button[0].click().run()
    assert "are those of **paper**" in shown(page)
    assert not counts(store).equals(before)
    page.button[0].click().run()
    assert f"are those of **{AS_SCORED}**" in shown(page)
    pd.testing.assert_frame_equal(counts(store), before)


def test_a_kind_that_another_pair_of_graders_does_not_have_is_forgotten(graded, monkeypatch):
    page = page_of(graded, monkeypatch)
    page.query_params["against"] = "paper"
    page.query_params["kind"] = "unparsed, incorrect"
    page.run()
    assert page.segmented_control(key="kind").value == "unparsed, incorrect"
    page.selectbox(key="against").select("math").run()
    assert "agree on all 20,000 completions" in shown(page)
    page.selectbox(key="grader").select("math").run()
    assert not page.exception


def test_a_completion_named_in_the_url_is_the_one_that_is_shown(graded, monkeypatch):
    page = page_of(graded, monkeypatch)
    row = grader_comparison.disagreements(graded, FIRST, AS_SCORED, "paper").iloc[41]
    page.query_params["against"] = "paper"
    page.query_params["completion"] = row.name
    page.run()
    assert row["completion"] in verbatim(page)


def test_an_unparsed_completion_among_others_says_that_no_answer_was_found(graded, monkeypatch):
    page = page_of(graded, monkeypatch)
    rows = grader_comparison.disagreements(graded, LONGEST, AS_SCORED, "math")
    assert len(set(rows["grade_one"])) == 3
    page.run()
    page.query_params["completion"] = rows.index[rows["grade_one"] == "UNPARSED"][0]
    page.selectbox(key="run").select(LONGEST).run()
    assert not page.exception
    assert "(no answer found)" in verbatim(page)


def test_a_task_of_imported_runs_says_that_there_is_nothing_to_grade(page, store):
    imported(store)
    page.run()
    page.selectbox(key="task").select("t").run()
    assert not page.exception
    assert "imported without completions" in page.info[0].value


def test_the_page_of_grades_lists_those_set_by_hand(store, monkeypatch):
    hand_grades.set_grade(store, RUN, wrong(store), Grade.CORRECT, "it is right")
    regrade.grade_again(store, RUN, "paper")  # its tables need another grader
    test = show("grades.py", store.path, monkeypatch, run=RUN)
    assert "Grades set by hand" in [each.value for each in test.subheader]
