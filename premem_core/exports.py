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

from premem_core.errors import UsageError
from premem_core.store import Store

BATCH = 10_000  # rows in memory
Shape = Literal["plain", "prompt-completion", "messages", "alpaca"]
Row = dict[str, Any]
SHAPES: Mapping[str, Callable[[str, str], Row]] = MappingProxyType(
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


def export(store: Store, chosen: pd.DataFrame, file: Path, shape: Shape = "plain") -> int:
    """Write the chosen examples to a file of the kind that its name ends in; says how many.

    It appears when it is whole.

    Args:
        chosen: `curation.select`: indexed by the store's example number.
        file: .jsonl, .csv or .parquet.
        shape: what a row's texts are called; every shape also has id, answer, rank, score, reasons.

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
    unfinished = file.with_name(file.name + ".tmp")
    writers = {".jsonl": _jsonl, ".csv": _csv, ".parquet": _parquet}
    try:
        with writers[file.suffix](unfinished) as write:
            for batch in batches(store, chosen, shape):
                write(batch)
        unfinished.replace(file)
    except OSError as error:
        raise UsageError(f"cannot write {file}: {error.strerror}; give another path") from error
    finally:
        unfinished.unlink(missing_ok=True)
    return len(chosen)


def batches(store: Store, chosen: pd.DataFrame, shape: Shape) -> Iterator[list[Row]]:
    """The rows of a file, in the order of the selection."""
    make = SHAPES[shape]
    for start in range(0, len(chosen), BATCH):
        part = chosen.iloc[start : start + BATCH]
        texts = store.example_texts(part.index.tolist())
        yield [
            {
                "id": text["id"],
                **make(text["question"] or "", text["solution"] or ""),
                "answer": text["answer"] or "",
                "rank": int(why["rank"]),
                "score": round(float(why["score"]), 6),
                "reasons": why["reasons"],
            }
            for text, why in zip(
                texts.to_dict("records"),
                part[["rank", "score", "reasons"]].to_dict("records"),
                strict=True,
            )
        ]


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
