"""Examples in the store: their numbers, their texts, their perturbed forms."""

import json

import pytest

from premem_core.errors import StoreError
from premem_core.records import Example
from premem_core.store.database import Store
from premem_core.store.examples import (
    EXAMPLE_COLUMNS,
    PERTURBED_COLUMNS,
    SIZE_COLUMNS,
    add_examples,
    add_perturbed_examples,
    read_example_sizes,
    read_example_texts,
    read_perturbed_examples,
    read_task_examples,
)
from tests.helpers.stores import register


def test_an_example_keeps_its_number_and_the_same_id_may_stand_in_another_task(tmp_path):
    store = Store(tmp_path)
    numbers = register(store)
    assert register(store) == numbers
    assert set(add_examples(store, "u", "train", [Example("0", "other", "s", "a")])) - set(numbers)


def test_examples_are_read_by_split_as_they_were_written(tmp_path):
    store = Store(tmp_path)
    written = Example("a", 'Say "é"?', "one\ntwo", "2", {"level": 5, "hard": True, "by": None})
    add_examples(store, "t", "train", [written, Example("b", "q", "s", "a")])
    add_examples(store, "t", "test", [Example("a", "another", "s", "a")])
    rows = read_task_examples(store, "t", "train")
    assert tuple(rows.columns) == EXAMPLE_COLUMNS
    assert rows["id"].tolist() == ["a", "b"]
    first = rows.iloc[0]
    assert (first["question"], first["solution"]) == (written.question, written.solution)
    assert json.loads(first["metadata"]) == written.metadata
    assert read_task_examples(store, "t", "test")["question"].tolist() == ["another"]
    assert read_task_examples(store, "nothing", "train").empty


def test_an_example_without_texts_gets_them_later_and_then_keeps_them(tmp_path):
    store = Store(tmp_path)
    [number] = add_examples(store, "t", "train", [Example("a", "", "", "")])
    add_examples(store, "t", "train", [Example("a", "q", "s", "5", {"level": 1})])
    assert add_examples(store, "t", "train", [Example("a", "", "", "")]) == [number]
    [row] = read_task_examples(store, "t", "train").to_dict("records")
    assert (row["question"], row["solution"], row["answer"]) == ("q", "s", "5")
    for other in (Example("a", "another", "s", "5"), Example("a", "q", "another", "5")):
        with pytest.raises(StoreError, match="'a' of task 't' is in the store with another text"):
            add_examples(store, "t", "train", [other])


def test_the_size_of_a_solution_is_its_lines_and_words(tmp_path):
    store = Store(tmp_path)
    solutions = ["one  two\nthree\n", "", "x", " \n a b \n\n c \n"]
    add_examples(
        store, "t", "train", [Example(str(i), "q", s, "") for i, s in enumerate(solutions)]
    )
    sizes = read_example_sizes(store, "t", "train")
    assert tuple(sizes.columns) == SIZE_COLUMNS
    assert sizes["words"].tolist() == [len(s.split()) for s in solutions]
    assert sizes["lines"].tolist() == [len(s.strip("\n ").split("\n")) for s in solutions]


def test_texts_come_in_the_order_that_was_asked_for(tmp_path):
    store = Store(tmp_path)
    numbers = register(store, n=4)
    asked = [numbers[2], numbers[0], numbers[3]]
    assert read_example_texts(store, asked)["example"].tolist() == asked
    assert read_example_texts(store, asked)["question"].tolist() == ["q2", "q0", "q3"]
    assert read_example_texts(store, []).empty


def test_a_perturbed_example_that_is_in_the_store_stays_as_it_is(tmp_path):
    store = Store(tmp_path)
    numbers = register(store, n=3)
    first = [Example("0", "We know that q0", "s", "a"), Example("1", "We know that q1", "s", "a")]
    add_perturbed_examples(store, "we-know-that", numbers[:2], first)
    later = [Example("1", "changed", "s", "a"), Example("2", "We know that q2", "s", "a")]
    add_perturbed_examples(store, "we-know-that", numbers[1:], later)
    rows = read_perturbed_examples(store, "t", "we-know-that")
    assert tuple(rows.columns) == PERTURBED_COLUMNS
    assert rows["question"].tolist() == [f"We know that q{i}" for i in range(3)]
    assert rows["example"].tolist() == numbers
    assert read_perturbed_examples(store, "t", "first").empty
    assert read_perturbed_examples(store, "another", "we-know-that").empty
