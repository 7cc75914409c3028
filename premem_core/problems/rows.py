"""Rows of data files: each with its file and line, and with the reason if it is bad.

The formats are JSONL, JSON (an array, or an object that holds one), CSV, Parquet and Arrow; the
text formats also compressed with gzip or zstd.
"""

import csv
import io
import json
import math
import stat
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, cast

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from premem_core.errors import DataError

_LONGEST_LINE = 64 * 2**20
# A file that expands to more than both of these is refused before it fills the memory.
_MOST_BYTES = 2**30
_MOST_EXPANSION = 50  # times the size of the file
_ROWS_PER_BATCH = 64  # so that a batch of long texts stays small until it is counted


@dataclass(frozen=True, slots=True)
class BadRow:
    """A row that cannot be used, with the reason.

    Attributes:
        line: the line, counted from 1; the row in a file without lines (`row_unit`).
    """

    line: int
    reason: str
    file: Path = field(default=Path(), compare=False)

    @property
    def place(self) -> str:
        """The file and the line: `train.jsonl, line 3`."""
        return f"{self.file}, {row_unit(self.file)} {self.line}"


@dataclass(frozen=True, slots=True)
class Row:
    """A row's values by column, and its file and line as in `BadRow`."""

    line: int
    values: Mapping[str, Any]
    file: Path = field(default=Path(), compare=False)


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
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return None if isinstance(value, float) and not math.isfinite(value) else str(value)


def value_at(values: Mapping[str, Any], path: str) -> Any:
    """The value of a column, or at a path into nested values; None if there is none.

    >>> value_at({"extra": {"answers": ["7", "8"]}}, "extra.answers.1")
    '8'
    """
    if path in values:
        return values[path]
    value: Any = values
    for part in path.split("."):
        if isinstance(value, Mapping):
            value = value.get(part)
        elif isinstance(value, Sequence) and not isinstance(value, str) and part.isdecimal():
            value = value[int(part)] if int(part) < len(value) else None
        else:
            return None
    return value


def read_rows(files: Iterable[Path]) -> Iterator[Row | BadRow]:
    """The rows of files, in their order.

    Raises:
        DataError: a file is of another type, cannot be read, or expands to far more than its size.
    """
    for file in files:
        try:
            if not (file.is_dir() or stat.S_ISREG(file.stat().st_mode)):
                raise DataError(f"{file} is a pipe or a device; give a file that lies on a disk.")
            yield from _reader(file)(file)
        except FileNotFoundError:
            raise DataError(f"{file} does not exist; check the path.") from None
        except (OSError, EOFError) as error:
            raise DataError(f"{file} cannot be read ({error}); give a readable file.") from None


def file_kind(file: Path) -> str:
    """The suffix that tells a file's format, in lower case: ".jsonl" for `train.jsonl.gz`."""
    suffix = file.suffix.lower()
    return Path(file.stem).suffix.lower() if suffix in COMPRESSED else suffix


def row_unit(file: Path) -> str:
    """The word for a row's number in messages: "line", or "row" in a file without lines."""
    return "row" if file_kind(file) in (".parquet", ".arrow", ".json") else "line"


def _reader(file: Path) -> Any:
    reader = _READERS.get(file_kind(file))
    if reader is None:
        raise DataError(
            f"{file} is of a type that cannot be read; give one of {', '.join(FORMATS)} (the text "
            f"formats also with {' or '.join(COMPRESSED)}), or a folder that the package datasets "
            "wrote."
        )
    return reader


def _opened(file: Path) -> BinaryIO:
    """The file's content, decompressed, in UTF-8 and without a byte-order mark."""
    with file.open("rb") as start:  # also raises the errors of a missing file or a folder
        begins_utf16 = start.read(2) in (b"\xff\xfe", b"\xfe\xff")
    if begins_utf16:
        try:
            return io.BytesIO(file.read_bytes().decode("utf-16").encode())
        except UnicodeDecodeError as error:
            raise DataError(f"{file} is not valid UTF-16 ({error}); save it as UTF-8.") from None
    compression = {".gz": "gzip", ".zst": "zstd"}.get(file.suffix.lower())
    stream = pa.input_stream(str(file), compression=compression)
    limited = _Limited(stream, _limit(file), file)
    content = io.BufferedReader(cast(io.RawIOBase, limited), 2**20)
    if content.peek(3)[:3] == b"\xef\xbb\xbf":
        content.read(3)
    return content


class _Limited(io.RawIOBase):
    """A stream that is refused when more than `limit` bytes come out of it."""

    def __init__(self, stream: Any, limit: int, file: Path) -> None:
        self._stream, self._left, self._file = stream, limit, file

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data: bytes = self._stream.read(len(buffer))
        self._left -= len(data)
        if self._left < 0:
            raise _too_large(self._file)
        buffer[: len(data)] = data
        return len(data)

    def close(self) -> None:
        self._stream.close()
        super().close()


def _limit(file: Path) -> int:
    return max(_MOST_BYTES, _MOST_EXPANSION * file.stat().st_size)


def _too_large(file: Path) -> DataError:
    return DataError(
        f"{file} has {file.stat().st_size:,} bytes and expands to more than {_limit(file):,}; "
        "give the rows that the run was trained on only."
    )


def _jsonl_rows(file: Path) -> Iterator[Row | BadRow]:
    with _opened(file) as content:
        line = 0
        while raw := content.readline(_LONGEST_LINE):
            line += 1
            if len(raw) == _LONGEST_LINE and not raw.endswith(b"\n"):
                raise DataError(
                    f"{file}, line {line}: the line has more than {_LONGEST_LINE >> 20} MiB; "
                    "expected one JSON object a line."
                )
            if raw.strip(b" \t\r\n"):
                yield _json_row(file, line, raw)


def _json_row(file: Path, line: int, raw: bytes) -> Row | BadRow:
    try:
        values = json.loads(raw.decode())
    except UnicodeDecodeError:
        return BadRow(line, "the line is not valid UTF-8", file)
    except json.JSONDecodeError as error:
        reason = f"the line is not valid JSON ({error.msg}, column {error.colno})"
        return BadRow(line, reason, file)
    except (ValueError, RecursionError):
        reason = "the line is JSON that is nested too deeply or has too long a number"
        return BadRow(line, reason, file)
    return _object_row(file, line, values)


def _object_row(file: Path, line: int, values: object) -> Row | BadRow:
    if isinstance(values, dict):
        return Row(line, values, file)
    reason = f"the {row_unit(file)} is {repr(values)[:40]}, not a JSON object"
    return BadRow(line, reason, file)


def _json_rows(file: Path) -> Iterator[Row | BadRow]:
    """The rows of a JSON array, or of an object's only list; `.json` may also be JSONL."""
    with _opened(file) as content:
        text = content.read()
    try:
        whole = json.loads(text)
    except (ValueError, RecursionError):
        whole = None
    if isinstance(whole, dict):
        lists = [value for value in whole.values() if isinstance(value, list)]
        whole = lists[0] if len(lists) == 1 and lists[0] and isinstance(lists[0][0], dict) else None
    if isinstance(whole, list):
        for number, values in enumerate(whole, 1):
            yield _object_row(file, number, values)
    else:
        yield from _jsonl_rows(file)


def _csv_rows(file: Path) -> Iterator[Row | BadRow]:
    csv.field_size_limit(_LONGEST_LINE)
    # Bytes that are not UTF-8 become surrogates here; `check_characters` refuses them later, so
    # that only their row is bad and not the whole file.
    with (
        _opened(file) as content,
        io.TextIOWrapper(content, "utf-8", "surrogateescape", newline="") as text,
    ):
        reader = csv.reader(text, strict=True)
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
                        f"{file} has a header that is not valid CSV ({error}); correct it."
                    ) from None
                yield BadRow(line, _csv_reason(error), file)
                continue
            if not cells:
                continue
            if header is None:
                header = _checked_header(file, cells)
            elif len(cells) != len(header):
                reason = f"there are {len(cells)} columns, the header has {len(header)}"
                yield BadRow(line, reason, file)
            else:
                yield Row(line, dict(zip(header, cells, strict=True)), file)


def _csv_reason(error: csv.Error) -> str:
    if "unexpected end" in str(error):
        return "a quotation mark opened here is never closed and takes the rest of the file with it"
    return f"the line is not valid CSV ({error})"


def _checked_header(file: Path, cells: list[str]) -> list[str]:
    names = [cell.strip() for cell in cells]
    try:
        check_characters("".join(names))
    except BadRowError as error:
        raise DataError(
            f"{file} has a header that cannot be read ({error}); save the file as UTF-8."
        ) from None
    if not all(names) or len(set(names)) < len(names):
        raise DataError(
            f"{file} has the header {', '.join(names)}, with an empty or repeated name; "
            "give every column a different name."
        )
    return names


def _parquet_rows(file: Path) -> Iterator[Row | BadRow]:
    with file.open("rb"):  # raises the errors of a missing file or a folder
        pass
    try:
        with pq.ParquetFile(file) as opened:
            yield from _batch_rows(file, opened.iter_batches(_rows_at_once(file, opened.metadata)))
    except (pa.ArrowException, UnicodeDecodeError) as error:
        raise _not_readable(file, "Parquet", error) from None


def _arrow_rows(file: Path) -> Iterator[Row | BadRow]:
    """The rows of an Arrow file as the package datasets writes it: a stream."""
    try:
        with pa.memory_map(str(file)) as source, pa.ipc.open_stream(source) as batches:
            yield from _batch_rows(file, batches)
    except (pa.ArrowException, UnicodeDecodeError) as error:
        raise _not_readable(file, "Arrow", error) from None


def _rows_at_once(file: Path, metadata: pq.FileMetaData) -> int:
    """How many rows of a Parquet file fit in memory, even if all repeat its largest text."""
    groups = map(metadata.row_group, range(metadata.num_row_groups))
    largest = max((_largest_column(group) for group in groups), default=0)
    return max(1, min(_ROWS_PER_BATCH, _limit(file) // 4 // max(1, largest)))


def _largest_column(group: pq.RowGroupMetaData) -> int:
    columns = map(group.column, range(group.num_columns))
    return max((column.total_uncompressed_size for column in columns), default=0)


def _batch_rows(file: Path, batches: Iterable[pa.RecordBatch]) -> Iterator[Row]:
    number, size, limit = 0, 0, _limit(file)
    for batch in batches:
        for start in range(0, len(batch), _ROWS_PER_BATCH):
            part = batch.slice(start, _ROWS_PER_BATCH)
            size += sum(map(_text_bytes, part.columns))
            if size > limit:
                raise _too_large(file)
            for values in part.to_pylist():
                number += 1
                yield Row(number, values, file)


def _text_bytes(array: Any) -> int:
    """The bytes of all texts in an Arrow array's values; Arrow keeps a repeated text only once."""
    kind, types = array.type, pa.types
    if types.is_dictionary(kind):
        counts = pc.value_counts(array.indices.drop_null()).to_pylist()
        places = ((each["counts"], array.dictionary.slice(each["values"], 1)) for each in counts)
        return sum(times * _text_bytes(text) for times, text in places)
    if types.is_struct(kind):
        return sum(map(_text_bytes, array.flatten()))
    if types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind):
        return _text_bytes(array.flatten())
    if types.is_primitive(kind):
        return 0
    if kind in (pa.string(), pa.large_string(), pa.binary(), pa.large_binary()):
        return pc.sum(pc.binary_length(array)).as_py() or 0
    return sum(_characters(value.as_py()) for value in array)  # of a rare type, one at a time


def _characters(value: object) -> int:
    """The number of characters of all texts in a value."""
    if isinstance(value, str | bytes):
        return len(value)
    if isinstance(value, Mapping):
        return sum(map(_characters, value.values()))
    return sum(map(_characters, value)) if isinstance(value, list | tuple) else 0


def _not_readable(file: Path, kind: str, error: Exception) -> DataError:
    first_line = str(error).partition("\n")[0]
    article = "an" if kind == "Arrow" else "a"
    return DataError(
        f"{file} is not {article} {kind} file that can be read ({first_line}); write it again."
    )


_READERS = {
    ".jsonl": _jsonl_rows,
    ".ndjson": _jsonl_rows,
    ".json": _json_rows,
    ".csv": _csv_rows,
    ".parquet": _parquet_rows,
    ".arrow": _arrow_rows,
}
FORMATS = tuple(_READERS)
COMPRESSED = (".gz", ".zst")
# How the name of a file that can be read may end. Whether what is compressed can be read is seen
# when it is opened.
ENDINGS = (*FORMATS, *COMPRESSED)
