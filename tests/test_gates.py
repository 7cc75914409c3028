"""Quality gates: what each finds, why it says so, and how a person lets an example through."""

import json
from dataclasses import replace

import planned
import pytest
from typer.testing import CliRunner

from premem_core import curation, curves, demo, gates, labels, rankings
from premem_core.__main__ import app
from premem_core.curation import Criterion, Recipe
from premem_core.errors import UsageError
from premem_core.store import Store
from premem_core.types import Example

RUN = "lr1e-3_ep5_n1000"
T = -2.13


@pytest.fixture(scope="module")
def toy(tmp_path_factory) -> Store:
    return planned.store(tmp_path_factory.mktemp("gates"), "full")


@pytest.fixture(scope="module")
def shipped(tmp_path_factory) -> Store:
    folder = tmp_path_factory.mktemp("gates") / "store"
    demo.install(folder)
    return Store(folder)


def evidence_of(store: Store, task: str, names=None, t: float = planned.T) -> rankings.Evidence:
    runs = [run for run in curves.read_task(store, task) if names is None or run.run in names]
    return rankings.read_evidence(store, task, runs, t)


def recipe(**others) -> Recipe:
    return Recipe("toy", ("slow", "fast"), planned.T, (Criterion("premem"),), **others)


def test_suspect_labels_are_those_of_labels_from_a_suspicion_on(shipped):
    evidence = evidence_of(shipped, demo.TASK, [RUN], T)
    found = gates.find(shipped, demo.TASK, evidence, {"labels": 0.4})
    suspects = labels.suspects(shipped, evidence.runs, T)
    suspects = suspects[suspects["suspicion"] >= 0.4]
    assert 0 < len(found) == len(suspects)
    assert found["value"].tolist() == suspects["suspicion"].tolist()
    first = suspects.iloc[0]
    assert found["why"].iloc[0] == (
        f"{first['agree']} of {first['samples']} samples from before memorization answer "
        f"{first['suggested']}, {first['with_reference']} its solution's {first['reference']}"
    )
    assert len(gates.find(shipped, demo.TASK, evidence, {"labels": None})) < len(found)


def test_leaks_are_found_from_the_store_or_from_a_file(toy, tmp_path):
    evidence = evidence_of(toy, "toy")
    assert gates.find(toy, "toy", evidence, {"leaks": None}).empty  # "train 3?" and "test 3?"
    file = tmp_path / "test.jsonl"
    rows = [("mine", "TRAIN  5 ?", "#### 1"), ("other", "what else", "#### 2")]
    file.write_text(
        "".join(
            json.dumps(dict(zip(("id", "question", "answer"), row, strict=True))) + "\n"
            for row in rows
        )
    )
    [row] = gates.find(toy, "toy", evidence, {"leaks": None}, file).to_dict("records")
    assert row == {"id": "5", "gate": "leaks", "value": 1.0, "why": "the same as test problem mine"}


def test_a_solution_that_its_grader_does_not_take_for_right_is_found(tmp_path):
    home = planned.store(tmp_path, "full", 20)
    odd = {3: "no answer at all", 8: "#### 9"}
    with home.writing() as connection:
        for n, text in odd.items():
            connection.execute(
                "UPDATE examples SET solution = ? WHERE id = ? AND split = 'train'", [text, str(n)]
            )
    found = gates.find(home, "toy", evidence_of(home, "toy"), {"unparsed": None})
    assert dict(zip(found["id"], found["why"], strict=True)) == {
        "3": "its own solution is graded unparsed by gsm8k",
        "8": "its own solution is graded incorrect by gsm8k",
    }


def test_a_gate_keeps_examples_out_of_a_selection_until_they_are_excused(tmp_path):
    home = planned.store(tmp_path, "full")
    home.add_examples("toy", "train", [Example("5", "train 5?", "#### 5", "5")])
    with home.writing() as connection:
        connection.execute(
            "UPDATE examples SET question = 'Train 5' WHERE id = '9' AND split = 'train'"
        )
    evidence = evidence_of(home, "toy")
    asked = recipe(gates={"duplicates": None})
    found = curation.removed(home, evidence, asked)
    assert found[["id", "why"]].to_numpy().tolist() == [["9", "the same as 5"]]
    chosen = curation.select(evidence, asked, found.index)
    assert set(evidence.examples["id"]) - set(chosen["id"]) == {"9"}
    for by_hand in ({"excused": ("9",)}, {"kept": ("9",)}):
        again = curation.select(evidence, replace(asked, **by_hand), found.index)
        assert len(again) == len(evidence.examples)


@pytest.mark.parametrize(
    ("asked", "sentence"),
    [
        ({"colour": None}, "there is no gate 'colour'; there are labels, duplicates, leaks"),
        ({"labels": None}, "no chosen run has completions from before it memorized"),
    ],
)
def test_a_gate_that_cannot_look_says_why(toy, asked, sentence):
    with pytest.raises(UsageError, match=sentence):
        gates.find(toy, "toy", evidence_of(toy, "toy"), asked)


def test_no_gate_finds_nothing(toy):
    assert gates.find(toy, "toy", evidence_of(toy, "toy"), {}).empty


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
    assert "- suspected wrong labels: " in card
    assert "arXiv:2411.07681" in card
    again = tmp_path / "again"
    rebuilt = ["curate", "--store", str(shipped.path), "--from-recipe", str(out / "recipe.yaml")]
    assert CliRunner().invoke(app, [*rebuilt, "--out", str(again)]).exit_code == 0
    for file in ("data/train.parquet", "recipe.yaml", "README.md"):
        assert (out / file).read_bytes() == (again / file).read_bytes()
    result = CliRunner().invoke(app, command)
    assert "is there; give a folder that is not" in str(result.exception)
