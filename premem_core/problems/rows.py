"""Rows of a JSONL, CSV or Parquet file: each with its line, and with the reason if it is bad."""

import csv
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from premem_core.errors import DataError

_LONGEST_CSV_FIELD = 16 * 2**20


@dataclass(frozen=True, slots=True)
class BadRow:
    """A row that cannot be used, with the reason.

    Attributes:
        line: the line, counted from 1; in a Parquet file, the row.
    """

    line: int
    reason: str


@dataclass(frozen=True, slots=True)
class Row:
    """A row's values by column, and its line as in `BadRow`."""

    line: int
    values: Mapping[str, Any]


class BadRowError(Exception):
    """A row cannot be used; the message is the reason."""


def check_characters(text: str) -> None:
    """Check that a text can be stored.

    Raises:
        BadRowError: the text holds a NUL character or is not valid UTF-8.
    """
    if "\0" in text:
        raise BadRowError("a text holds a NUL character")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise BadRowError("a text is not valid UTF-8") from None


def as_name(value: object) -> str | None:
    """An id or an answer as text; None if the value is neither text nor a finite number."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return str(value)


def read_rows(path: Path) -> Iterator[Row | BadRow]:
    """The rows of a `.jsonl`, `.ndjson`, `.csv` or `.parquet` file, in their order.

    Raises:
        DataError: the file is of another type, or cannot be read.
    """
    readers = {
        ".jsonl": _jsonl_rows,
        ".ndjson": _jsonl_rows,
        ".csv": _csv_rows,
        ".parquet": _parquet_rows,
    }
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise DataError(
            f"{path} is of a type that cannot be read; give one of {', '.join(readers)}."
        )
    try:
        yield from reader(path)
    except FileNotFoundError:
        raise DataError(f"{path} does not exist; check the path.") from None
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error}); give a readable file.") from None


def row_unit(path: Path) -> str:
    """The word for a row's number in messages: "row" for Parquet, "line" otherwise."""
    return "row" if path.suffix.lower() == ".parquet" else "line"


def _jsonl_rows(path: Path) -> Iterator[Row | BadRow]:
    with path.open("rb") as file:
        for line, raw in enumerate(file, 1):
            if raw.strip(b" \t\r\n\xef\xbb\xbf"):
                yield _json_row(line, raw)


def _json_row(line: int, raw: bytes) -> Row | BadRow:
    try:
        values = json.loads(raw.decode("utf-8-sig" if line == 1 else "utf-8"))
    except UnicodeDecodeError:
        return BadRow(line, "the line is not valid UTF-8")
    except json.JSONDecodeError as error:
        return BadRow(line, f"the line is not valid JSON ({error.msg}, column {error.colno})")
    except (ValueError, RecursionError):
        return BadRow(line, "the line is JSON that is nested too deeply or has too long a number")
    if not isinstance(values, dict):
        return BadRow(line, f"the line is {repr(values)[:40]}, not a JSON object")
    return Row(line, values)


def _csv_rows(path: Path) -> Iterator[Row | BadRow]:
    csv.field_size_limit(_LONGEST_CSV_FIELD)
    # Bytes that are not UTF-8 become surrogates here; `check_characters` refuses them later, so
    # that only their row is bad and not the whole file.
    with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
        reader = csv.reader(file, strict=True)
        header: list[str] | None = None
        while True:
            line = reader.line_num + 1
            try:
                cells = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                if header is None:
                    raise DataError(
                        f"{path} has a header that is not valid CSV ({error}); correct it."
                    ) from None
                yield BadRow(line, _csv_reason(error))
                continue
            if not cells:
                continue
            if header is None:
                header = _checked_header(path, cells)
            elif len(cells) != len(header):
                yield BadRow(line, f"there are {len(cells)} columns, the header has {len(header)}")
            else:
                yield Row(line, dict(zip(header, cells, strict=True)))


def _csv_reason(error: csv.Error) -> str:
    if "unexpected end" in str(error):
        return "a quotation mark opened here is never closed and takes the rest of the file with it"
    return f"the line is not valid CSV ({error})"


def _checked_header(path: Path, cells: list[str]) -> list[str]:
    names = [cell.strip() for cell in cells]
    if not all(names) or len(set(names)) < len(names):
        raise DataError(
            f"{path} has the header {', '.join(names)}, with an empty or repeated name; "
            "give every column a different name."
        )
    return names


def _parquet_rows(path: Path) -> Iterator[Row | BadRow]:
    number = 0
    try:
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches():
                for values in batch.to_pylist():
                    number += 1
                    yield Row(number, values)
    except (pa.ArrowException, UnicodeDecodeError) as error:
        first_line = str(error).partition("\n")[0]
        raise DataError(
            f"{path} is not a Parquet file that can be read ({first_line}); write it again."
        ) from None
