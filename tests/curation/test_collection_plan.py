"""The plan of new problems: how many of which seed, and the files that ask for them."""

import json

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from premem_core.__main__ import app
from premem_core.curation import collection_plan
from premem_core.curation.collection_plan import NewProblem
from premem_core.errors import UsageError
from premem_core.store.database import Store
from tests.helpers import planned


def chosen(scores, levels=None) -> pd.DataFrame:
    n = len(scores)
    frame = pd.DataFrame({"id": [f"p{i}" for i in range(n)], "score": scores}, range(10, 10 + n))
    return frame.assign(level=levels) if levels else frame


@given(
    st.lists(st.floats(0, 1, allow_subnormal=False), min_size=1, max_size=30),
    st.integers(1, 200),
)
def test_all_new_problems_are_shared_in_proportion(scores, new):
    found = collection_plan.plan_collection(chosen(scores), new)
    assert found["new"].sum() == new
    assert ((found["new"] - found["weight"] * new).abs() < 1).all()


def test_a_seed_wanted_twice_as_much_has_twice_as_many():
    found = collection_plan.plan_collection(chosen([0.8, 0.4, 0.4]), 8)
    assert found["new"].tolist() == [4, 2, 2]
    assert found["weight"].tolist() == pytest.approx([0.5, 0.25, 0.25])


def test_a_rare_weak_group_is_covered():
    data = chosen([0.5] * 9 + [0.9], ["easy"] * 9 + ["hard"])
    plainly, covering = (
        collection_plan.plan_collection(data, 28, each) for each in (None, "level")
    )
    assert plainly.set_index("id")["new"]["p9"] == 5  # .9 of 5.4
    by_group = covering.groupby("group")["new"].sum()
    assert by_group.to_dict() == {"easy": 10, "hard": 18}  # as their mean scores


def test_seeds_and_new_problems_are_counted_by_group():
    data = chosen([0.5, 0.5, 0.9], ["easy", "easy", "hard"])
    counts = collection_plan.count_by_group(collection_plan.plan_collection(data, 14, "level"))
    assert counts["group"].tolist() == ["easy", "hard"]
    assert counts["seeds"].tolist() == [2, 1]
    assert counts["new"].tolist() == [5, 9]


@pytest.mark.parametrize(
    ("asked", "sentence"),
    [
        ((chosen([0.5]), 0), "at least 1 new problem"),
        ((chosen([]), 5), "no example is chosen to be a seed"),
        ((chosen([0.5]), 5, "level"), "no field 'level'"),
    ],
)
def test_what_cannot_be_planned_is_one_sentence(asked, sentence):
    with pytest.raises(UsageError, match=sentence):
        collection_plan.plan_collection(*asked)


def test_texts_with_braces_are_asked_for_as_they_are():
    told = collection_plan.writing_prompt("What is {solution} of {x}?", "It is {question}.")
    assert "Problem: What is {solution} of {x}?" in told
    assert told.endswith("Solution: It is {question}.")


def test_the_command_writes_a_worksheet_and_prompts(tmp_path):
    home = planned.store(tmp_path / "store", "full")
    recipe, sheet, asked = (tmp_path / name for name in ("r.yaml", "new.csv", "new.jsonl"))
    common = ["--store", str(home.path)]
    made = ["curate", *common, "--run", "slow", "--below", "0.5", "--log-log-threshold", "-2.3"]
    made += ["--recipe", str(recipe), "--out", str(tmp_path / "hard.jsonl")]
    assert CliRunner().invoke(app, made).exit_code == 0
    command = ["collect", *common, "--from-recipe", str(recipe), "--new", "40"]
    result = CliRunner().invoke(app, [*command, "--worksheet", str(sheet), "--prompts", str(asked)])
    assert result.exit_code == 0, result.output
    assert result.output.startswith("40 new problems like ")
    rows = pd.read_csv(sheet, dtype=str, keep_default_na=False)
    lines = [json.loads(line) for line in asked.read_text(encoding="utf-8").splitlines()]
    assert len(rows) == len(lines) == len({line["id"] for line in lines}) == 40
    assert rows["id"].tolist() == [line["id"] for line in lines]
    assert (rows["new_question"] == "").all()
    seed = lines[0]["seed"]
    assert f"Problem: train {seed}?\n\nSolution: #### {seed}" in lines[0]["messages"][0]["content"]
    result = CliRunner().invoke(app, command)
    assert "there is nothing to write" in str(result.exception)


def test_a_spreadsheet_computes_nothing_that_a_worksheet_holds(tmp_path, monkeypatch):
    seed = NewProblem("=1+1-new-1", "=1+1", "=HYPERLINK(A1)", "- first\n= 2")
    monkeypatch.setattr(collection_plan, "new_problems", lambda *_: [seed])
    collection_plan.write_worksheet(
        Store(tmp_path / "store"), "task", pd.DataFrame(), tmp_path / "new.csv"
    )
    [row] = pd.read_csv(tmp_path / "new.csv", dtype=str, keep_default_na=False).to_numpy().tolist()
    texts = ["'=1+1-new-1", "'=1+1", "'=HYPERLINK(A1)", "'- first\n= 2"]
    assert row == [*texts, "", "", ""]
