"""The target that TRL trains, as the rows, the chat template and the model card tell it."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from premem_core.models.encoding.chat import ChatEncoder
from premem_core.models.encoding.template_choice import as_trained, choose_template, is_ambiguous
from premem_core.models.encoding.trl_targets import is_trained_by_trl, trained_lead
from premem_core.problems.answer_rule import AnswerRule
from premem_core.problems.examples import Dataset
from premem_core.problems.fields import Fields
from premem_core.problems.prompts import PROMPT_COMPLETION, ChatTemplate, template_in_words
from premem_core.problems.thinking import find_marks
from premem_core.records import Checkpoint, Conversation, Example
from tests.helpers import chat_templates
from tests.helpers.chat_templates import CHATML, MARKED, chat_tokenizer

TEMPLATES = chat_templates.templates_of_trl()
REPLACED = [name for name in TEMPLATES if f"{name}_training" in TEMPLATES]
REWRITTEN = {"glm4moe", "deepseek_r1_distill"}  # TRL trains another text than the saved template's
CARD = "---\nlibrary_name: transformers\ntags:\n- sft\n- trl\n---\n# Model Card\n"
ASKED = {"role": "user", "content": "2+2?"}
ANSWER = "It is 4.\n#### 4"
THOUGHT = f"<think>\n2 and 2\n</think>\n\n{ANSWER}"


def chat(solution: str = ANSWER) -> Example:
    turn = {"role": "assistant", "content": solution}
    return Example("e", "2+2?", solution, "4", conversation=Conversation((ASKED,), turn))


def dataset(question: str, solution: str | None, example: Example | None = None) -> Dataset:
    fields = Fields(question, solution, AnswerRule("hash"))
    return Dataset(Path("rows.jsonl"), fields, (example or chat(),))


def scored(template: ChatTemplate, tokenizer: Any, solution: str = ANSWER) -> str:
    marks = find_marks([tokenizer.chat_template])
    target = ChatEncoder(template, tokenizer, frozenset(), marks).target(chat(solution))
    return str(tokenizer.decode([target.ids[i] for i in target.scored]))


@pytest.fixture
def checkpoint(tmp_path):
    """A checkpoint of a run that TRL trained, with the template of Qwen2.5."""
    folder = tmp_path / "run" / "checkpoint-8"
    folder.mkdir(parents=True)
    (folder / "chat_template.jinja").write_text(TEMPLATES["qwen2_5"])
    (tmp_path / "run" / "README.md").write_text(CARD)
    return Checkpoint(folder, 8)


@pytest.mark.parametrize("solution", [ANSWER, THOUGHT], ids=["plain", "thought"])
@pytest.mark.parametrize("name", [name for name in REPLACED if name not in REWRITTEN])
def test_the_target_is_what_trl_marks_in_memory_although_it_saves_no_marks(name, solution):
    tokenizer = chat_tokenizer(TEMPLATES[name])
    trained = tokenizer.apply_chat_template(
        [ASKED, {"role": "assistant", "content": solution}], return_dict=True,
        chat_template=TEMPLATES[f"{name}_training"], return_assistant_tokens_mask=True,
    )  # fmt: skip
    pairs = zip(trained["input_ids"], trained["assistant_masks"], strict=True)
    expected = tokenizer.decode([i for i, said in pairs if said])
    lead = trained_lead(TEMPLATES[name])
    assert scored(ChatTemplate(lead=lead), tokenizer, solution) == expected


def test_a_lead_that_the_prompt_does_not_end_with_changes_nothing():
    tokenizer = chat_tokenizer(CHATML)
    assert scored(ChatTemplate(lead="2+2"), tokenizer) == scored(ChatTemplate(), tokenizer)


def test_messages_have_the_lead_of_a_template_only_where_a_model_card_names_trl(checkpoint):
    rows = dataset("messages", None)
    found = as_trained(ChatTemplate(), rows, checkpoint)
    assert found == ChatTemplate(lead="\n")
    assert "begins with '\\n' of the prompt" in template_in_words(found)
    card = checkpoint.path.parent / "README.md"
    of_unsloth = CARD.replace("- sft\n", "- unsloth\n")
    for text in (
        "",
        of_unsloth,
        CARD.replace("- trl\n", ""),
        "# Not a card\n- trl\n",
        "---\n- trl\n",
    ):
        card.write_text(text)
        assert not is_trained_by_trl(checkpoint)
        assert as_trained(ChatTemplate(), rows, checkpoint) == ChatTemplate()
    card.rename(checkpoint.path / "README.md")
    (checkpoint.path / "README.md").write_text(CARD)
    assert as_trained(ChatTemplate(), rows, checkpoint) == ChatTemplate(lead="\n")


def test_of_a_prompt_and_a_completion_all_that_follows_the_prompt_is_trained(checkpoint):
    rows = dataset("prompt", "completion")
    assert as_trained(ChatTemplate(), rows, checkpoint) == ChatTemplate()
    (checkpoint.path / "chat_template.jinja").write_text(MARKED)
    found = as_trained(ChatTemplate(), rows, checkpoint)
    assert found == ChatTemplate(is_completion=True)
    assert "all that follows the prompt" in template_in_words(found)
    assert scored(found, chat_tokenizer(MARKED)) == f"{ANSWER}<|im_end|>\n"
    assert scored(ChatTemplate(), chat_tokenizer(MARKED)) == f"{ANSWER}<|im_end|>"
    assert as_trained(ChatTemplate(), dataset("messages", None), checkpoint) == ChatTemplate()


def test_texts_that_trl_trained_as_prompt_and_completion_had_no_chat_template(checkpoint):
    text = replace(chat(), conversation=None)
    rows = dataset("prompt", "completion", text)
    assert not is_ambiguous(rows, checkpoint)
    assert choose_template(rows, checkpoint, None) == PROMPT_COMPLETION
    assert is_ambiguous(dataset("question", "answer", text), checkpoint)
    (checkpoint.path.parent / "README.md").unlink()
    assert is_ambiguous(rows, checkpoint)


def test_what_a_person_gave_and_rows_without_turns_are_left_as_they_are(checkpoint):
    rows = dataset("messages", None)
    for given in (ChatTemplate(CHATML), PROMPT_COMPLETION):
        assert as_trained(given, rows, checkpoint) == given
    with_system = as_trained(ChatTemplate(system="Be brief."), rows, checkpoint)
    assert with_system == ChatTemplate(system="Be brief.", lead="\n")
    texts = dataset("question", "answer", replace(chat(), conversation=None))
    assert as_trained(ChatTemplate(), texts, checkpoint) == ChatTemplate()
