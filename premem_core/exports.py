"""A selection → the file that a trainer loads, in one of its shapes, a batch of rows at a time."""

import csv
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from premem_core import curation, data_card
from premem_core.curation import Recipe
from premem_core.errors import UsageError
from premem_core.store import Store
from premem_core.whole_file import whole

BATCH = 10_000  # rows in memory
Shape = Literal["plain", "prompt-completion", "messages", "alpaca"]
Weights = Literal["none", "column", "repeat"]
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


def export(
    store: Store,
    chosen: pd.DataFrame,
    recipe: Recipe,
    file: Path,
    shape: Shape = "plain",
    weights: Weights = "none",
) -> int:
    """Write the chosen examples to a file of the kind that its name ends in; says how many.

    It appears when it is whole.

    Args:
        chosen: `curation.select` by the recipe: indexed by the store's example number.
        file: .jsonl, .csv or .parquet.
        shape: what a row's texts are called; every shape also has id, answer, rank, score, reasons.
        weights: an example's weight is its score over the mean score. column: it is in the column
            `weight`; repeat: a row stands there as often as the weight says, rounded, and once at
            least.

    Raises:
        UsageError: no file of that kind can be written there, or there is nothing to write.
    """
    if file.suffix not in KINDS:
        raise UsageError(f"'{file.name}' must end in one of {', '.join(KINDS)}")
    if shape not in SHAPES:
        raise UsageError(f"there is no shape '{shape}'; there are {', '.join(SHAPES)}")
    if file.suffix == ".csv" and shape == "messages":
        raise UsageError("messages are nested and do not go into CSV; choose .jsonl or .parquet")
    if chosen.empty:
        raise UsageError("no example is chosen; widen the bounds")
    written = 0
    writers = {".jsonl": _jsonl, ".csv": _csv, ".parquet": _parquet}
    with whole(file) as unfinished, writers[file.suffix](unfinished) as write:
        for batch in batches(store, chosen, recipe, shape, weights):
            write(batch)
            written += len(batch)
    return written


def export_folder(
    store: Store,
    chosen: pd.DataFrame,
    recipe: Recipe,
    found: pd.DataFrame,
    folder: Path,
    shape: Shape = "plain",
    weights: Weights = "none",
) -> int:
    """Write the chosen examples as a folder that `datasets.load_dataset` loads; says how many.

    data/train.parquet, recipe.yaml, and README.md, the data card. It appears when it is whole.

    Args:
        found: `curation.removed` by the recipe.

    Raises:
        UsageError: as `export` does, or the folder is there.
    """
    if folder.exists():
        raise UsageError(f"{folder} is there; give a folder that is not")
    with whole(folder) as unfinished:
        (unfinished / "data").mkdir(parents=True)
        n = export(store, chosen, recipe, unfinished / "data" / "train.parquet", shape, weights)
        (unfinished / "recipe.yaml").write_text(recipe.to_yaml(), encoding="utf-8")
        card = data_card.card(chosen, recipe, found)
        (unfinished / "README.md").write_text(card, encoding="utf-8")
    return n


def batches(
    store: Store, chosen: pd.DataFrame, recipe: Recipe, shape: Shape, weights: Weights
) -> Iterator[list[Row]]:
    """The rows of a file, in the order of the selection."""
    make, mean = SHAPES[shape], float(chosen["score"].mean())
    for start in range(0, len(chosen), BATCH):
        part = chosen.iloc[start : start + BATCH]
        texts = store.example_texts(part.index.tolist())
        rows = []
        for text, rank, score, why in zip(
            texts.to_dict("records"),
            part["rank"].tolist(),
            part["score"].tolist(),
            curation.reasons(part, recipe),
            strict=True,
        ):
            weight = score / mean if mean else 1.0
            row = {
                "id": text["id"],
                **make(text["question"] or "", text["solution"] or ""),
                "answer": text["answer"] or "",
                "rank": rank,
                "score": round(score, 6),
                **({"weight": round(weight, 6)} if weights == "column" else {}),
                "reasons": why,
            }
            rows += [row] * (max(1, round(weight)) if weights == "repeat" else 1)
        yield rows


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
        table = pa.Table.from_pylist(rows)
        writer = writer or pq.ParquetWriter(file, table.schema)
        writer.write_table(table)

    try:
        yield write
    finally:
        if writer is not None:
            writer.close()
