"""curate and collect on the command line: what they write, and what they will not overwrite."""

import json
from pathlib import Path

import pandas as pd
import pytest
from typer.testing import CliRunner

from premem_core.__main__ import app
from premem_core.curation.recipe import Criterion, Recipe
from tests.helpers import planned
from tests.helpers.commands import premem


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> Path:
    return planned.store(tmp_path_factory.mktemp("curate") / "store", "full", levels=3).path


@pytest.fixture
def run(store):
    """Gives a command to the store."""

    def invoke(*words: object):
        command, *others = map(str, words)
        return CliRunner().invoke(app, [command, "--store", str(store), *others])

    return invoke


JUDGED = ("--run", "slow", "--run", "fast", "--log-log-threshold", "-2.3")


def test_all_that_a_recipe_says_can_be_said_in_options(run, store, tmp_path):
    out, recipe = tmp_path / "out.jsonl", tmp_path / "recipe.yaml"
    said = [
        *("--strategy", "premem", "--strategy", "perplexity", "--strategy", "metadata:level"),
        *("--below", "0.75", "--above", "perplexity=1.01", "--weight", "perplexity=2"),
        *("--budget", 20, "--quota-field", "level", "--quota", "Level 1=0.1"),
        *("--gate", "duplicates", "--gate", "leaks=0.9", "--combine", "any", "--seed", 7),
        *("--keep", "5", "--drop", "6", "--excuse", "7", "--shape", "messages"),
        *("--weights", "column", "--estimator", "jackknife"),
    ]
    result = run("curate", *JUDGED, *said, "--out", out, "--recipe", recipe)
    assert result.exit_code == 0, result.output
    written = Recipe.from_yaml(recipe.read_text())
    assert written == Recipe(
        "toy", ("slow", "fast"), -2.3,
        (
            Criterion("premem", below=0.75),
            Criterion("perplexity", above=1.01, weight=2.0),
            Criterion("metadata:level"),
        ),
        estimator="jackknife", combine="any", budget=20, quota_field="level",
        quotas={"Level 1": 0.1}, gates={"duplicates": 0.5, "leaks": 0.9}, seed=7,
        kept=("5",), dropped=("6",), excused=("7",), shape="messages", weights="column",
        store_version=written.store_version, threshold_source="given",
    )  # fmt: skip
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert len(rows) == 20
    assert rows[0]["id"] == "5"
    assert {"premem", "perplexity", "metadata:level", "reasons", "weight", "messages"} <= set(
        rows[0]
    )
    again = tmp_path / "again.jsonl"
    assert run("curate", "--from-recipe", recipe, "--out", again).exit_code == 0
    assert again.read_bytes() == out.read_bytes()


@pytest.mark.parametrize(
    "more",
    [
        ("--budget", "3"),
        ("--below", "0"),
        ("--run", "slow"),
        ("--gate", "leaks"),
        ("--seed", "0"),
        ("--shape", "alpaca"),
    ],
)
def test_what_a_recipe_says_cannot_be_said_beside_it(run, tmp_path, more):
    recipe, out = tmp_path / "r.yaml", tmp_path / "out.jsonl"
    assert run("curate", *JUDGED, "--out", out, "--recipe", recipe).exit_code == 0
    out.unlink()
    result = run("curate", "--from-recipe", recipe, *more, "--out", out)
    assert f"{more[0]} cannot be combined with --from-recipe" in str(result.exception)
    assert not out.exists()


def test_examples_whose_samples_were_not_drawn_are_counted(run, tmp_path):
    home = planned.store(tmp_path / "store", "last")
    options = ("--run", "fast", "--log-log-threshold", planned.T - 1, "--out", tmp_path / "out.csv")
    done = premem("curate", "--store", home.path, *options)
    assert done.returncode == 0, done.stderr
    chosen = int(done.stdout.split()[0])
    assert 0 < chosen < 60
    assert f"note: {60 - chosen} of 60 examples have no value of 'premem'" in done.stderr
    assert "note:" not in run("curate", *JUDGED, "--out", tmp_path / "all.csv").stderr


def test_a_store_that_has_changed_is_told_of(run, tmp_path):
    recipe, out = tmp_path / "r.yaml", tmp_path / "out.jsonl"
    assert run("curate", *JUDGED, "--out", out, "--recipe", recipe).exit_code == 0
    assert "has changed" not in run("curate", "--from-recipe", recipe, "--out", out).output
    text = recipe.read_text()
    version = Recipe.from_yaml(text).store_version
    recipe.write_text(text.replace(f"store_version: {version}", "store_version: 999"))
    result = run("curate", "--from-recipe", recipe, "--out", out)
    assert result.exit_code == 0
    assert "the store has changed since the recipe was written" in result.output


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("--below", "x"), "--below takes NAME=NUMBER, not 'premem=x'"),
        (("--below", "ifd=1"), "--below ifd=1 is for a strategy that is not given"),
        (("--below", "nan"), "a threshold or bound must be a finite number"),
        (("--weight", "premem=0"), "the weight of a strategy must be a number above 0"),
        (("--quota", "x=0.5"), "quotas are given without a metadata field"),
        (("--quota-field", "level", "--quota", "Level 1"), "--quota takes NAME=NUMBER"),
        (("--gate", "duplicates=0"), "takes a value from 0.05 to 1"),
        (("--seed", "-1"), "the seed must be at least 0"),
        (("--strategy", "random", "--seed", "-1"), "the seed must be at least 0"),
    ],
)
def test_options_that_cannot_be_are_one_sentence(run, tmp_path, words, sentence):
    out = tmp_path / "out.jsonl"
    result = run("curate", *JUDGED, *words, "--out", out)
    assert sentence in str(result.exception)
    assert list(tmp_path.iterdir()) == []


def test_a_threshold_that_is_no_number_is_one_sentence(run, tmp_path):
    said = ("--run", "slow", "--log-log-threshold", "nan", "--out", tmp_path / "a.jsonl")
    assert "must be a finite number, not nan" in str(run("curate", *said).exception)


def test_nothing_that_is_read_or_written_besides_is_overwritten(run, tmp_path):
    test, recipe, out = (tmp_path / each for each in ("test.jsonl", "r.yaml", "out.jsonl"))
    test.write_text('{"question": "what?"}\n')
    assert run("curate", *JUDGED, "--out", out, "--recipe", recipe).exit_code == 0
    collect = ("collect", "--from-recipe", recipe, "--new", 5)
    before = {each: each.read_bytes() for each in tmp_path.iterdir()}
    for words in (
        ("curate", *JUDGED, "--out", out, "--recipe", out),
        ("curate", *JUDGED, "--gate", "leaks", "--against", test, "--out", test),
        ("curate", "--from-recipe", recipe, "--out", out, "--recipe", recipe),
        ("curate", *JUDGED, "--out", tmp_path / "new.jsonl", "--recipe", tmp_path / "no" / "r"),
        (*collect, "--worksheet", recipe),
        (*collect, "--worksheet", tmp_path / "w", "--prompts", tmp_path / "w"),
        (*collect, "--worksheet", tmp_path / "w", "--prompts", tmp_path / "no" / "p"),
    ):
        result = run(*words)
        assert "give another path" in str(result.exception), words
        assert {each: each.read_bytes() for each in tmp_path.iterdir()} == before


def test_a_folder_in_no_folder_is_refused_and_a_file_without_a_value_is_written(run, tmp_path):
    result = run("curate", *JUDGED, "--out", tmp_path / "no" / "folder")
    assert "in a folder that does not exist" in str(result.exception)
    out = tmp_path / "some.parquet"
    words = ("--strategy", "premem", "--strategy", "metadata:level", "--combine", "any")
    assert run("curate", *JUDGED, *words, "--out", out).exit_code == 0
    assert pd.read_parquet(out)["metadata:level"].dtype == float


def test_without_a_run_all_scored_runs_of_the_task_judge_and_that_is_said(run, store, tmp_path):
    out, recipe = tmp_path / "all.jsonl", tmp_path / "all.yaml"
    options = ["--out", out, "--recipe", recipe, "--log-log-threshold", "-2.3"]
    result = run("curate", *options)
    assert result.exit_code == 0, result.output
    assert "judged by all 2 scored runs of the task 'toy': slow, fast" in result.output
    assert Recipe.from_yaml(recipe.read_text()).runs == ("slow", "fast")
    named = tmp_path / "named.jsonl"
    assert run("curate", "--out", named, *JUDGED).exit_code == 0
    assert named.read_bytes() == out.read_bytes()


def test_a_task_that_is_not_the_runs_own_is_refused(run, tmp_path):
    result = run("curate", "--out", tmp_path / "x.jsonl", "--task", "other", *JUDGED)
    assert "the run 'slow' is of the task 'toy', not of 'other'" in str(result.exception)
