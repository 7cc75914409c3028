"""Inspection: the tokens that a model would see, and what may be wrong with them."""

import json
from dataclasses import replace

import pytest

from premem_core.errors import DataError
from premem_core.models.encoding.encoder import make_encoder
from premem_core.models.encoding.inspection import (
    Inspection,
    inspect_checkpoint,
    inspect_examples,
    read_inspection,
)
from premem_core.problems.conversations import target_text
from premem_core.problems.prompts import ChatTemplate, PromptTemplate, Template
from premem_core.problems.thinking import ThinkingMarks, find_marks
from premem_core.records import Checkpoint, Conversation, Example
from tests.helpers import tiny
from tests.helpers.chat_templates import CHATML, MARKED, THINKING, chat_tokenizer

EOS = frozenset({1})
MARKS = ThinkingMarks("<think>", "</think>")
PLAIN = PromptTemplate()
TYPED = PromptTemplate("{bos}{question}", "{solution}{eos}", ())


def problem(number: int = 1, **changes) -> Example:
    example = Example(f"e{number}", f"{number} and {number}?", f"It is {2 * number}.", "")
    return replace(example, **changes)


def inspected(
    *train: Example,
    template: str | None = CHATML,
    as_: Template = ChatTemplate(),
    bos: bool = False,
    marks: ThinkingMarks | None = None,
    longest: int | None = None,
    positions: int | None = None,
    test: tuple[Example, ...] = (),
) -> Inspection:
    tokenizer = chat_tokenizer(template, bos=bos)
    encoder = make_encoder(as_, tokenizer, EOS, marks, longest)
    return inspect_examples(encoder, tokenizer, positions, as_, train, test, marks)


def parts(found: Inspection, number: int = 0) -> list[tuple[str, str]]:
    """The runs of tokens of one part, with their text."""
    runs: list[tuple[str, str]] = []
    for token in found.examples[number].tokens:
        if runs and runs[-1][0] == token.part:
            runs[-1] = token.part, runs[-1][1] + token.text
        else:
            runs.append((token.part, token.text))
    return runs


def test_an_example_is_shown_token_by_token_with_the_parts_that_are_scored():
    thought = problem(solution="<think>1+1</think>It is 2.")
    found = inspected(thought, marks=MARKS)
    asked = "<|im_start|>user\n1 and 1?<|im_end|>\n<|im_start|>assistant\n"
    assert parts(found) == [
        ("prompt", asked), ("trace", "<think>1+1</think>"), ("target", "It is 2.<|im_end|>\n"),
    ]  # fmt: skip
    special = [token.text for token in found.examples[0].tokens if token.special]
    assert special == ["<|im_start|>", "<|im_end|>", "<|im_start|>", "<|im_end|>"]
    assert found.stops == ("</s>", "<|im_end|>")
    assert (found.left_out, found.warnings) == ((), ())


def test_what_stands_between_scored_tokens_and_is_not_scored_is_said_to_be_between():
    end = "{{ m['content'] + '<|im_end|>' }}{% endgeneration %}"
    apart = (
        "{{ m['content'] }}{% endgeneration %}{{ ' ~ ' }}{% generation %}{{ '<|im_end|>' }}"
        "{% endgeneration %}"
    )
    found = inspected(problem(), template=MARKED.replace(end, apart))
    assert parts(found)[1:] == [
        ("target", "It is 2."),
        ("between", " ~ "),
        ("target", "<|im_end|>"),
    ]


def test_the_first_three_are_shown_and_all_of_it_passes_through_json():
    found = inspected(*map(problem, range(5)), problem(9, solution=""), test=(problem(7),))
    assert [seen.id for seen in found.examples] == ["e0", "e1", "e2"]
    assert read_inspection(json.loads(json.dumps(found.as_json()))) == found


@pytest.mark.parametrize(
    ("template", "as_", "doubled"),
    [
        ("{{ bos_token }}" + CHATML, ChatTemplate(), False),
        ("{{ bos_token * 2 }}" + CHATML, ChatTemplate(), True),
        (CHATML, TYPED, False),  # the BOS that is typed is the tokenizer's own
        (CHATML, PromptTemplate("{bos}{bos}{question}", "{solution}", ()), True),
    ],
)
def test_two_bos_tokens_are_said(template, as_, doubled):
    found = inspected(problem(), template=template, as_=as_, bos=True)
    said = [line for line in found.warnings if "two BOS" in line]
    assert said == (
        ["the text begins with two BOS tokens; take one out of the template"] if doubled else []
    )


def test_a_target_that_is_cut_is_counted_and_one_that_is_cut_off_as_a_whole_is_left_out():
    short, long = problem(1), problem(2, solution="It is " + "very " * 40 + "much.")
    late = problem(3, question="what? " * 40)
    found = inspected(short, long, late, longest=120)
    assert [line for line in found.warnings if "they are cut" in line] == [
        "1 of 2 targets end without anything that ends a completion, because they are cut or "
        "because the template puts nothing there; their completions may not stop"
    ]
    [left] = found.left_out
    assert (left.split, left.id) == ("train", "e3")
    assert "before its target begins" in left.reason
    assert inspected(short, long).warnings == ()
    endless = PromptTemplate("{question}", "{solution}", ())
    assert "1 of 1 targets end without" in inspected(short, as_=endless).warnings[0]


def test_an_example_whose_mask_is_empty_is_left_out_and_if_all_are_that_is_an_error():
    partly = MARKED.replace("m['role'] == 'assistant'", "'It is 2.' in m['content']")
    found = inspected(problem(1), problem(2), template=partly)
    [left] = found.left_out
    assert left.id == "e2"
    assert "no token that is the assistant's; check its generation marks" in left.reason
    with pytest.raises(DataError, match=r"none of 1 training problems can be scored; the first "):
        inspected(problem(2), template=partly)


def test_problems_that_are_longer_than_the_model_are_left_out_in_both_splits():
    n = len(inspected(problem()).examples[0].tokens)
    fits, long = problem(), problem(2, question="2 and 2, I mean?")
    found = inspected(fits, long, positions=n, test=(problem(3), problem(4, question="4" * n)))
    assert [(left.split, left.id) for left in found.left_out] == [("train", "e2"), ("test", "e4")]
    assert found.left_out[0].reason == f"it has {n + 8} tokens, and the model takes {n}"


def test_a_target_that_repeats_its_question_is_said():
    asked = "How many clips did she sell in May?"
    again = problem(1, question=asked, solution=f"{asked} It is 2.")
    assert inspected(again, problem(2)).warnings == (
        "1 of 2 targets repeat their question, which makes their NLL small",
    )
    assert inspected(problem(1, question="2?", solution="2? It is 2.")).warnings == ()


def test_special_tokens_that_are_typed_as_text_are_said():
    typed = problem(1, question="<|im_end|> is what?")
    assert "the texts of 1 of 2 problems hold special tokens typed as text" in (
        inspected(typed, problem(2)).warnings
    )


def test_special_tokens_in_an_answer_are_said_and_those_that_mark_a_trace_are_not():
    template = CHATML + "{# <|begin_of_thought|> <|end_of_thought|> #}"
    thought = "<|begin_of_thought|>1+1<|end_of_thought|>"
    marks = ThinkingMarks("<|begin_of_thought|>", "<|end_of_thought|>")
    clean = problem(1, solution=f"{thought}It is 2.")
    assert inspected(clean, template=template, marks=marks).warnings == ()
    typed = problem(2, solution=f"{thought}It is <|im_start|>2.")
    found = inspected(clean, typed, template=template, marks=marks)
    assert found.warnings == ("the texts of 1 of 2 problems hold special tokens typed as text",)


def test_a_plain_prompt_says_which_turns_it_leaves_out():
    system = {"role": "system", "content": "Be brief."}
    asked, said = {"role": "user", "content": "1?"}, {"role": "assistant", "content": "It is 2."}
    chat = Conversation((system, asked), said)
    example = problem(1, conversation=chat)
    found = inspected(example, problem(2), as_=PLAIN)
    assert found.warnings == (
        "the plain prompt leaves out the system prompts and earlier turns of 1 of 2 "
        "conversations; the chat template shows them (--chat)",
    )
    assert inspected(example).warnings == ()


def test_a_prompt_that_the_training_text_does_not_begin_with_is_said():
    other = MARKED.replace("assistant\n'}}{% endif %}", "assistant\nSo: '}}{% endif %}")
    assert other != MARKED
    assert inspected(problem(), template=MARKED).warnings == ()
    [said] = inspected(problem(), template=other).warnings
    assert said.startswith("for 1 of 1 problems the prompt to sample from is not the beginning of")


def test_solutions_without_the_trace_that_the_prompt_opens_are_said():
    thought = problem(1, solution="<think>\n1+1\n</think>\n\nIt is 2.")
    without = THINKING.replace("'<think>\n\n</think>\n\n'", "'<think>\n'")
    assert without != THINKING
    found = inspected(thought, problem(2), problem(3), template=without, marks=MARKS)
    assert found.warnings == (
        "the prompt opens a thinking trace, which 2 of 3 solutions do not have",
    )


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> Checkpoint:
    return Checkpoint(tiny.save_base(tmp_path_factory.mktemp("base"), bos=False), 1)


def test_a_checkpoint_gives_its_tokenizer_its_end_and_its_length(checkpoint):
    """256 tokens, the model's length: one token more is left out, or with vLLM this one too."""
    full = problem(1, question="q" * (256 - len("It is 2.") - 2))
    longer = replace(full, id="longer", question=full.question + "q")
    found = inspect_checkpoint(checkpoint, TYPED, None, None, [full, longer])
    assert len(found.examples[0].tokens) == 256
    assert [left.id for left in found.left_out] == ["longer"]
    assert found.stops == ("</s>",)
    with pytest.raises(DataError, match="it has 256 tokens, and the model takes 255"):
        inspect_checkpoint(checkpoint, TYPED, None, None, [full], spare=1)


def test_a_checkpoint_without_a_chat_template_is_refused_with_what_to_do(checkpoint):
    with pytest.raises(DataError, match=r"no chat template .* --chat-template, or .*--plain"):
        inspect_checkpoint(checkpoint, ChatTemplate(), None, None, [problem()])
    given = ChatTemplate(CHATML)
    assert inspect_checkpoint(checkpoint, given, None, None, [problem()]).examples


MAGISTRAL = (
    "{% for m in messages %}{% if m['role'] == 'user' %}{{ '[INST]' + m['content'] + '[/INST]' }}"
    "{% else %}{% if m['reasoning_content'] %}{{ '[THINK]' + m['reasoning_content'] + '[/THINK]' }}"
    "{% endif %}{{ m['content'] + '<|im_end|>' }}{% endif %}{% endfor %}"
)
GPT_OSS = (
    "{% for m in messages %}{% if m['role'] == 'user' %}"
    "{{ '<|start|>user<|message|>' + m['content'] + '<|end|>' }}{% else %}{% if m['thinking'] %}"
    "{{ '<|start|>assistant<|channel|>analysis<|message|>' + m['thinking'] + '<|end|>' }}"
    "{% endif %}{{ '<|start|>assistant<|channel|>final<|message|>' + m['content'] + '<|return|>' }}"
    "{% endif %}{% endfor %}{% if add_generation_prompt %}{{ '<|start|>assistant' }}{% endif %}"
)
ASKED = {"role": "user", "content": "1 and 1?"}


def reasoned(key: str, reasoning: str = "One, two: 7?") -> Example:
    turn = {"role": "assistant", "content": "It is 2.", key: reasoning}
    return problem(solution=target_text(turn), conversation=Conversation((ASKED,), turn))


@pytest.mark.parametrize(
    ("template", "key", "trace", "stops"),
    [
        (MAGISTRAL, "reasoning_content", "[THINK]One, two: 7?[/THINK]", ("</s>", "<|im_end|>")),
        (GPT_OSS, "thinking", "<|channel|>analysis<|message|>One, two: 7?<|end|><|start|>assistant"
         "<|channel|>final<|message|>", ("</s>", "<|return|>")),
    ],
)  # fmt: skip
def test_reasoning_that_is_kept_apart_has_the_marks_of_the_template(template, key, trace, stops):
    found = inspected(reasoned(key), template=template, marks=find_marks([template]))
    assert parts(found)[1] == ("trace", trace)
    assert parts(found)[2][1].startswith("It is 2.")
    assert found.stops == stops  # <|end|> ends the reasoning, not the completion
    assert found.warnings == ()


def test_traces_that_the_template_drops_or_that_have_unknown_marks_are_said():
    lost = inspected(reasoned("thinking"), template=CHATML).warnings
    assert [line for line in lost if "leaves out the thinking traces of 1 of 1" in line]
    unknown = MAGISTRAL.replace("[THINK]", "~~").replace("[/THINK]", "~~ ")
    [said] = inspected(reasoned("reasoning_content"), template=unknown).warnings
    assert said.startswith("the thinking traces of 1 of 1 solutions cannot be told from their ans")
    stripped = CHATML.replace("m['content'] +", "m['content'].split('</think>')[-1] +")
    thought = problem(solution="<think>1+1</think>It is 2.")
    [said] = inspected(thought, template=stripped, marks=MARKS).warnings
    assert said.startswith("the template leaves out the thinking traces of 1 of 1 solutions")


def test_turns_that_the_template_renders_otherwise_later_are_said():
    turns = [ASKED, {"role": "assistant", "content": "<think>1+1</think>It is 2."}] * 2
    chats = [Conversation(tuple(turns[:i]), turns[i]) for i in (1, 3)]
    solution = turns[1]["content"]
    examples = [problem(id=str(i), solution=solution, conversation=c) for i, c in enumerate(chats)]
    assert inspected(*examples, marks=MARKS).warnings == ()
    last_only = CHATML.replace(
        "m['content'] +", "(m['content'] if loop.last else m['content'].split('</think>')[-1]) +"
    )
    [said] = inspected(*examples, template=last_only, marks=MARKS).warnings
    assert said.startswith("the template renders 1 of 2 turns otherwise once more turns follow")


def test_text_after_an_end_is_said():
    goes_on = CHATML.replace("'<|im_end|>\n'", "'<|im_end|>\nBye.<|im_end|>'")
    assert "1 of 1 targets go on after a token that ends a completion" in "".join(
        inspected(problem(), template=goes_on).warnings
    )


def test_arguments_that_change_nothing_and_a_system_prompt_that_tests_lack_are_said():
    template = "{{ greeting or '' }}" + CHATML
    for value, said in (
        ("", ["the arguments of the chat template change nothing in the "]),
        ("Hi", []),
    ):
        found = inspected(
            problem(), template=template, as_=ChatTemplate(arguments={"greeting": value})
        )
        assert [line[:50] for line in found.warnings] == [line[:50] for line in said]
    system = {"role": "system", "content": "Be brief."}
    target = {"role": "assistant", "content": "It is 2."}
    briefed = problem(conversation=Conversation((system, ASKED), target))
    [lacking] = inspected(briefed, test=(problem(2), problem(3))).warnings
    assert lacking.startswith(
        "all training problems have a system prompt, and 2 of 2 test problems"
    )
    assert inspected(briefed, test=(briefed,)).warnings == ()
