"""The chat encoder: the target's boundary, special tokens, stops, traces and beginnings."""

from collections.abc import Mapping
from typing import Any

import pytest

from premem_core.errors import DataError
from premem_core.models.encoding.chat import ChatEncoder
from premem_core.models.encoding.encoder import make_encoder
from premem_core.problems.prompts import ChatTemplate
from premem_core.problems.thinking import ThinkingMarks, find_marks
from premem_core.records import Conversation, Example
from tests.helpers import chat_templates
from tests.helpers.chat_templates import CHATML, MARKED, THINKING, chat_tokenizer

EOS = 1
THINK = ThinkingMarks("<think>", "</think>")
SYSTEM = {"role": "system", "content": "Be brief."}
EARLIER = ({"role": "user", "content": "1+1?"}, {"role": "assistant", "content": "2"})
ASKED = {"role": "user", "content": "2+2?"}
ANSWER = "It is 4.\n#### 4"
THOUGHT = f"<think>\n2 and 2\n</think>\n\n{ANSWER}"
TEMPLATES = chat_templates.templates_of_trl()
# The prompt opens a trace, or answers it with an empty one, which such a solution does not have.
UNCLEAR = {
    *(("deepseek_r1_distill", ANSWER), ("deepseek_r1_distill", THOUGHT)),
    *(("deepseekv3", ANSWER), ("deepseekv3", THOUGHT), ("qwen3_5_nothink", THOUGHT)),
    *((name, ANSWER) for name in TEMPLATES if name.startswith("nemotron") and "train" not in name),
}


def chat(solution: str = ANSWER, *context: Mapping[str, Any], **more: Any) -> Example:
    turn = {"role": "assistant", "content": solution, **more}
    return Example("e", "2+2?", solution, "4", conversation=Conversation((*context, ASKED), turn))


def encoder(template: str = CHATML, *, bos: bool = False, marks=None, **options) -> ChatEncoder:
    tokenizer = chat_tokenizer(template, bos=bos)
    return ChatEncoder(ChatTemplate(**options), tokenizer, frozenset({EOS}), marks)


def text_of(encode: ChatEncoder, ids) -> str:
    return encode.tokenizer.decode(list(ids))


def scored(encode: ChatEncoder, example: Example) -> str:
    target = encode.target(example)
    return text_of(encode, [target.ids[i] for i in target.scored])


@pytest.mark.parametrize("bos", [True, False], ids=["with BOS", "without BOS"])
def test_the_rendering_is_tokenized_with_the_special_tokens_that_it_holds_and_no_other(bos):
    encode = encoder(bos=bos)
    ids = encode.target(chat()).ids
    assert text_of(encode, ids) == (
        "<|im_start|>user\n2+2?<|im_end|>\n<|im_start|>assistant\nIt is 4.\n#### 4<|im_end|>\n"
    )
    assert ids[0] == encode.tokenizer.convert_tokens_to_ids("<|im_start|>")
    assert encode.prompt(chat()) == ids[: len(encode.prompt(chat()))]


def test_generation_marks_give_the_target_and_without_them_it_is_what_follows_the_prompt():
    assert scored(encoder(MARKED), chat()) == f"{ANSWER}<|im_end|>"
    assert scored(encoder(CHATML), chat()) == f"{ANSWER}<|im_end|>\n"
    # Of several turns, only the last is the target.
    assert scored(encoder(MARKED), chat(ANSWER, SYSTEM, *EARLIER)) == f"{ANSWER}<|im_end|>"
    assert scored(encoder(CHATML), chat(ANSWER, SYSTEM, *EARLIER)) == f"{ANSWER}<|im_end|>\n"


@pytest.mark.parametrize("solution", [ANSWER, THOUGHT], ids=["plain", "thought"])
@pytest.mark.parametrize("name", TEMPLATES)
def test_each_template_of_trl_gives_the_target_that_trl_trains_or_is_refused(name, solution):
    tokenizer = chat_tokenizer(TEMPLATES[name])
    marks = find_marks([TEMPLATES[name]])
    encode = ChatEncoder(ChatTemplate(), tokenizer, frozenset({EOS}), marks)
    example = chat(solution)
    if (name, solution) in UNCLEAR:
        with pytest.raises(DataError, match="not clear where the target begins"):
            encode.target(example)
        return
    target = encode.target(example)
    trained = tokenizer.apply_chat_template(
        [ASKED, {"role": "assistant", "content": solution}], return_dict=True,
        return_assistant_tokens_mask=encode.marks_generation,
    )  # fmt: skip
    assert list(target.ids) == trained["input_ids"][: len(target.ids)]
    if encode.marks_generation:
        expected = [i for i, said in enumerate(trained["assistant_masks"]) if said]
    else:
        expected = list(range(len(encode.prompt(example)), len(trained["input_ids"])))
    assert list(target.scored) == expected
    told = text_of(encode, [target.ids[i] for i in target.scored])
    assert ANSWER in told
    trace = text_of(encode, [target.ids[i] for i in target.scored[: target.trace]])
    assert "It is 4." not in trace
    assert ("2 and 2" in trace) == ("2 and 2" in told and marks == THINK)


def test_a_turn_ends_at_the_token_that_the_template_puts_after_it():
    encode = encoder()
    end = encode.tokenizer.convert_tokens_to_ids("<|im_end|>")
    assert encode.ending.tokens == {EOS, end}
    assert encode.ending.strings == ()
    by_text = encoder(CHATML.replace("<|im_end|>", "\n### "), stop=("\nQ:",))
    assert by_text.ending.strings == ("\nQ:", "###")


def test_a_system_prompt_is_put_before_conversations_that_have_none():
    encode = encoder(system="Be brief.")
    assert text_of(encode, encode.prompt(chat())).startswith("<|im_start|>system\nBe brief.")
    kept = text_of(encode, encode.prompt(chat(ANSWER, {**SYSTEM, "content": "Be long."})))
    assert "Be long." in kept
    assert "Be brief." not in kept


def test_arguments_reach_the_template():
    template = CHATML + "{% if enable_thinking is false %}<think>\n\n</think>\n\n{% endif %}"
    with_arguments = encoder(template, arguments={"enable_thinking": False})
    assert text_of(with_arguments, with_arguments.prompt(chat())).endswith("</think>\n\n")


def test_an_argument_that_the_template_does_not_have_is_refused():
    with pytest.raises(DataError, match="has no argument 'enable_thinkin'; correct its name"):
        encoder(arguments={"enable_thinkin": False})


def test_question_and_solution_alone_are_a_conversation_of_two_turns():
    encode = encoder()
    alone = Example("e", "2+2?", ANSWER, "4")
    assert encode.target(alone) == encode.target(chat())


def test_a_perturbed_question_takes_the_place_of_the_users_last_turn():
    encode = encoder()
    changed = Example("e", "3+1?", ANSWER, "4", conversation=chat(ANSWER, *EARLIER).conversation)
    told = text_of(encode, encode.prompt(changed))
    assert "3+1?" in told
    assert "2+2?" not in told
    assert "1+1?" in told


def test_a_beginning_stands_where_the_template_lets_the_answer_begin():
    assert text_of(encoder(), encoder().prompt(chat(), " First")).endswith("assistant\nFirst")
    qwen = encoder(TEMPLATES["qwen3"], marks=THINK)
    assert text_of(qwen, qwen.prompt(chat(), " First")).endswith("</think>\n\nFirst")
    assert text_of(qwen, qwen.prompt(chat(THOUGHT), " First")).endswith("<think>\nFirst")


EMPTY = f"<think>\n\n</think>\n\n{ANSWER}"


@pytest.mark.parametrize(
    ("template", "solution", "end", "is_open"),
    [
        (CHATML, ANSWER, "assistant\nFirst", False),
        (CHATML, THOUGHT, "assistant\n<think>\nFirst", True),
        (CHATML, EMPTY, "assistant\n<think>\n\n</think>\n\nFirst", False),
        (THINKING, ANSWER, "assistant\n<think>\n\n</think>\n\nFirst", False),
        (THINKING, THOUGHT, "assistant\n<think>\nFirst", True),
        (THINKING, EMPTY, "assistant\n<think>\n\n</think>\n\nFirst", False),
    ],
)
def test_a_beginning_is_that_of_the_trace_or_of_the_answer_after_it(
    template, solution, end, is_open
):
    encode = encoder(template, marks=THINK)
    assert text_of(encode, encode.prompt(chat(solution), " First")).endswith(end)
    assert encode.leaves_open(chat(solution), " First") == is_open
    assert encode.leaves_open(chat(solution)) == encode.opens_trace == (template == THINKING)
    # Without marks there is no trace, whatever the template writes.
    assert not encoder(template).leaves_open(chat(solution), " First")


def test_a_beginning_never_follows_the_references_own_trace():
    """Its reasoning is a field of its own, and the answer's words are in it too."""
    template = (
        "{% for m in messages %}{{'<|im_start|>' + m['role'] + '\n'}}"
        "{% if m['role'] == 'assistant' %}"
        "{{ '<think>\n' + (m['reasoning_content'] or '') + '\n</think>\n\n' }}{% endif %}"
        "{{ m['content'] + '<|im_end|>\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{'<|im_start|>assistant\n<think>\n'}}{% endif %}"
    )
    encode = encoder(template, marks=THINK)
    turn = {"role": "assistant", "content": ANSWER, "reasoning_content": f"2 and 2. {ANSWER}"}
    apart = Example("e", "2+2?", THOUGHT, "4", conversation=Conversation((ASKED,), turn))
    told = text_of(encode, encode.prompt(apart, " First"))
    assert told.endswith("assistant\n<think>\nFirst")
    assert encode.leaves_open(apart, " First")


def test_the_unconditional_target_has_no_question_before_it():
    for bos in (True, False):
        encode = encoder(bos=bos)
        target = encode.unconditional_target(chat())
        assert text_of(encode, target.ids) == f"{ANSWER}<|im_end|>\n"
        assert target.scored == tuple(range(1, len(target.ids)))


def test_a_checkpoint_without_a_template_needs_one():
    with pytest.raises(DataError, match=r"has no chat template .* --chat-template, or choose"):
        make_encoder(ChatTemplate(), chat_tokenizer(None), frozenset())
    given = make_encoder(ChatTemplate(CHATML), chat_tokenizer(None), frozenset())
    assert given.target(chat()) == encoder().target(chat())


def test_what_a_template_cannot_render_is_one_sentence():
    refusing = "{% if messages[0].role == 'system' %}{{ raise_exception('no system') }}{% endif %}"
    with pytest.raises(DataError, match=r"render the conversation about '2\+2\?' \(no system\)"):
        encoder(refusing + CHATML).target(chat(ANSWER, SYSTEM))
    with pytest.raises(
        DataError, match=r"'2\+2\?' \(integer division or modulo by zero\); correct"
    ):
        encoder("{% if messages[0].role == 'system' %}{{ 1 // 0 }}{% endif %}" + CHATML).target(
            chat(ANSWER, SYSTEM)
        )
    silent = CHATML.replace("m['content'] +", "(m['content'] if m['role'] == 'user' else '') +")
    with pytest.raises(DataError, match="leaves the solution of example 'e' out"):
        encoder(silent).target(chat())
    empty = MARKED.replace("{% generation %}", "").replace(
        "{% endgeneration %}", "{% generation %}{% endgeneration %}"
    )
    with pytest.raises(DataError, match="leaves example 'e' no token that is the assistant's"):
        encoder(empty).target(chat())
