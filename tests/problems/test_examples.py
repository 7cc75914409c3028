"""Reading data files: formats, field detection, answer rules, ids, and every kind of bad row."""

import contextlib
import csv
import datetime
import hashlib
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from premem_core.errors import DataError, UsageError
from premem_core.problems.examples import read_examples
from premem_core.problems.fields import AnswerRule, Fields, detect_fields
from premem_core.problems.rows import BadRow
from premem_core.records import Example
from tests.helpers.paths import GSM8K, GSM8K_SLICE

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


@pytest.mark.parametrize("suffix", [".jsonl", ".csv", ".parquet"])
def test_the_three_formats_give_the_same_examples(tmp_path: Path, suffix: str) -> None:
    rows = [
        {"id": "a", "problem": "1+1?", "solution": "So\n\\boxed{2}, no?", "level": "1"},
        {"id": "b", "problem": 'Say "3", é', "solution": "\\boxed{\\frac{1}{2}}", "level": "2"},
    ]
    assert read_examples(write(tmp_path / f"d{suffix}", *rows)).examples == (
        Example("a", "1+1?", "So\n\\boxed{2}, no?", "2", {"level": "1"}),
        Example("b", 'Say "3", é', "\\boxed{\\frac{1}{2}}", "\\frac{1}{2}", {"level": "2"}),
    )


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        (ROW, Fields("question", "answer", AnswerRule("hash"))),
        (
            {"problem": "p", "solution": "\\boxed{1}", "answer": "1", "unique_id": "u"},
            Fields("problem", "solution", AnswerRule("field", "answer"), "unique_id"),
        ),
        (
            {"instruction": "p", "output": "so 1", "gold": 1, "idx": 7},
            Fields("instruction", "output", AnswerRule("field", "gold"), "idx"),
        ),
        (
            {"Query": "p", "Response": "The answer: \\boxed{5}"},
            Fields("Query", "Response", AnswerRule("boxed")),
        ),
        (
            {"question": "q", "solution": "s #### 4", "label": None},
            Fields("question", "solution", AnswerRule("hash")),
        ),
        (
            {"prompt": "p", "completion": "c", "answer": "5"},
            # "answer" is the commoner name of a solution, but here it is the short one.
            Fields("prompt", "completion", AnswerRule("field", "answer")),
        ),
    ],
    ids=["gsm8k", "math", "instructions", "capitals", "empty label", "answer beside a completion"],
)
def test_fields_are_detected_from_common_names(
    tmp_path: Path, row: dict[str, Any], expected: Fields
) -> None:
    assert detect_fields(write(tmp_path / "d.jsonl", row)) == expected


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"foo": "q", "solution": "#### 4"}, "foo, solution.*which one is the question"),
        ({"question": "q", "foo": "#### 4"}, "question, foo.*which one is the solution"),
        ({"question": "q", "solution": "four"}, "question, solution.*where the final answer is"),
    ],
)
def test_fields_that_cannot_be_detected_are_an_error_with_the_columns(
    tmp_path: Path, row: dict[str, Any], message: str
) -> None:
    with pytest.raises(DataError, match=message):
        detect_fields(write(tmp_path / "d.jsonl", row))


@pytest.mark.parametrize(
    ("rule", "solution", "answer"),
    [
        ("field:gold", "", "7"),
        ("hash", "#### 1\n#### 1,234 ", "1,234"),
        ("hash", "####", None),
        ("boxed", "\\boxed{1} \\boxed{\\frac{1}{2}}", "\\frac{1}{2}"),
        ("boxed", "\\boxed{1", None),
        (r"regex:A: (\d+)", "A: 1, A: 23", "23"),
        (r"regex:\d+", "1, 23", "23"),
        (r"regex:A(\d)?", "A", None),
        ("regex:x:y", "x:y", "x:y"),
        ("field:absent", "", None),
    ],
)
def test_an_answer_rule_finds_the_last_final_answer(
    rule: str, solution: str, answer: str | None
) -> None:
    parsed = AnswerRule.parse(rule)
    assert parsed.find({"gold": 7}, solution) == answer
    assert AnswerRule.parse(str(parsed)) == parsed


@pytest.mark.parametrize("rule", ["", "box", "field", "field:", "regex:", "hash:x", "hash:", ":"])
def test_an_unknown_answer_rule_is_refused(rule: str) -> None:
    with pytest.raises(UsageError, match=r"field:NAME, hash .*, boxed .* or regex:PATTERN"):
        AnswerRule.parse(rule)


def test_a_bad_answer_pattern_is_refused() -> None:
    with pytest.raises(UsageError, match=r"'\(' is not a regular expression"):
        AnswerRule.parse("regex:(")


def test_without_an_id_column_the_id_is_a_hash_of_the_content(tmp_path: Path) -> None:
    other = {**ROW, "question": "3+1?"}
    dataset = read_examples(write(tmp_path / "d.jsonl", ROW, other, ROW, ROW))
    digest = hashlib.sha256(b"2+2?\0It is 4.\n#### 4").hexdigest()[:12]
    ids = [example.id for example in dataset.examples]
    assert (ids[0], ids[2], ids[3]) == (digest, f"{digest}-2", f"{digest}-3")
    reordered = read_examples(write(tmp_path / "e.jsonl", other, ROW))
    assert [example.id for example in reordered.examples] == [ids[1], ids[0]]


def test_ids_and_answers_that_are_numbers_become_text(tmp_path: Path) -> None:
    rows = [{"question": "q", "solution": "s", "gold": 4.5, "id": i} for i in (0, 1)]
    examples = read_examples(write(tmp_path / "d.jsonl", *rows)).examples
    assert [(e.id, e.answer) for e in examples] == [("0", "4.5"), ("1", "4.5")]


def test_metadata_is_all_other_columns_or_the_named_ones_as_scalars(tmp_path: Path) -> None:
    row = {**ROW, "level": 5, "tags": ["a", "é"], "score": None, "ok": True}
    path = write(tmp_path / "d.jsonl", row)
    assert read_examples(path).examples[0].metadata == {
        "level": 5,
        "tags": '["a", "é"]',
        "score": None,
        "ok": True,
    }
    named = Fields("question", "answer", AnswerRule("hash"), metadata=("level", "absent"))
    assert read_examples(path, named).examples[0].metadata == {"level": 5}


def test_parquet_metadata_that_is_not_json_becomes_text(tmp_path: Path) -> None:
    row = {**ROW, "day": datetime.date(2024, 1, 2), "score": float("nan")}
    metadata = read_examples(write(tmp_path / "d.parquet", row)).examples[0].metadata
    assert metadata == {"day": '"2024-01-02"', "score": None}


def test_a_byte_order_mark_and_blank_lines_are_ignored(tmp_path: Path) -> None:
    line = json.dumps(ROW).encode()
    path = write(tmp_path / "d.jsonl", b"\xef\xbb\xbf" + line, b"", b"   ", line + b"\r")
    assert len(read_examples(path).examples) == 2
    table = tmp_path / "d.csv"
    table.write_bytes(b"\xef\xbb\xbfquestion,answer\r\n\r\n2+2?,#### 4\r\n\r\n")
    assert [e.question for e in read_examples(table).examples] == ["2+2?"]


BAD_LINES = {
    b'{"question": "q", "answer"': "not valid JSON",
    b"[1, 2]": r"\[1, 2\], not a JSON object",
    b'"text"': "not a JSON object",
    b'{"question": "\xff", "answer": "#### 4"}': "not valid UTF-8",
    b'{"answer": "#### 4"}': r"no field 'question' \(there are: answer\)",
    b'{"question": null, "answer": "#### 4"}': "'question' is missing, not text",
    b'{"question": 5, "answer": "#### 4"}': "'question' is 5, not text",
    b'{"question": " ", "answer": "#### 4"}': "'question' is empty",
    b'{"question": "q", "answer": ""}': "'answer' is empty",
    b'{"question": "q", "answer": "four"}': "rule 'hash' finds no final answer",
    b'{"question": "q\\u0000", "answer": "#### 4"}': "NUL",
    b'{"question": "q\\ud800", "answer": "#### 4"}': "not valid UTF-8",
    b'{"question": "q", "answer": "#### 4", "m": "\\ud800"}': "not valid UTF-8",
    b"[" * 100_000: "nested too deeply",
    b'{"question": ' + b"9" * 5000 + b"}": "too long a number",
}


@pytest.mark.parametrize(("bad", "reason"), BAD_LINES.items(), ids=lambda x: str(x)[:30])
def test_a_bad_line_is_named_by_file_line_and_reason(
    tmp_path: Path, bad: bytes, reason: str
) -> None:
    path = write(tmp_path / "d.jsonl", ROW, b"", bad, ROW)
    with pytest.raises(DataError, match=rf"d\.jsonl, line 3: .*{reason}.*--skip-bad"):
        read_examples(path, FIELDS)
    dataset = read_examples(path, FIELDS, skip_bad=True)
    assert len(dataset.examples) == 2
    assert [row.line for row in dataset.skipped] == [3]


def test_the_message_counts_the_bad_rows_that_follow(tmp_path: Path) -> None:
    path = write(tmp_path / "d.jsonl", ROW, b"{", b"[]", b"7")
    with pytest.raises(DataError, match=r"line 2: .*\(2 more bad rows follow\)"):
        read_examples(path)


@pytest.mark.parametrize(
    ("id_", "reason"),
    [("a", "'a' was used before"), (None, "neither text"), ("", "neither text"), (True, "neither")],
)
def test_a_duplicate_or_missing_id_is_a_bad_row(tmp_path: Path, id_: Any, reason: str) -> None:
    path = write(tmp_path / "d.jsonl", {**ROW, "id": "a"}, {**ROW, "id": id_})
    with pytest.raises(DataError, match=f"line 2: .*{reason}"):
        read_examples(path)


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


def test_a_bad_parquet_row_is_named_by_its_row_number(tmp_path: Path) -> None:
    path = write(tmp_path / "d.parquet", ROW, {**ROW, "question": None})
    with pytest.raises(DataError, match=r"d\.parquet, row 2: 'question' is missing"):
        read_examples(path)
    dataset = read_examples(path, skip_bad=True)
    assert dataset.skipped == (BadRow(2, "'question' is missing, not text"),)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("d.jsonl", b"", "no readable row"),
        ("d.jsonl", b"\n\n", "no readable row"),
        ("d.csv", b"", "no readable row"),
        ("d.csv", b"question,answer\n", "no readable row"),
        ("d.parquet", b"", "not a Parquet file"),
        ("d.parquet", b"PAR1 junk PAR1", "not a Parquet file"),
        ("d.pkl", b"", r"give one of \.jsonl, \.ndjson, \.csv, \.parquet"),
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


def test_a_file_with_only_bad_rows_is_an_error_even_when_they_are_skipped(tmp_path: Path) -> None:
    path = write(tmp_path / "d.jsonl", {"question": "q", "answer": "four"})
    with pytest.raises(DataError, match="no usable row; all 1 rows are bad"):
        read_examples(path, FIELDS, skip_bad=True)


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


@pytest.mark.parametrize(
    ("folder", "split", "rows"),
    [
        (GSM8K_SLICE, "train", 300),
        (GSM8K_SLICE, "test", 300),
        (GSM8K, "train", 7473),
        (GSM8K, "test", 1319),
    ],
)
def test_gsm8k_is_read_without_naming_its_fields(folder: Path, split: str, rows: int) -> None:
    path = folder / f"{split}.jsonl"
    if not path.exists():
        pytest.skip(f"needs all of GSM8K, which is not at {path}")
    dataset = read_examples(path)
    assert len(dataset.examples) == len({e.id for e in dataset.examples}) == rows
    assert dataset.fields == Fields("question", "answer", AnswerRule("hash"))
