"""Quality gates: what each finds, why it says so, and how a person lets an example through."""

import json
from dataclasses import replace

import pandas as pd
import pytest
from typer.testing import CliRunner

from premem_core.__main__ import app
from premem_core.analysis import run_scores
from premem_core.curation import quality_gates, selection, strategies, suspect_labels
from premem_core.curation.recipe import Criterion, Recipe
from premem_core.demo import demo_study
from premem_core.errors import DataError, UsageError
from premem_core.store.database import Store
from tests.helpers import planned

RUN = "lr1e-3_ep5_n1000"
T = -2.13


@pytest.fixture(scope="module")
def toy(tmp_path_factory) -> Store:
    return planned.store(tmp_path_factory.mktemp("gates"), "full")


@pytest.fixture(scope="module")
def shipped(tmp_path_factory) -> Store:
    folder = tmp_path_factory.mktemp("gates") / "store"
    demo_study.install(folder)
    return Store(folder)


def evidence_of(
    store: Store, task: str, names=None, t: float = planned.T
) -> strategies.ExampleFacts:
    runs = [run for run in run_scores.read_task(store, task) if names is None or run.run in names]
    return strategies.read_example_facts(store, task, runs, t)


def recipe(**others) -> Recipe:
    return Recipe("toy", ("slow", "fast"), planned.T, (Criterion("premem"),), **others)


def found_by(store: Store, task: str, evidence, asked, against=None, order=None, stay=()):
    """What each gate finds of an order of candidates; of all as they stand in the store."""
    candidates = evidence.examples.index if order is None else order
    finders = quality_gates.finders(store, task, evidence, asked, against)
    found = pd.concat([find(candidates, stay) for find in finders.values()])
    return found.assign(id=evidence.examples["id"].reindex(found.index))


def test_suspect_labels_are_those_of_labels_from_a_suspicion_on(shipped):
    evidence = evidence_of(shipped, demo_study.TASK, [RUN], T)
    found = found_by(shipped, demo_study.TASK, evidence, {"labels": 0.4})
    suspects = suspect_labels.find_suspect_labels(shipped, evidence.runs, T)
    suspects = suspects[suspects["suspicion"] >= 0.4]
    assert 0 < len(found) == len(suspects)
    assert found["value"].tolist() == suspects["suspicion"].tolist()
    first = suspects.iloc[0]
    assert found["why"].iloc[0] == (
        f"{first['agree']} of {first['samples']} samples from before memorization answer "
        f"{first['suggested']}, {first['with_reference']} answer {first['reference']} as its "
        "solution does"
    )
    assert len(found_by(shipped, demo_study.TASK, evidence, {"labels": None})) < len(found)


@pytest.mark.parametrize(
    "rows",
    [
        [
            {"id": "mine", "question": "TRAIN  5 ?", "answer": "#### 1"},
            {"id": "x", "question": "?"},
        ],
        [{"problem": "what else"}, {"problem": "train 5"}],  # a question is all that is needed
    ],
)
def test_leaks_are_found_from_the_store_and_from_a_file(toy, tmp_path, rows):
    evidence = evidence_of(toy, "toy")
    assert found_by(toy, "toy", evidence, {"leaks": None}).empty  # "train 3?" and "test 3?"
    file = tmp_path / "test.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    [row] = found_by(toy, "toy", evidence, {"leaks": None}, file).to_dict("records")
    assert (row["id"], row["value"]) == ("5", 1.0)
    name = rows[0].get("id", "row 2")
    assert row["why"] == f"the same as test problem {name}"
    assert row["beside"].strip(" ?").lower().split() == ["train", "5"]
    assert len(quality_gates.test_questions(toy, "toy", file)) == len(
        quality_gates.test_questions(toy, "toy", None)
    ) + len(rows)


def test_a_file_without_questions_is_one_sentence(toy, tmp_path):
    file = tmp_path / "test.jsonl"
    file.write_text('{"text": "what"}\n')
    with pytest.raises(DataError, match="has the columns text; expected a column of questions"):
        found_by(toy, "toy", evidence_of(toy, "toy"), {"leaks": None}, file)


def test_answers_that_cannot_be_read_or_that_the_solution_contradicts_are_found(tmp_path):
    home = planned.store(tmp_path, "full", 20)
    odd = {3: ("so many", "an unknown number"), 8: ("#### 9", "8"), 9: ("9 in all.", "9")}
    with home.writing() as connection:
        for n, texts in odd.items():
            connection.execute(
                "UPDATE examples SET solution = ?, answer = ? WHERE id = ? AND split = 'train'",
                [*texts, str(n)],
            )
    found = found_by(home, "toy", evidence_of(home, "toy"), {"unparsed": None})
    assert dict(zip(found["id"], found["why"], strict=True)) == {
        "3": "the grader gsm8k cannot read its answer 'an unknown number'",
        "8": "its solution ends with 9, but its answer is 8",
    }


@pytest.fixture
def twins(tmp_path) -> Store:
    """Examples 5 and 9 ask the same."""
    home = planned.store(tmp_path, "full")
    with home.writing() as connection:
        connection.execute(
            "UPDATE examples SET question = 'Train 5' WHERE id = '9' AND split = 'train'"
        )
    return home


def chosen_of(home: Store, asked: Recipe) -> tuple[list[str], list[str]]:
    _, found, chosen = selection.build_selection(home, asked)
    return found["id"].tolist(), chosen["id"].tolist()


def test_of_twins_the_more_wanted_one_stays_until_the_other_is_let_through(twins):
    asked = recipe(gates={"duplicates": None})
    order = chosen_of(twins, recipe())[1]
    first, second = sorted(("5", "9"), key=order.index)
    _, found, chosen = selection.build_selection(twins, asked)
    [row] = found.to_dict("records")
    assert (row["id"], row["why"]) == (second, f"the same as {first}")
    assert row["beside"] == {"5": "train 5?", "9": "Train 5"}[first]
    assert chosen["id"].tolist() == [each for each in order if each != second]
    assert chosen_of(twins, replace(asked, excused=(second,))) == ([second], order)
    out, kept = chosen_of(twins, replace(asked, kept=(second,)))
    assert (out, kept[0]) == ([first], second)


@pytest.mark.parametrize("left", ["5", "9"])
def test_a_twin_whose_other_is_not_chosen_stays(twins, left):
    asked = recipe(gates={"duplicates": None}, dropped=(left,))
    found, chosen = chosen_of(twins, asked)
    assert found == []
    assert {"5", "9"} - {left} <= set(chosen)


def test_a_twin_whose_other_another_gate_takes_out_stays(twins):
    with twins.writing() as connection:
        connection.execute(
            "UPDATE examples SET solution = '#### 6' WHERE id = '5' AND split = 'train'"
        )
    asked = recipe(gates={"duplicates": None, "unparsed": None})
    found, chosen = chosen_of(twins, asked)
    assert found == ["5"]
    assert "9" in chosen
    evidence = evidence_of(twins, "toy")
    finders = quality_gates.finders(twins, "toy", evidence, asked.gates)
    backwards = {name: finders[name] for name in ("duplicates", "unparsed")}
    assert selection.find_issues(evidence, asked, backwards)["id"].tolist() == ["5"]


def test_what_does_not_qualify_is_not_counted_as_left_out(twins):
    asked = recipe(gates={"duplicates": None}, kept=("5",))
    nothing = replace(asked, criteria=(Criterion("premem", below=-1.0),))
    assert chosen_of(twins, nothing) == ([], ["5"])


@pytest.mark.parametrize(
    ("asked", "sentence"),
    [
        ({"colour": None}, "there is no gate 'colour'; the gates are labels, leaks, unparsed"),
        ({"duplicates": 0.0}, "'duplicates' takes a value from 0.05 to 1, not 0.0"),
        ({"leaks": float("nan")}, "'leaks' takes a value from 0.05 to 1, not nan"),
        ({"unparsed": 0.5}, "'unparsed' takes no value, but 0.5 was given"),
        ({"labels": None}, "no chosen run has completions from before memorization"),
    ],
)
def test_a_gate_that_cannot_look_says_why(toy, asked, sentence):
    with pytest.raises(UsageError, match=sentence):
        quality_gates.finders(toy, "toy", evidence_of(toy, "toy"), asked)


def test_curate_tells_what_its_gates_found_and_writes_a_folder_with_a_card(shipped, tmp_path):
    out = tmp_path / "hard"
    command = ["curate", "--store", str(shipped.path), "--run", RUN, "--below", "0.75"]
    command += ["--gate", "labels=0.4", "--gate", "duplicates", "--json", "--out", str(out)]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 0, result.output
    told = json.loads(result.output)
    assert told["gates"]["labels"] > 0
    card = (out / "README.md").read_text()
    assert f"# {told['examples']:,} training examples of demo" in card
    assert f"- suspected wrong labels, from 0.4: {told['gates']['labels']:,}" in card
    assert f"from {told['of']:,} training examples" in card
    assert "arXiv:2411.07681" in card
    again = tmp_path / "again"
    rebuilt = ["curate", "--store", str(shipped.path), "--from-recipe", str(out / "recipe.yaml")]
    assert CliRunner().invoke(app, [*rebuilt, "--out", str(again)]).exit_code == 0
    for file in ("data/train.parquet", "recipe.yaml", "README.md"):
        assert (out / file).read_bytes() == (again / file).read_bytes()
    result = CliRunner().invoke(app, command)
    assert "exists already; give the name of a new folder" in str(result.exception)
