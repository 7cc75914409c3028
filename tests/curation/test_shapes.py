"""What a selection is written as: read back, it gives the same examples, chats included."""

from itertools import product
from pathlib import Path

import pandas as pd
import pytest

from premem_core.curation import export
from premem_core.curation.recipe import Criterion, Recipe
from premem_core.curation.selection import build_selection
from premem_core.curation.shapes import KINDS, SHAPES, default_shape
from premem_core.errors import UsageError
from premem_core.problems.examples import Dataset, read_examples
from premem_core.problems.fields import FieldNames, detect_fields
from premem_core.records import Example
from premem_core.store.database import Store
from tests.helpers import planned
from tests.helpers.data_files import write
from tests.helpers.shapes import ASSISTANT, SYSTEM, USER, Q, S
from tests.helpers.shapes import SHAPES as SOURCES
from tests.helpers.stores import scored

READABLE = [shape for shape in SOURCES if not shape.refusal]
CALL = {"id": "1", "type": "function", "function": {"name": "add", "arguments": '{"a": 2}'}}
TALK = {
    "messages": [
        SYSTEM, USER, {**ASSISTANT, "content": "", "tool_calls": [CALL]},
        {"role": "tool", "content": "4", "tool_call_id": "1", "name": "add"},
        {"role": "assistant", "content": "It is 4."}, {"role": "user", "content": "Sure?"},
        {"role": "assistant", "reasoning_content": "2 and 2", "content": S},
    ],
    "tools": [{"type": "function", "function": {"name": "add", "parameters": {"a": {}}}}],
    "topic": "sums",
}  # fmt: skip
ALPACA = {"instruction": Q, "input": "", "output": S}


def exported(home: Store, file: Path, number: int = 0, **more) -> Path:
    asked = {"shape": default_shape(home, f"t{number}")} | more
    by = (Criterion("random"),)
    recipe = Recipe(f"t{number}", (f"r{number}",), planned.T, by, **asked)
    _, _, chosen = build_selection(home, recipe)
    export.export_file(home, chosen, recipe, file)
    return file


def read_back(file: Path) -> list[Example]:
    return sorted(read_examples(file).examples, key=lambda example: example.id)


def core(examples) -> list[tuple]:
    """What training sees of examples, by their ids."""
    ordered = sorted(examples, key=lambda example: example.id)
    return [(e.id, e.question, e.solution, e.answer, e.conversation) for e in ordered]


@pytest.fixture(scope="module")
def sources(tmp_path_factory) -> list[Dataset]:
    folder = tmp_path_factory.mktemp("sources")
    return [
        read_examples(write(folder / f"{number}.jsonl", source.row))
        for number, source in enumerate(READABLE)
    ]


@pytest.fixture(scope="module")
def all_sources(tmp_path_factory, sources) -> Store:
    return scored(tmp_path_factory.mktemp("all") / "store", *(data.examples for data in sources))


@pytest.mark.parametrize("kind", [".jsonl", ".parquet"])
@pytest.mark.parametrize("number", range(len(READABLE)), ids=[each.source for each in READABLE])
def test_every_source_is_written_as_rows_that_give_the_same_examples(
    number, kind, sources, all_sources, tmp_path
):
    file = exported(all_sources, tmp_path / f"out{kind}", number)
    assert core(read_back(file)) == core(sources[number].examples)


def test_rows_that_are_repeated_by_weight_are_read_as_one_example(tmp_path):
    rows = [{"messages": [{**USER, "content": f"{n}+2?"}, ASSISTANT]} for n in range(4)]
    data = read_examples(write(tmp_path / "source.jsonl", *rows))
    file = exported(
        scored(tmp_path / "store", data.examples), tmp_path / "out.jsonl", weights="repeat"
    )
    assert len(file.read_text().splitlines()) > 4
    assert core(read_back(file)) == core(data.examples)


@pytest.mark.parametrize("kind", [".jsonl", ".parquet"])
@pytest.mark.parametrize("shape", ["messages", "prompt-completion"])
def test_a_chat_with_tools_and_reasoning_is_written_as_it_came(shape, kind, tmp_path):
    file = write(tmp_path / "source.jsonl", TALK, {"messages": [USER, ASSISTANT], "topic": "sums"})
    data = read_examples(file)
    home = scored(tmp_path / "store", data.examples)
    assert default_shape(home, "t0") == "messages"
    back = read_back(exported(home, tmp_path / f"out{kind}", shape=shape))
    assert core(back) == core(data.examples)
    assert {example.metadata["topic"] for example in back} == {"sums"}
    if shape == "messages" and kind == ".jsonl":
        row = (
            pd.read_json(tmp_path / "out.jsonl", lines=True)
            .set_index("id")
            .loc[data.examples[0].id]
        )
        assert row["messages"] == TALK["messages"]


def test_every_turn_of_a_chat_is_written_as_an_example(tmp_path):
    file = write(tmp_path / "source.jsonl", {"messages": [USER, ASSISTANT, USER, ASSISTANT]})
    data = read_examples(file, detect_fields(file, FieldNames(turns="all")))
    assert len(data.examples) == 2
    home = scored(tmp_path / "store", data.examples)
    assert core(read_back(exported(home, tmp_path / "out.jsonl"))) == core(data.examples)


def test_alpaca_rows_of_which_some_have_a_system_prompt_stay_alpaca(tmp_path):
    more = {"system": "Be brief.", "history": [["1+1?", "2"]]}
    data = read_examples(write(tmp_path / "source.jsonl", ALPACA, {**ALPACA, **more}))
    home = scored(tmp_path / "store", data.examples)
    assert default_shape(home, "t0") == "alpaca"
    for kind in (".jsonl", ".parquet"):
        file = exported(home, tmp_path / f"out{kind}")
        assert core(read_back(file)) == core(data.examples)
    with pytest.raises(UsageError, match="cannot be written as CSV"):
        exported(home, tmp_path / "out.csv")


@pytest.mark.parametrize("shape", ["plain", "alpaca"])
def test_a_shape_without_a_place_for_a_turn_is_refused_before_anything_is_written(shape, tmp_path):
    data = read_examples(write(tmp_path / "source.jsonl", TALK))
    home = scored(tmp_path / "store", data.examples)
    with pytest.raises(UsageError, match=f"'{shape}' has no place for all turns of example"):
        exported(home, tmp_path / "out.jsonl", shape=shape)
    assert not (tmp_path / "out.jsonl").exists()


@pytest.mark.parametrize("shape", SHAPES)
def test_a_chat_of_one_question_fits_every_shape(shape, tmp_path):
    data = read_examples(write(tmp_path / "source.jsonl", {"messages": [SYSTEM, USER, ASSISTANT]}))
    home = scored(tmp_path / "store", data.examples)
    file = exported(home, tmp_path / "out.jsonl", shape=shape)
    assert core(read_back(file)) == core(data.examples)


def test_calls_of_tools_with_different_arguments_are_not_for_parquet(tmp_path):
    calls = [{"name": "add", "arguments": {"a": 2}}, {"name": "now", "arguments": {}}]
    asked = {"role": "assistant", "content": "", "tool_calls": calls}
    data = read_examples(
        write(tmp_path / "source.jsonl", {"messages": [USER, asked, USER, ASSISTANT]})
    )
    home = scored(tmp_path / "store", data.examples)
    assert core(read_back(exported(home, tmp_path / "out.jsonl"))) == core(data.examples)
    with pytest.raises(UsageError, match=r"Parquet has one set of arguments.*choose \.jsonl"):
        exported(home, tmp_path / "out.parquet")


def test_what_is_written_of_questions_and_solutions_is_read_back(tmp_path):
    data = read_examples(write(tmp_path / "source.jsonl", {"question": Q, "answer": S}))
    home = scored(tmp_path / "store", data.examples)
    for shape, kind in product(SHAPES, KINDS):
        if (shape, kind) != ("messages", ".csv"):
            [back] = read_back(exported(home, tmp_path / f"{shape}{kind}", shape=shape))
            assert core([back])[0][:4] == (data.examples[0].id, Q, S, "4")
