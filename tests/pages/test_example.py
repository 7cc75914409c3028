"""The page of one example."""

import pytest

from premem_core.demo import demo_study
from premem_core.store.completions import read_completions
from premem_core.store.database import Store
from premem_core.store.examples import read_task_examples
from premem_core.store.grades import read_overrides
from tests.helpers.demo import RUN, STEP, wrong
from tests.helpers.shown import show, tables, text, titles, verbatim


@pytest.fixture
def store(tmp_path) -> Store:
    demo_study.install(tmp_path / "store")
    return Store(tmp_path / "store")


def test_the_page_of_an_example_sets_a_grade_and_undoes_it(store, monkeypatch):
    key = wrong(store)
    examples = read_task_examples(store, "demo", "train").set_index("example")
    test = show("example.py", store.path, monkeypatch, example=examples["id"][key.example], run=RUN)
    name = f"{RUN}-{STEP}-train--{key.example}"
    test.selectbox(key=f"which-{name}").select(key.sample + 1).run()

    def of_form(widgets):
        return next(each for each in widgets if each.form_id == f"grade-{name}-{key.sample}")

    assert of_form(test.radio).options == ["correct"]
    of_form(test.button).click().run()
    assert "needs a reason" in test.error[0].value
    of_form(test.text_input).input("*it* is right")
    of_form(test.button).click().run()
    assert not test.exception
    assert read_overrides(store, RUN)["reason"].tolist() == ["*it* is right"]
    assert any(r"“\*it\* is right”" in said.value for said in test.markdown)
    assert any("correct (set by hand)" in each for each in titles(test))
    test.button(key=f"undo-{name}").click().run()
    assert read_overrides(store, RUN)["undone"].notna().all()


LONGEST = "lr3e-3_ep24_n500"


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
    assert all("example=train-" in row[0] and "t=-2.30" in row[0] for row in near)


def test_an_example_of_another_run_is_one_sentence(demo_store, monkeypatch):
    app = show("example.py", demo_store.path, monkeypatch, example="train-9999")
    assert "not trained on an example 'train\\-9999'" in app.error[0].value
