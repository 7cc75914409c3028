"""Exported files: kinds, shapes, weights, columns, and what is refused."""

import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from premem_core.curation import export, quality_gates, selection, strategies
from premem_core.curation.recipe import Criterion, Recipe
from premem_core.curation.shapes import KINDS, SHAPES, Layout
from premem_core.errors import UsageError
from premem_core.store.database import Store
from tests.helpers.recipes import LOW, recipe


@pytest.mark.parametrize("name", ["a.jsonl", "a.csv", "a.parquet"])
def test_a_recipe_rebuilds_the_same_file_byte_for_byte(store, evidence, tmp_path, name):
    asked = recipe(LOW, Criterion("random"), seed=5)
    files = [tmp_path / "first" / name, tmp_path / "again" / name]
    for file, each in zip(files, (asked, Recipe.from_yaml(asked.to_yaml())), strict=True):
        file.parent.mkdir()
        export.export_file(store, selection.select(evidence, each), each, file)
    assert files[0].read_bytes() == files[1].read_bytes()


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("kind", KINDS)
def test_a_file_has_the_texts_in_the_shape_that_was_asked_for(
    store, evidence, tmp_path, shape, kind
):
    chosen = selection.select(evidence, recipe(LOW))
    file = tmp_path / f"out{kind}"
    if (kind, shape) == (".csv", "messages"):
        with pytest.raises(UsageError, match="cannot be written as CSV"):
            export.export_file(store, chosen, recipe(LOW, shape=shape), file)
        assert list(tmp_path.iterdir()) == []
        return
    export.export_file(store, chosen, recipe(LOW, shape=shape), file)
    assert [each.name for each in tmp_path.iterdir()] == [file.name]
    rows = read(file).to_dict("records")
    assert [str(row["id"]) for row in rows] == chosen["id"].tolist()
    number = rows[0]["id"]
    question, solution = f"train {number}?", f"#### {number}"
    assert {
        "plain": lambda row: (row["question"], row["solution"]),
        "prompt-completion": lambda row: (row["prompt"], row["completion"]),
        "messages": lambda row: tuple(each["content"] for each in row["messages"]),
        "alpaca": lambda row: (row["instruction"], row["output"]),
    }[shape](rows[0]) == (question, solution)
    assert rows[0]["reasons"].startswith("PM ")
    assert [row["premem"] for row in rows] == pytest.approx(chosen["premem"].tolist())


def test_weights_are_scores_over_their_mean_in_a_column_or_by_repetition(store, evidence, tmp_path):
    chosen = selection.select(evidence, recipe(LOW))
    weight = (chosen["score"] / chosen["score"].mean()).to_numpy()
    column, repeat = tmp_path / "column.jsonl", tmp_path / "repeat.jsonl"
    n = export.export_file(store, chosen, recipe(LOW, weights="column"), column)
    assert (n, len(read(column))) == (len(chosen), len(chosen))
    np.testing.assert_allclose(read(column)["weight"], weight, atol=1e-6)
    n = export.export_file(store, chosen, recipe(LOW, weights="repeat"), repeat)
    often = read(repeat)["id"].value_counts()
    assert n == often.sum() > len(chosen)
    assert often[chosen["id"]].tolist() == np.maximum(1, np.round(weight)).tolist()


def test_a_value_that_the_first_rows_lack_is_written_all_the_same(
    store, evidence, tmp_path, monkeypatch
):
    monkeypatch.setattr(export, "BATCH", 10)
    lost = pd.Series(0.5, evidence.examples.index[40:])
    known = replace(evidence, accuracy_lost=lambda run: lost)
    asked = recipe(Criterion("premem", below=0.75), Criterion("brittle"), combine="any")
    chosen = selection.select(known, asked).sort_values("brittle", na_position="first")
    for kind in KINDS:
        export.export_file(store, chosen, asked, tmp_path / f"out{kind}")
        found = read(tmp_path / f"out{kind}")["brittle"]
        np.testing.assert_array_equal(found, chosen["brittle"])
        assert found.isna().head(10).all()
        assert found.notna().any()


def read(file: Path) -> pd.DataFrame:
    if file.suffix == ".jsonl":
        return pd.read_json(file, lines=True, dtype={"id": str})
    return pd.read_csv(file) if file.suffix == ".csv" else pd.read_parquet(file)


def test_the_data_s_own_fields_are_in_the_file(store, evidence, tmp_path, monkeypatch):
    monkeypatch.setattr(export, "BATCH", 10)
    n = len(evidence.examples)
    fields = {
        "level": [strategies.NO_VALUE] * (n - 20) + ["Level 5", 5] * 10,  # text and numbers: text
        "points": [strategies.NO_VALUE] * (n - 20) + [2, 2.5] * 10,
        "year": [2020, 2021] * (n // 2),
        "hash": [2**70] * n,
        "answer": ["B"] * n,
    }
    own = pd.DataFrame(fields, evidence.examples.index, dtype=object)
    known = replace(evidence, examples=evidence.examples.assign(**own))
    asked = recipe(Criterion("random"))
    chosen = selection.select(known, asked).sort_index()
    for kind in KINDS:
        export.export_file(store, chosen, asked, tmp_path / f"out{kind}")
        found = read(tmp_path / f"out{kind}")
        assert found["level"].fillna("").tolist() == [""] * (n - 20) + ["Level 5", "5"] * 10
        assert found["points"].isna().head(n - 20).all()
        assert found["points"].tail(20).tolist() == [2.0, 2.5] * 10
        assert found["year"].tolist() == fields["year"]
        assert found["answer (metadata)"].tolist() == ["B"] * n
        assert found["answer"].astype(str).tolist() == found["id"].astype(str).tolist()
    assert found["hash"].tolist() == [str(2**70)] * n  # Parquet has no integer as large


def test_a_file_of_no_known_kind_or_of_nothing_is_refused(store, evidence, tmp_path):
    chosen = selection.select(evidence, recipe(LOW))
    with pytest.raises(UsageError, match="must end in one of"):
        export.export_file(store, chosen, recipe(LOW), tmp_path / "a.txt")
    with pytest.raises(UsageError, match="no example is chosen"):
        export.export_file(store, chosen.head(0), recipe(LOW), tmp_path / "a.jsonl")
    with pytest.raises(UsageError, match="cannot write"):
        export.export_file(store, chosen, recipe(LOW), tmp_path / "nowhere" / "a.jsonl")


@pytest.mark.slow
def test_a_hundred_thousand_rows_are_exported_in_little_memory(tmp_path):
    from benchmarks.export import build, curate

    home, out = Store(tmp_path / "store"), tmp_path / "out.jsonl"
    build(home, 100_000)
    _, peak, told = curate(home, out)
    assert told.startswith("100,000 of 100,000 examples")
    with out.open(encoding="utf-8") as lines:
        assert sum(1 for _ in lines) == 100_000
    assert peak < 320  # MB; 130 are Python, pandas and DuckDB


def folder_of(store, chosen, asked, folder):
    issues = pd.DataFrame(columns=list(quality_gates.COLUMNS))
    return export.export_folder(store, chosen, asked, issues, 60, folder)


def test_a_folder_holds_the_data_its_recipe_and_a_card(store, evidence, tmp_path):
    asked = recipe(LOW, weights="repeat")
    chosen = selection.select(evidence, asked)
    rows = folder_of(store, chosen, asked, tmp_path / "hard")
    files = sorted(str(f.relative_to(tmp_path / "hard")) for f in (tmp_path / "hard").rglob("*.*"))
    assert files == ["README.md", "data/train.parquet", "recipe.yaml"]
    assert len(read(tmp_path / "hard" / "data" / "train.parquet")) == rows > len(chosen)
    assert Recipe.from_yaml((tmp_path / "hard" / "recipe.yaml").read_text()) == asked
    assert f"{rows:,} rows" in (tmp_path / "hard" / "README.md").read_text()


def test_a_folder_that_is_there_or_in_no_folder_is_refused_and_nothing_is_left(
    store, evidence, tmp_path
):
    chosen = selection.select(evidence, recipe(LOW))
    (tmp_path / "hard").mkdir()
    with pytest.raises(UsageError, match="exists already; give the name of a new folder"):
        folder_of(store, chosen, recipe(LOW), tmp_path / "hard")
    with pytest.raises(UsageError, match="in a folder that does not exist"):
        folder_of(store, chosen, recipe(LOW), tmp_path / "none" / "hard")
    with pytest.raises(UsageError, match="no example is chosen"):
        folder_of(store, chosen.head(0), recipe(LOW), tmp_path / "empty")
    assert [path.name for path in tmp_path.iterdir()] == ["hard"]


def test_a_zip_holds_the_folder_under_its_name(store, evidence, tmp_path):
    asked = recipe(LOW)
    chosen = selection.select(evidence, asked)
    issues = pd.DataFrame(columns=list(quality_gates.COLUMNS))
    export.export_zip(store, chosen, asked, issues, 60, tmp_path / "hard.zip")
    with zipfile.ZipFile(tmp_path / "hard.zip") as archive:
        files = {name for name in archive.namelist() if not name.endswith("/")}
        assert files == {"hard/README.md", "hard/recipe.yaml", "hard/data/train.parquet"}
        assert archive.read("hard/recipe.yaml").decode() == asked.to_yaml()


def test_rows_come_in_batches_that_together_are_the_whole(store, evidence, monkeypatch):
    asked = recipe(LOW)
    chosen = selection.select(evidence, asked)
    layout = Layout(asked.shape, in_turns=False)
    [whole] = export.batches(store, chosen, asked, layout)
    monkeypatch.setattr(export, "BATCH", 7)
    parts = list(export.batches(store, chosen, asked, layout))
    assert max(map(len, parts)) == 7
    assert [row for part in parts for row in part] == whole
