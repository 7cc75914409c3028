"""Data files that tests write: rows in the three formats that Premem reads."""

import csv
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from premem_core.problems.answer_rule import AnswerRule
from premem_core.problems.fields import Fields

ROW = {"question": "2+2?", "answer": "It is 4.\n#### 4"}
FIELDS = Fields("question", "answer", AnswerRule("hash"))


def write(path: Path, *rows: Any) -> Path:
    """Rows in the format of the path's suffix; bytes are written as they are (JSONL)."""
    if path.suffix == ".jsonl":
        lines = [r if isinstance(r, bytes) else json.dumps(r).encode() for r in rows]
        path.write_bytes(b"\n".join(lines) + b"\n")
    elif path.suffix == ".csv":
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, rows[0])
            writer.writeheader()
            writer.writerows(rows)
    else:
        pq.write_table(pa.Table.from_pylist(list(rows)), path)
    return path
