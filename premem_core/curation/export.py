"""A selection → the file that a trainer loads, in one of its shapes, a batch of rows at a time."""

import csv
import json
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from premem_core.analysis.example_table import free_name
from premem_core.curation import data_card, selection
from premem_core.curation.recipe import Recipe, Shape
from premem_core.curation.strategies import NO_VALUE, OF_SELECTION, OF_SIZES
from premem_core.errors import UsageError
from premem_core.files import write_whole
from premem_core.store.database import Store
from premem_core.store.examples import read_example_texts

BATCH = 10_000  # rows in memory
Row = dict[str, Any]
SHAPES: Mapping[Shape, Callable[[str, str], Row]] = MappingProxyType(
    {
        "plain": lambda question, solution: {"question": question, "solution": solution},
        "prompt-completion": lambda question, solution: {
            "prompt": question,
            "completion": solution,
        },
        "messages": lambda question, solution: {
            "messages": [
                {"role": "user", "content": question},
                {"role": "assistant", "content": solution},
            ]
        },
        "alpaca": lambda question, solution: {
            "instruction": question,
            "input": "",
            "output": solution,
        },
    }
)
KINDS = (".jsonl", ".csv", ".parquet")


def export_file(store: Store, chosen: pd.DataFrame, recipe: Recipe, file: Path) -> int:
    """Write the chosen examples to a file of the kind that its name ends in; says how many rows.

    It appears when it is whole. What a row's texts are called is the recipe's shape; every shape
    also has id, answer, rank, score, a column per strategy with its value, reasons, the same in
    words, and the data's own metadata fields. An example's weight is its score over the mean score.
    Weights "column": it is in the column `weight`; "repeat": a row stands there as often as the
    weight says, rounded, and once at least.

    Args:
        chosen: `curation.select` by the recipe: indexed by the store's example number.
        file: .jsonl, .csv or .parquet.

    Raises:
        UsageError: no file of that kind can be written there, or there is nothing to write.
    """
    if file.suffix not in KINDS:
        raise UsageError(f"'{file.name}' must end in one of {', '.join(KINDS)}")
    if file.suffix == ".csv" and recipe.shape == "messages":
        raise UsageError("messages are nested and do not go into CSV; choose .jsonl or .parquet")
    if chosen.empty:
        raise UsageError("no example is chosen; widen the bounds")
    written = 0
    writers = {".jsonl": _jsonl, ".csv": _csv, ".parquet": _parquet}
    with write_whole(file) as unfinished, writers[file.suffix](unfinished) as write:
        for batch in batches(store, chosen, recipe):
            write(batch)
            written += len(batch)
    return written


def export_folder(
    store: Store,
    chosen: pd.DataFrame,
    recipe: Recipe,
    found: pd.DataFrame,
    of: int,
    folder: Path,
) -> int:
    """Write the chosen examples as a folder that `datasets.load_dataset` loads; says how many rows.

    data/train.parquet, recipe.yaml, and README.md, the data card. It appears when it is whole.

    Args:
        found: `curation.removed` by the recipe.
        of: so many were there to choose from.

    Raises:
        UsageError: as `export` does, or the folder is there, or the one that it is to be in is not.
    """
    if folder.resolve().exists():
        raise UsageError(f"{folder} is there; give a folder that is not")
    if not folder.resolve().parent.is_dir():
        raise UsageError(f"{folder} is to be in a folder that is not there; make that first")
    with write_whole(folder) as unfinished:
        (unfinished / "data").mkdir(parents=True)
        n = export_file(store, chosen, recipe, unfinished / "data" / "train.parquet")
        (unfinished / "recipe.yaml").write_text(recipe.to_yaml(), encoding="utf-8")
        card = data_card.make_data_card(chosen, recipe, found, of, n)
        (unfinished / "README.md").write_text(card, encoding="utf-8")
    return n


def export_zip(
    store: Store,
    chosen: pd.DataFrame,
    recipe: Recipe,
    found: pd.DataFrame,
    of: int,
    file: Path,
) -> None:
    """`export_folder`, packed in a .zip file: what a browser can download."""
    with tempfile.TemporaryDirectory() as parent:
        export_folder(store, chosen, recipe, found, of, Path(parent) / file.stem)
        shutil.make_archive(str(file.with_suffix("")), "zip", parent, file.stem)


def batches(store: Store, chosen: pd.DataFrame, recipe: Recipe) -> Iterator[list[Row]]:
    """The rows of a file, in the order of the selection."""
    make, mean = SHAPES[recipe.shape], float(chosen["score"].mean())
    strategies = [each.strategy for each in recipe.criteria]
    kinds = _metadata_kinds(chosen.drop(columns=strategies))
    for start in range(0, len(chosen), BATCH):
        part = chosen.iloc[start : start + BATCH]
        texts = read_example_texts(store, part.index.tolist())
        rows = []
        values = part[strategies].astype(object).where(part[strategies].notna(), None)
        for text, rank, score, known, why, own in zip(
            texts.to_dict("records"),
            part["rank"].tolist(),
            part["score"].tolist(),
            values.to_dict("records"),
            selection.reasons(part, recipe),
            part[list(kinds)].to_dict("records"),
            strict=True,
        ):
            weight = score / mean if mean else 1.0
            row: Row = {
                "id": text["id"],
                **make(text["question"] or "", text["solution"] or ""),
                "answer": text["answer"] or "",
                "rank": rank,
                "score": round(score, 6),
                **({"weight": round(weight, 6)} if recipe.weights == "column" else {}),
                **{str(name): value for name, value in known.items()},
                "reasons": why,
            }
            for name, kind in kinds.items():
                missing = "" if kind is str else None
                row[free_name(name, row)] = missing if own[name] == NO_VALUE else kind(own[name])
            rows += [row] * (max(1, round(weight)) if recipe.weights == "repeat" else 1)
        yield rows


def _metadata_kinds(examples: pd.DataFrame) -> dict[str, Callable[[Any], int | float | str]]:
    """The data's own fields, each of one kind in all rows, as Parquet asks for."""
    kinds: dict[str, Callable[[Any], int | float | str]] = {}
    for name in (str(each) for each in examples if each not in (*OF_SIZES, *OF_SELECTION)):
        values = [value for value in examples[name] if value != NO_VALUE]
        found = {type(value) for value in values}
        if found <= {int, float} and all(abs(value) < 2**63 for value in values):
            kinds[name] = float if float in found else int
        else:
            kinds[name] = str
    return kinds


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
def _parquet(file: Path) -> Iterator[Callable[[list[Row]], None]]:
    writer: pq.ParquetWriter | None = None

    def write(rows: list[Row]) -> None:
        nonlocal writer
        if writer is None:  # a value that none of the first rows has is a number like the others
            schema = pa.schema(
                each.with_type(pa.float64()) if pa.types.is_null(each.type) else each
                for each in pa.Table.from_pylist(rows).schema
            )
            writer = pq.ParquetWriter(file, schema)
        writer.write_table(pa.Table.from_pylist(rows, writer.schema))

    try:
        yield write
    finally:
        if writer is not None:
            writer.close()
