"""Rows as examples: answers, ids, metadata, and what is a bad row."""

import datetime
import hashlib
from pathlib import Path
from typing import Any

import pytest

from premem_core.errors import DataError
from premem_core.problems.answer_rule import AnswerRule
from premem_core.problems.examples import draw, read_examples, read_questions
from premem_core.problems.fields import Fields
from premem_core.problems.rows import BadRow
from premem_core.records import Example
from tests.helpers.data_files import FIELDS, ROW, write
from tests.helpers.paths import GSM8K, GSM8K_SLICE


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


QUESTION = {"question": "q", "answer": "#### 4"}
ASKED = {"role": "user", "content": "q"}
ANSWERED = {"role": "assistant", "content": "#### 4"}
NESTED: list[Any] = []
for _ in range(900):
    NESTED = [NESTED]
ODD_ROWS: list[tuple[dict[str, Any], str]] = [
    (
        {"question": "q", "solution": "s", "options": [f"o{n}" for n in range(30)], "answer": 28},
        "the answer is option 28 of 30; expected A to Z",
    ),
    (
        {
            "question": "q",
            "solution": "s",
            "options": {"text": "abc", "label": None},
            "answer": "A",
        },
        "a value has another form than its column should",
    ),
    ({"instruction": "q", "output": "#### 4", "history": 5}, "'history' is not a list of pairs"),
    ({"instruction": "q", "output": "#### 4", "history": {"a": 1}}, "'history' is not a list of"),
    ({"messages": [ASKED, ANSWERED], "tools": "[" * 100_000}, "'tools' is JSON that is nested too"),
    ({**QUESTION, "\ud800k": 1}, "a text is not valid UTF-8"),
    ({"messages": [{**ASKED, "name": "\ud800"}, ANSWERED]}, "a text is not valid UTF-8"),
    (
        {"messages": [ASKED, {**ANSWERED, "reasoning_content": {"a": "\ud800"}}]},
        "a text is not valid UTF-8",
    ),
    (
        {"messages": [ASKED, {**ANSWERED, "tool_calls": NESTED}]},
        "a turn or a tool is nested more than 100 levels deep",
    ),
    ({"messages": [ASKED, ANSWERED], "tools": NESTED}, "nested more than 100 levels deep"),
]


@pytest.mark.parametrize(("row", "reason"), ODD_ROWS, ids=lambda x: str(x)[:30])
def test_a_row_of_an_odd_form_is_a_bad_row(
    tmp_path: Path, row: dict[str, Any], reason: str
) -> None:
    path = write(tmp_path / "d.jsonl", row)
    with pytest.raises(DataError, match=f"line 1: .*{reason}"):
        read_examples(path)


def test_the_message_counts_the_bad_rows_that_follow(tmp_path: Path) -> None:
    path = write(tmp_path / "d.jsonl", ROW, b"{", b"[]", b"7")
    with pytest.raises(DataError, match=r"line 2: .*\(2 more bad rows follow\)"):
        read_examples(path)


@pytest.mark.parametrize(
    ("id_", "reason"),
    [("a", "'a' was used before"), (None, "neither text"), ("", "neither text"), (True, "neither")],
)
def test_a_duplicate_or_missing_id_is_a_bad_row(tmp_path: Path, id_: Any, reason: str) -> None:
    path = write(tmp_path / "d.jsonl", {**ROW, "id": "a"}, {**ROW, "question": "?", "id": id_})
    with pytest.raises(DataError, match=f"line 2: .*{reason}"):
        read_examples(path)


def test_a_row_that_is_repeated_with_its_id_is_one_example(tmp_path: Path) -> None:
    rows = [{**ROW, "id": "a", "rank": 1}, {**ROW, "id": "b"}, {**ROW, "id": "a", "rank": 1}]
    data = read_examples(write(tmp_path / "d.jsonl", *rows))
    assert [example.id for example in data.examples] == ["a", "b"]


def test_a_bad_parquet_row_is_named_by_its_row_number(tmp_path: Path) -> None:
    path = write(tmp_path / "d.parquet", ROW, {**ROW, "question": None})
    with pytest.raises(DataError, match=r"d\.parquet, row 2: 'question' is missing"):
        read_examples(path)
    dataset = read_examples(path, skip_bad=True)
    assert dataset.skipped == (BadRow(2, "'question' is missing, not text"),)


def test_a_file_with_only_bad_rows_is_an_error_even_when_they_are_skipped(tmp_path: Path) -> None:
    path = write(tmp_path / "d.jsonl", {"question": "q", "answer": "four"})
    with pytest.raises(DataError, match="no usable row; all 1 rows are bad"):
        read_examples(path, FIELDS, skip_bad=True)


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


def test_questions_are_read_of_files_that_have_nothing_else(tmp_path: Path) -> None:
    rows = [{"problem": "a?"}, {"problem": " "}, {"problem": "b?", "id": 5}, {"id": 6}]
    path = write(tmp_path / "d.jsonl", *rows, b"[1]")
    assert read_questions(path) == [("row 1", "a?"), ("5", "b?")]
    with pytest.raises(DataError, match="has the columns text; expected a column of questions"):
        read_questions(write(tmp_path / "e.jsonl", {"text": "a?"}))
    with pytest.raises(DataError, match="does not exist"):
        read_questions(tmp_path / "absent.jsonl")


def test_a_drawn_sample_keeps_the_order_and_its_seed_tells_which() -> None:
    examples = [Example(str(i), "q", "s", "a") for i in range(20)]
    drawn = draw(examples, 8, seed=1)
    numbers = [int(example.id) for example in drawn]
    assert numbers == sorted(set(numbers))
    assert len(numbers) == 8
    assert drawn == draw(examples, 8, seed=1) != draw(examples, 8, seed=2)
    assert draw(examples, None, seed=1) == draw(examples, 99, seed=1) == tuple(examples)
