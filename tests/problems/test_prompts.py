"""Prompt templates: braces of LaTeX stay, and a question cannot smuggle its solution in."""

import json

import pytest

from premem_core.problems.prompts import PromptTemplate, make_chat_template, template_in_words
from premem_core.records import Example


def test_a_question_that_holds_a_field_is_filled_in_verbatim():
    example = Example("1", "What is {solution}?", "It is {question}.", "4")
    prompt, target = PromptTemplate().fill(example)
    assert prompt == "What is {solution}?\nAnswer:"
    assert target == " It is {question}.\nDone."


@pytest.mark.parametrize("text", [r"\frac{1}{2}", "{", "}}{{", "{0} {x}", "%s"])
def test_braces_of_templates_and_problems_stay_as_they_are(text):
    template = PromptTemplate(prompt=f"{text} {{question}} {text}", target="{solution}")
    prompt, target = template.fill(Example("1", text, text, "4"))
    assert prompt == f"{text} {text} {text}"
    assert target == text


def test_a_field_may_stand_twice_or_not_at_all():
    template = PromptTemplate(prompt="{question} {question}", target="yes")
    assert template.fill(Example("1", "q", "s", "a")) == ("q q", "yes")


def test_the_defaults_are_those_of_the_paper():
    template = PromptTemplate()
    assert template.prompt == "{question}\nAnswer:"
    assert template.target.endswith(template.stop[0])


@pytest.mark.parametrize(
    ("text", "value"),
    [("false", False), ("False", False), ("None", None), ("2", 2), ("low", "low"), ('"2"', "2")],
)
def test_an_argument_of_a_chat_template_is_json_or_as_python_writes_it_or_text(text, value):
    chat = make_chat_template(None, [f"argument={text}"], None)
    assert chat.arguments == {"argument": value}
    assert template_in_words(chat).endswith(f" argument={json.dumps(value)}")
