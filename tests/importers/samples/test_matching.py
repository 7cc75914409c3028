"""Which example a row is about: by question, by prompt, by id where the text does not decide."""

import pytest

from premem_core.importers.samples.matching import Matched, QuestionIndex
from premem_core.importers.samples.sample import ImportedSample
from premem_core.records import Example

DATA = [
    Example("a", "What is 2 + 2?", "It is 4.", "4"),
    Example("b", "What is 12 + 2?", "It is 14.", "14"),
    Example("c", "2 + 2?", "Four.", "4"),
    Example("d", "Twice?", "Yes.", "Yes"),
    Example("e", "Twice?", "No.", "No"),
]


def found(*samples: ImportedSample) -> Matched:
    return QuestionIndex(DATA).match(samples)


@pytest.mark.parametrize(
    ("sample", "example"),
    [
        (ImportedSample(question="What is\n 2 + 2? "), 0),
        (ImportedSample(id="0", question="What is 12 + 2?"), 1),  # the tool's own number
        (ImportedSample(id="b", question="What is 2 + 2?"), 0),
        (ImportedSample(id="b"), 1),
        (ImportedSample(id="e", question="Twice?"), 4),
        (ImportedSample(prompt="<|user|>What is 2 + 2?<|assistant|>"), 0),
        (ImportedSample(prompt="Q: 2 + 2?\nA:"), 2),
        (ImportedSample(question="Solve: 2 + 2?", prompt="Solve: 2 + 2?"), 2),
        (ImportedSample(prompt="Q: What is 2 + 2?\nA: It is 4.\nQ: What is 12 + 2?\nA:"), 1),
    ],
)
def test_a_row_finds_its_example(sample, example):
    assert found(sample) == Matched(pairs=[(0, example)])


@pytest.mark.parametrize(
    "sample",
    [
        ImportedSample(id="z"),
        ImportedSample(id="a", question="What is 3 + 3?"),
        ImportedSample(prompt="Q: 12 + 2?\nA:"),  # not 2 + 2?
        ImportedSample(prompt="Q: What is 2 + 2?\nA: It is 4.\nQ: What is 3 + 3?\nA:"),
        ImportedSample(),
    ],
)
def test_a_row_of_another_question_finds_none(sample):
    assert found(sample) == Matched(unmatched=[0])


def test_a_question_that_two_examples_have_is_ambiguous_without_an_id():
    assert found(ImportedSample(question="Twice?")) == Matched(ambiguous=[0])


def test_a_demonstration_that_stands_in_several_prompts_is_asked_in_none_of_them():
    shot = "Q: What is 2 + 2?\nA: Four, of course.\nQ: {}\nA:"
    rows = [ImportedSample(prompt=shot.format(f"What is {n} + 7?")) for n in (1, 2)]
    assert found(*rows) == Matched(unmatched=[0, 1])
