"""The choice of a template: what is chosen, what is asked, and the comparison that helps."""

import json
import math
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from premem_core.errors import UsageError
from premem_core.models.encoding.chat_template_files import read_chat_template
from premem_core.models.encoding.template_choice import (
    Compared,
    choose_marks,
    choose_template,
    compare_templates,
    compared_in_words,
    is_ambiguous,
    is_prompt_completion,
    likely_template,
)
from premem_core.problems.examples import Dataset, read_examples
from premem_core.problems.prompts import PROMPT_COMPLETION, ChatTemplate, PromptTemplate
from premem_core.problems.thinking import ThinkingMarks
from premem_core.records import Checkpoint
from tests.helpers import tiny
from tests.helpers.chat_templates import CHATML, THINKING

ROWS: dict[str, dict[str, object]] = {
    "questions": {"question": "1 and 1?", "answer": "It is 2.\n#### 2"},
    "typed": {"prompt": "1 and 1?", "completion": " It is 2.\n#### 2"},
    "chats": {
        "messages": [
            {"role": "user", "content": "1 and 1?"},
            {"role": "assistant", "content": "It is 2.\n#### 2"},
        ]
    },
}


@pytest.fixture
def read(tmp_path):
    def dataset(kind: str, **changes: str) -> Dataset:
        file = tmp_path / f"{kind}.jsonl"
        file.write_text(json.dumps({**ROWS[kind], **changes}) + "\n")
        return read_examples(file)

    return dataset


def checkpoint(folder: Path, template: str | None) -> Checkpoint:
    if template is not None:
        (folder / "chat_template.jinja").write_text(template)
    return Checkpoint(folder, 1)


@pytest.mark.parametrize(
    ("kind", "form", "template", "chosen"),
    [
        ("questions", None, None, PromptTemplate()),
        ("questions", "plain", CHATML, PromptTemplate()),
        ("questions", "chat", CHATML, ChatTemplate()),
        ("typed", None, None, PROMPT_COMPLETION),
        ("typed", None, CHATML, PROMPT_COMPLETION),
        ("typed", "plain", CHATML, PROMPT_COMPLETION),
        ("typed", "chat", CHATML, ChatTemplate()),
        ("chats", None, CHATML, ChatTemplate()),
        ("chats", "plain", CHATML, PromptTemplate()),
    ],
)
def test_rows_checkpoint_and_person_choose_the_template(
    read, tmp_path, kind, form, template, chosen
):
    assert choose_template(read(kind), checkpoint(tmp_path, template), form) == chosen


@pytest.mark.parametrize(
    ("kind", "form", "template", "said"),
    [
        ("questions", None, CHATML, r"the checkpoint has a chat template.*; choose --chat or --pl"),
        ("questions", "chat", None, r"^\S+ has no chat template .*--chat-template, or choose a pl"),
        ("chats", None, None, "^the rows are conversations, but .* has no chat template"),
    ],
)
def test_where_nothing_can_be_chosen_the_options_are_named(
    read, tmp_path, kind, form, template, said
):
    with pytest.raises(UsageError, match=said):
        choose_template(read(kind), checkpoint(tmp_path, template), form)


def test_only_rows_that_are_no_conversations_are_ambiguous_beside_a_chat_template(read, tmp_path):
    without = checkpoint(tmp_path, None)
    assert not is_ambiguous(read("questions"), without)
    with_template = checkpoint(tmp_path, CHATML)
    assert [is_ambiguous(read(kind), with_template) for kind in ROWS] == [True, True, False]
    assert [is_prompt_completion(read(kind)) for kind in ROWS] == [False, True, False]


def test_marks_are_those_given_else_of_the_solutions_else_of_the_template(read, tmp_path):
    of_think, of_square = ThinkingMarks("<think>", "</think>"), ThinkingMarks("[THINK]", "[/THINK]")
    plain, chat = read("questions"), ChatTemplate()
    thinks = read("typed", completion="[THINK]1+1[/THINK] 2 #### 2")
    place = checkpoint(tmp_path, THINKING)
    assert choose_marks(thinks, place, chat, None) == of_square
    assert choose_marks(thinks, place, chat, "none") is None
    assert choose_marks(thinks, place, chat, "<a>…</a>") == ThinkingMarks("<a>", "</a>")
    assert choose_marks(plain, place, chat, None) == of_think
    assert choose_marks(plain, place, ChatTemplate(CHATML), None) is None  # the one that is given
    assert choose_marks(plain, place, PromptTemplate(), None) is None
    prompt = PromptTemplate("[THINK][/THINK]{question}")
    assert choose_marks(plain, place, prompt, None) == of_square
    with pytest.raises(UsageError, match="write them as <think>…</think>"):
        choose_marks(plain, place, chat, "<think>")


def test_the_template_that_the_run_was_trained_with_has_the_lowest_nll(run_dir, tmp_path):
    last = sorted(run_dir.glob("checkpoint-*"), key=lambda f: int(f.name[11:]))[-1]
    shutil.copytree(last, tmp_path / last.name)
    problems = tiny.sums(0, 48)
    without = compare_templates(Checkpoint(tmp_path / last.name, 1), problems)
    assert without[0].option == "--plain"
    assert without[-1].option == "--chat"
    assert math.isnan(without[-1].nll)
    compared = compare_templates(checkpoint(tmp_path / last.name, CHATML), problems)
    assert len(compared) == 3
    assert compared[0].option == "--plain"
    nlls = [one.nll for one in compared]
    assert nlls == sorted(nlls)
    assert nlls[0] < 0.1 < 1 < nlls[1]
    typed = compare_templates(Checkpoint(tmp_path / last.name, 1), problems, is_typed=True)
    assert sorted(one.option for one in typed) == ["--chat", "--plain"]


def test_a_problem_that_is_longer_than_the_model_is_not_compared(run_dir):
    last = Checkpoint(min(run_dir.glob("checkpoint-*")), 1)
    problems = tiny.sums(0, 4)
    too_long = replace(problems[0], id="long", question=problems[0].question * 1000)
    found, expected = (
        [one.nll for one in compare_templates(last, chosen)]
        for chosen in ([*problems, too_long], problems)
    )
    assert found == pytest.approx(expected, rel=1e-5, nan_ok=True)
    assert not math.isnan(found[0])


def test_the_comparison_in_words_ends_with_the_option_to_choose():
    compared = [Compared("one", "--plain", 0.25), Compared("other", "--chat", math.nan)]
    assert compared_in_words(compared) == [
        "mean NLL of a few targets at the last checkpoint under each template:",
        "  NLL 0.250  one (--plain)",
        "  cannot be used  other (--chat)",
        "the lowest, and so the likely one, is that of the one: choose --plain",
    ]
    assert likely_template(compared[1:]) is None
    assert compared_in_words(compared[1:])[-1].startswith("none of them can be used")


@pytest.mark.parametrize(
    ("templates", "found"),
    [
        ([5, None, {"name": "default"}], None),
        ([None, {"name": "default", "template": "T"}], "T"),
        ([{"name": ["default"], "template": "T"}], None),
    ],
)
def test_named_templates_are_read_beside_what_is_none(tmp_path, templates, found):
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"chat_template": templates}))
    assert read_chat_template(Checkpoint(tmp_path, 0)) == found
