"""Shapes of data as people have them: each is read as what it is, or refused in words."""

import gzip
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from premem_core.errors import DataError
from premem_core.problems.data_files import find_data_files, source_name
from premem_core.problems.examples import read_examples
from premem_core.problems.fields import FieldNames, detect_fields
from premem_core.problems.rows import Row, _text_bytes, read_rows
from tests.helpers.data_files import ROW, write
from tests.helpers.shapes import ASSISTANT, SHAPES, SYSTEM, USER, Shape


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.source)
def test_a_shape_is_read_as_what_it_is_or_refused(tmp_path: Path, shape: Shape) -> None:
    file = write(tmp_path / "d.jsonl", shape.row)
    if shape.refusal:
        with pytest.raises(DataError, match=shape.refusal) as refused:
            read_examples(file)
        print(f"{shape.source}: {refused.value}")
        return
    example = read_examples(file).examples[0]
    context = example.conversation.context if example.conversation else ()
    print(f"{shape.source}: {len(context)} turns, answer {example.answer!r}")
    assert (example.question, example.solution, example.answer, len(context)) == shape[2:6]


OWN = [shape for shape in SHAPES if "own columns" in shape.source]


@pytest.mark.parametrize("shape", OWN, ids=lambda shape: shape.source)
def test_a_test_file_of_options_is_read_with_the_training_files_names(
    tmp_path: Path, shape: Shape
) -> None:
    file = write(tmp_path / "d.jsonl", shape.row)
    for answer in ("field:label", "hash", None):
        names = FieldNames("question", "solution", answer)
        [example] = read_examples(file, detect_fields(file, names, "test")).examples
        assert (example.question, example.solution, example.answer) == shape[2:5]


def test_a_row_whose_index_no_option_has_is_refused_and_named(tmp_path: Path) -> None:
    rows = [{"question": f"{n}?", "choices": ["3", "4"], "answer": n} for n in (0, 1, 2)]
    file = write(tmp_path / "d.jsonl", *rows)
    with pytest.raises(DataError, match="line 3: 'answer' is 2, which is none of the options"):
        read_examples(file)


def test_every_turn_of_the_assistant_can_be_a_target(tmp_path: Path) -> None:
    hello = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "hello"}]
    rows = [{"messages": [*hello, USER, ASSISTANT, USER, {**ASSISTANT, "content": "#### 5"}]}]
    file = write(tmp_path / "d.jsonl", *rows)
    fields = detect_fields(file, FieldNames(turns="all"))
    examples = read_examples(file, fields).examples
    # "hello" states no final answer, so it cannot be graded.
    assert [(e.answer, len(e.conversation.context)) for e in examples] == [("4", 3), ("5", 5)]
    named = [{**rows[0], "id": 7}] * 2  # the second row repeats the first
    file = write(tmp_path / "named.jsonl", *named)
    again = read_examples(file, detect_fields(file, FieldNames(turns="all"))).examples
    assert [(e.id, e.answer) for e in again] == [("7", "4"), ("7-2", "5")]


def test_tools_and_calls_are_kept_for_the_template(tmp_path: Path) -> None:
    call = {"role": "assistant", "content": None, "tool_calls": [{"name": "add"}]}
    turns = [SYSTEM, USER, call, {"role": "tool", "content": "4", "name": "add"}, ASSISTANT]
    file = write(tmp_path / "d.jsonl", {"messages": turns, "tools": [{"name": "add"}]})
    conversation = read_examples(file).examples[0].conversation
    assert conversation.tools == ({"name": "add"},)
    assert conversation.context[2] == {**call, "content": ""}
    assert conversation.context[3] == turns[3]
    assert conversation.target == ASSISTANT


def test_several_generations_make_several_examples(tmp_path: Path) -> None:
    row = {"id": 7, "problem": "q", "generations": ["a #### 1", "b #### 2"]}
    examples = read_examples(write(tmp_path / "d.jsonl", row)).examples
    assert [(e.id, e.answer) for e in examples] == [("7", "1"), ("7-2", "2")]


def test_a_path_names_a_nested_field(tmp_path: Path) -> None:
    row = {"q": {"text": "2+2?"}, "runs": [{"trace": "so #### 4"}]}
    file = write(tmp_path / "d.jsonl", row)
    fields = detect_fields(file, FieldNames("q.text", "runs.0.trace"))
    assert read_examples(file, fields).examples[0].solution == "so #### 4"


# Containers


def test_the_same_rows_are_read_from_every_container(tmp_path: Path) -> None:
    rows = [ROW, {"question": "3+1?", "answer": "#### 4"}]
    expected = read_examples(write(tmp_path / "d.jsonl", *rows)).examples
    lines = "\n".join(map(json.dumps, rows)).encode()
    table = pa.Table.from_pylist(rows)
    (tmp_path / "d.jsonl.gz").write_bytes(gzip.compress(lines))
    with pa.output_stream(str(tmp_path / "d.jsonl.zst"), compression="zstd") as stream:
        stream.write(lines)
    (tmp_path / "array.json").write_text(json.dumps(rows, indent=1))
    (tmp_path / "object.json").write_text(json.dumps({"version": 1, "data": rows}))
    (tmp_path / "lines.json").write_bytes(lines)
    (tmp_path / "utf16.jsonl").write_bytes(lines.decode().encode("utf-16"))
    with pa.ipc.new_stream(str(tmp_path / "d.arrow"), table.schema) as stream:
        stream.write_table(table)
    names = ["d.jsonl.gz", "d.jsonl.zst", "array.json", "object.json", "lines.json", "utf16.jsonl"]
    for name in [*names, "d.arrow"]:
        assert read_examples(tmp_path / name).examples == expected, name


def test_a_data_set_that_the_package_datasets_saved_is_read_by_its_splits(tmp_path: Path) -> None:
    from datasets import Dataset, DatasetDict

    train, test = Dataset.from_list([ROW] * 3), Dataset.from_list([ROW] * 2)
    DatasetDict({"train": train, "test": test}).save_to_disk(str(tmp_path / "both"))
    train.save_to_disk(str(tmp_path / "one"), num_shards=2)
    assert len(read_examples(tmp_path / "both").examples) == 3
    assert len(read_examples(tmp_path / "both", split="test").examples) == 2
    assert len(read_examples(tmp_path / "one").examples) == 3


def test_a_folder_laid_out_as_on_a_hub_is_read_by_its_splits(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    for name, rows in (("train-00000-of-00002", 2), ("train-00001-of-00002", 1), ("test-0", 1)):
        pq.write_table(pa.Table.from_pylist([ROW] * rows), tmp_path / "data" / f"{name}.parquet")
    (tmp_path / "README.md").write_text("")
    assert len(read_examples(tmp_path).examples) == 3
    assert len(read_examples(tmp_path, split="test").examples) == 1
    assert len(read_examples(tmp_path / "data" / "train-*.parquet").examples) == 3


def test_several_files_are_one_data_set_and_a_bad_row_names_its_file(tmp_path: Path) -> None:
    one = write(tmp_path / "a.jsonl", ROW)
    two = write(tmp_path / "b.jsonl", {"question": "3+1?", "answer": "#### 4"})
    dataset = read_examples([one, two])
    assert [e.question for e in dataset.examples] == ["2+2?", "3+1?"]
    assert dataset.name == source_name([one, two]) == f"{one} and 1 more"
    write(two, {"question": "", "answer": "#### 4"})
    with pytest.raises(DataError, match=r"b\.jsonl, line 1: 'question' is empty"):
        read_examples([one, two])


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("none-*.jsonl", "no file matches"),
        ("empty", "holds no train data; expected a data set saved with save_to_disk, or files"),
        ("only-test", "holds no train data"),
        ("splits", "has the splits a, b, and none is named train"),
        ("outside", "expected files in the same folder"),
    ],
)
def test_data_that_is_not_there_is_one_sentence(tmp_path: Path, name: str, message: str) -> None:
    for folder in ("empty", "only-test", "splits", "outside"):
        (tmp_path / folder).mkdir()
    write(tmp_path / "only-test" / "test.jsonl", ROW)
    (tmp_path / "splits" / "dataset_dict.json").write_text('{"splits": ["a", "b"]}')
    (tmp_path / "outside" / "state.json").write_text(
        '{"_data_files": [{"filename": "../x.arrow"}]}'
    )
    with pytest.raises(DataError, match=message):
        find_data_files(tmp_path / name)


def test_a_hub_that_cannot_be_reached_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(
        DataError, match=r"cannot be read from the hub .*; give a file on this mach"
    ):
        find_data_files(Path("hf://datasets/openai/gsm8k"))


def test_a_file_that_expands_to_far_more_than_its_size_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("premem_core.problems.rows._MOST_BYTES", 2**20)
    row = {"question": "a" * 10_000, "answer": "#### 4"}
    pq.write_table(pa.Table.from_pylist([row] * 300), tmp_path / "d.parquet", compression="zstd")
    (tmp_path / "d.jsonl.gz").write_bytes(gzip.compress((json.dumps(row) + "\n").encode() * 300))
    for name in ("d.parquet", "d.jsonl.gz"):
        with pytest.raises(DataError, match=rf"{name} has .* bytes and expands to more than"):
            read_examples(tmp_path / name)


@pytest.mark.parametrize("kept", ["dictionary", "text"])
def test_a_repeated_text_is_counted_before_it_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kept: str
) -> None:
    monkeypatch.setattr("premem_core.problems.rows._MOST_BYTES", 2**20)
    once = pa.array(["a" * 100_000])
    texts = pa.DictionaryArray.from_arrays(pa.array([0] * 64), once)
    table = pa.table({"question": texts, "answer": ["#### 4"] * 64})
    file = tmp_path / "d.parquet"
    pq.write_table(table, file, compression="zstd", store_schema=kept == "dictionary")
    made: list[Row] = []
    with pytest.raises(DataError, match="expands to more than"):
        made.extend(row for row in read_rows([file]) if isinstance(row, Row))
    assert sum(len(row.values["question"]) for row in made) <= 2**20


def test_the_bytes_of_an_arrow_array_count_each_place_of_a_text() -> None:
    words = pa.DictionaryArray.from_arrays(pa.array([0, 1, None, 1]), pa.array(["é", "abc"]))
    lists = pa.ListArray.from_arrays([0, 3, 4], words)
    maps = pa.array([[("k", "ab")], None], pa.map_(pa.string(), pa.string()))
    cases: list[tuple[pa.Array, int]] = [
        (words, 8),
        (words[1:], 6),
        (lists, 8),
        (lists[1:], 3),
        (pa.StructArray.from_arrays([words, pa.array(range(4))], ["a", "n"]), 8),
        (maps, 3),
        (maps[1:], 0),
        (pa.array(["ab", None], pa.string_view()), 2),
        (pa.RunEndEncodedArray.from_arrays([3, 5], ["a", "bc"]), 7),
        (pa.array([1.5, None]), 0),
        (pa.array([], pa.string()), 0),
    ]
    for array, size in cases:
        assert _text_bytes(array) == size, array.type
