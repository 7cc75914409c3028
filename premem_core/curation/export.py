"""Export: writes a selection as a file that a trainer loads, a batch of rows at a time."""

import csv
import json
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from premem_core.analysis.example_table import free_name
from premem_core.curation import data_card, selection
from premem_core.curation.recipe import Recipe
from premem_core.curation.shapes import KINDS, Layout, Row, make_layout
from premem_core.curation.strategies import NO_VALUE, SELECTION_COLUMNS, SIZE_COLUMNS
from premem_core.errors import UsageError
from premem_core.files import write_whole
from premem_core.store.database import Store
from premem_core.store.examples import example_of, read_example_texts

BATCH = 10_000  # rows in memory
Writing = AbstractContextManager[Callable[[list[Row]], None]]


def export_file(store: Store, chosen: pd.DataFrame, recipe: Recipe, file: Path) -> int:
    """Write the chosen examples to a file, and return the number of rows.

    The file appears when it is complete. The recipe's shape decides which columns hold question
    and solution, or the turns of a chat (`shapes`). Every shape also has id, answer, rank, score,
    one column per strategy with its value, reasons (these values in words) and the metadata fields
    of the data. An example's weight is its score ÷ the mean score. If the recipe's `weights` is
    "column", the weight is in the column `weight`. If it is "repeat", a row is repeated: as often
    as its weight, rounded, and at least once.

    Args:
        chosen: `selection.select` by the recipe.
        file: its name ends in .jsonl, .csv or .parquet.

    Raises:
        UsageError: the file cannot be written, the shape does not fit the file type or the
            examples, or `chosen` is empty.
    """
    if file.suffix not in KINDS:
        raise UsageError(f"the file name '{file.name}' must end in one of {', '.join(KINDS)}")
    if chosen.empty:
        raise UsageError("no example is chosen, so there is nothing to write; widen the bounds")
    layout = make_layout(store, chosen.index.tolist(), recipe.shape)
    layout.check_kind(file.suffix)
    written = 0
    writers: Mapping[str, Callable[[Path], Writing]] = {
        ".jsonl": _jsonl,
        ".csv": _csv,
        ".parquet": partial(_parquet, types=layout.types()),
    }
    with write_whole(file) as unfinished, writers[file.suffix](unfinished) as write:
        for batch in batches(store, chosen, recipe, layout):
            write(batch)
            written += len(batch)
    return written


def export_folder(
    store: Store,
    chosen: pd.DataFrame,
    recipe: Recipe,
    issues: pd.DataFrame,
    total: int,
    folder: Path,
) -> int:
    """Write the chosen examples to a folder, and return the number of rows.

    The folder can be loaded with `datasets.load_dataset`. It holds data/train.parquet, recipe.yaml
    and README.md (the data card), and appears when it is complete.

    Args:
        issues: `selection.find_issues` by the recipe.
        total: the number of examples from which these were chosen.

    Raises:
        UsageError: as `export_file`, or the folder exists already, or its parent folder does not.
    """
    if folder.resolve().exists():
        raise UsageError(f"the folder {folder} exists already; give the name of a new folder")
    if not folder.resolve().parent.is_dir():
        raise UsageError(f"{folder} would be in a folder that does not exist; make that first")
    with write_whole(folder) as unfinished:
        (unfinished / "data").mkdir(parents=True)
        rows = export_file(store, chosen, recipe, unfinished / "data" / "train.parquet")
        (unfinished / "recipe.yaml").write_text(recipe.to_yaml(), encoding="utf-8")
        card = data_card.make_data_card(chosen, recipe, issues, total, rows)
        (unfinished / "README.md").write_text(card, encoding="utf-8")
    return rows


def export_zip(
    store: Store,
    chosen: pd.DataFrame,
    recipe: Recipe,
    issues: pd.DataFrame,
    total: int,
    file: Path,
) -> None:
    """Write the folder of `export_folder` as a .zip file, which a browser can download."""
    with tempfile.TemporaryDirectory() as parent:
        export_folder(store, chosen, recipe, issues, total, Path(parent) / file.stem)
        shutil.make_archive(str(file.with_suffix("")), "zip", parent, file.stem)


def batches(
    store: Store, chosen: pd.DataFrame, recipe: Recipe, layout: Layout
) -> Iterator[list[Row]]:
    """The rows of a file, in the order of the selection, at most BATCH examples at a time."""
    mean = float(chosen["score"].mean())
    strategies = [criterion.strategy for criterion in recipe.criteria]
    types = _metadata_types(chosen.drop(columns=strategies))
    for start in range(0, len(chosen), BATCH):
        part = chosen.iloc[start : start + BATCH]
        texts = read_example_texts(store, part.index.tolist())
        rows = []
        values = part[strategies].astype(object).where(part[strategies].notna(), None)
        for text, rank, score, values_of_example, reasons, metadata in zip(
            texts.to_dict("records"),
            part["rank"].tolist(),
            part["score"].tolist(),
            values.to_dict("records"),
            selection.reasons(part, recipe),
            part[list(types)].to_dict("records"),
            strict=True,
        ):
            weight = score / mean if mean else 1.0
            row: Row = {
                "id": text["id"],
                **layout.row(example_of(text)),
                "answer": text["answer"] or "",
                "rank": rank,
                "score": round(score, 6),
                **({"weight": round(weight, 6)} if recipe.weights == "column" else {}),
                **{str(name): value for name, value in values_of_example.items()},
                "reasons": reasons,
            }
            for name, convert in types.items():
                missing = "" if convert is str else None
                value = metadata[name]
                row[free_name(name, row)] = missing if value == NO_VALUE else convert(value)
            rows += [row] * (max(1, round(weight)) if recipe.weights == "repeat" else 1)
        yield rows


def _metadata_types(examples: pd.DataFrame) -> dict[str, Callable[[Any], int | float | str]]:
    """The type of each metadata field; Parquet needs the same type in all rows."""
    types: dict[str, Callable[[Any], int | float | str]] = {}
    for column in examples:
        if column in (*SIZE_COLUMNS, *SELECTION_COLUMNS):
            continue
        values = [value for value in examples[column] if value != NO_VALUE]
        kinds = {type(value) for value in values}
        if kinds <= {int, float} and all(abs(value) < 2**63 for value in values):
            types[str(column)] = float if float in kinds else int
        else:
            types[str(column)] = str
    return types


@contextmanager
def _jsonl(file: Path) -> Iterator[Callable[[list[Row]], None]]:
    with file.open("w", encoding="utf-8", newline="\n") as out:
        yield lambda rows: out.writelines(
            json.dumps(row, ensure_ascii=False) + "\n" for row in rows
        )


@contextmanager
def _csv(file: Path) -> Iterator[Callable[[list[Row]], None]]:
    with file.open("w", encoding="utf-8", newline="") as out:
        writer: csv.DictWriter[str] | None = None

        def write(rows: list[Row]) -> None:
            nonlocal writer
            if writer is None:
                writer = csv.DictWriter(out, list(rows[0]))
                writer.writeheader()
            writer.writerows(rows)

        yield write


@contextmanager
def _parquet(file: Path, types: Mapping[str, pa.DataType]) -> Iterator[Callable[[list[Row]], None]]:
    writer: pq.ParquetWriter | None = None

    def write(rows: list[Row]) -> None:
        nonlocal writer
        if writer is None:
            # A column without any value in the first batch holds numbers: texts are never missing.
            inferred = pa.Table.from_pylist(rows).schema
            found = {f.name: pa.float64() if pa.types.is_null(f.type) else f.type for f in inferred}
            writer = pq.ParquetWriter(file, pa.schema(found | dict(types)))
        writer.write_table(pa.Table.from_pylist(rows, writer.schema))

    try:
        yield write
    finally:
        if writer is not None:
            writer.close()
