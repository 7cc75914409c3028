"""Rows of data files: formats, their lines, and every kind of file that cannot be read."""

import contextlib
import json
import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from premem_core.errors import DataError
from premem_core.problems.examples import read_examples
from premem_core.problems.fields import Fields
from premem_core.problems.rows import (
    BadRow,
    BadRowError,
    Row,
    as_name,
    check_characters,
    read_rows,
    row_unit,
)
from tests.helpers.data_files import FIELDS, ROW, write


def test_a_byte_order_mark_and_blank_lines_are_ignored(tmp_path: Path) -> None:
    line = json.dumps(ROW).encode()
    path = write(tmp_path / "d.jsonl", b"\xef\xbb\xbf" + line, b"", b"   ", line + b"\r")
    assert len(read_examples(path).examples) == 2
    table = tmp_path / "d.csv"
    table.write_bytes(b"\xef\xbb\xbfquestion,answer\r\n\r\n2+2?,#### 4\r\n\r\n")
    assert [e.question for e in read_examples(table).examples] == ["2+2?"]


def test_a_bad_csv_row_is_named_by_the_line_where_it_starts(tmp_path: Path) -> None:
    path = tmp_path / "d.csv"
    path.write_bytes(
        b"question,answer\n"
        b'"two\nlines","ok\n#### 4"\n'  # lines 2 to 4
        b"one column\n"  # line 5
        b"a,b,#### 4\n"  # line 6
        b"\xff,#### 4\n"  # line 7
        b"q\0,#### 4\n"  # line 8
        b"fine,#### 5\n"
        b'"never closed,#### 4\nfine,#### 5\n'  # line 10
    )
    dataset = read_examples(path, skip_bad=True)
    assert [e.question for e in dataset.examples] == ["two\nlines", "fine"]
    assert [row.line for row in dataset.skipped] == [5, 6, 7, 8, 10]
    reasons = [row.reason for row in dataset.skipped]
    assert reasons[0] == "there are 1 columns, the header has 2"
    assert "UTF-8" in reasons[2]
    assert "NUL" in reasons[3]
    assert "never closed" in reasons[4]


def test_a_long_csv_solution_is_read(tmp_path: Path) -> None:
    row = {"question": "q", "answer": "x" * 300_000 + "\n#### 4"}
    assert len(read_examples(write(tmp_path / "d.csv", row)).examples) == 1


@pytest.mark.parametrize("header", ["question,,answer", "question,answer,answer", '"question'])
def test_a_csv_header_that_cannot_name_columns_is_an_error(tmp_path: Path, header: str) -> None:
    path = tmp_path / "d.csv"
    path.write_text(header + "\nq,#### 4,x\n")
    with pytest.raises(DataError, match=r"d\.csv has .*header"):
        read_examples(path)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("d.jsonl", b"", "no readable row"),
        ("d.jsonl", b"\n\n", "no readable row"),
        ("d.csv", b"", "no readable row"),
        ("d.csv", b"question,answer\n", "no readable row"),
        ("d.parquet", b"", "not a Parquet file"),
        ("d.parquet", b"PAR1 junk PAR1", "not a Parquet file"),
        ("d.pkl", b"", r"give one of \.jsonl, \.ndjson, \.json, \.csv, \.parquet"),
        ("d", b"", "type that cannot be read"),
    ],
)
def test_a_file_without_rows_or_of_another_type_is_an_error(
    tmp_path: Path, name: str, content: bytes, message: str
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=message):
        read_examples(tmp_path / name)


def test_an_empty_parquet_table_is_an_error(tmp_path: Path) -> None:
    pq.write_table(pa.table({"question": pa.array([], pa.string())}), tmp_path / "d.parquet")
    with pytest.raises(DataError, match="no readable row"):
        read_examples(tmp_path / "d.parquet")


def test_a_missing_file_and_a_folder_are_errors(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="does not exist"):
        read_examples(tmp_path / "absent.jsonl")
    for name in ("folder.jsonl", "folder.csv", "folder.parquet"):
        (tmp_path / name).mkdir()
        with pytest.raises(DataError, match="cannot be read"):
            read_examples(tmp_path / name)


@pytest.mark.parametrize("suffix", [".jsonl", ".csv", ".parquet"])
@pytest.mark.parametrize("fields", [None, FIELDS], ids=["detected", "named"])
@settings(max_examples=60, suppress_health_check=list(HealthCheck))
@given(content=st.one_of(st.binary(), st.text(alphabet='"{}[],:\nqa#4\\ ').map(str.encode)))
def test_no_file_content_raises_anything_but_a_data_error(
    tmp_path: Path, suffix: str, fields: Fields | None, content: bytes
) -> None:
    path = tmp_path / f"d{suffix}"
    path.write_bytes(content)
    with contextlib.suppress(DataError):
        read_examples(path, fields, skip_bad=True)


@pytest.mark.parametrize("suffix", [".jsonl", ".ndjson", ".csv", ".parquet"])
def test_rows_come_in_their_order_with_their_lines(tmp_path: Path, suffix: str) -> None:
    kind = ".jsonl" if suffix == ".ndjson" else suffix
    file = write(tmp_path / f"d{kind}", ROW, {**ROW, "question": "3+1?"}).rename(
        tmp_path / f"renamed{suffix}"
    )
    rows = list(read_rows([file]))
    first = 2 if suffix == ".csv" else 1  # a CSV file begins with its header
    assert [row.line for row in rows] == [first, first + (2 if suffix == ".csv" else 1)]
    assert [row.values["question"] for row in rows if isinstance(row, Row)] == ["2+2?", "3+1?"]
    assert row_unit(file) == ("row" if suffix == ".parquet" else "line")


def test_a_bad_line_stands_between_the_others(tmp_path: Path) -> None:
    rows = list(read_rows([write(tmp_path / "d.jsonl", ROW, b"[1]", ROW)]))
    assert [isinstance(row, BadRow) for row in rows] == [False, True, False]
    assert rows[1] == BadRow(2, "the line is [1], not a JSON object")


@pytest.mark.parametrize(
    ("value", "name"),
    [
        *[("a", "a"), (7, "7"), (4.5, "4.5"), (True, None), (None, None), ([1], None)],
        *[(float("nan"), None), (float("inf"), None)],
    ],
)
def test_an_id_is_a_text_or_a_finite_number(value: object, name: str | None) -> None:
    assert as_name(value) == name


@pytest.mark.parametrize(("text", "reason"), [("a\0b", "NUL"), ("\ud800", "not valid UTF-8")])
def test_a_text_that_cannot_be_stored_is_refused(text: str, reason: str) -> None:
    check_characters("é 😀 \n\t")
    with pytest.raises(BadRowError, match=reason):
        check_characters(text)


def test_a_path_that_no_data_file_can_have_is_one_sentence(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jsonl")
    with pytest.raises(DataError, match=r"pipe\.jsonl is a pipe or a device; give a file"):
        read_examples(tmp_path / "pipe.jsonl")
    with pytest.raises(DataError, match=r"cannot be read \(.*File name too long"):
        read_examples(tmp_path / f"{'a' * 300}.jsonl")
