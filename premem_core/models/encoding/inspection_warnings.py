"""Inspection warnings: what may be wrong with the way in which a model sees its examples."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

from premem_core.models.backend import Target
from premem_core.models.encoding.encoder import Encoder, make_encoder
from premem_core.models.encoding.stops import added_tokens
from premem_core.problems.conversations import reasoning_of, separate_answer
from premem_core.problems.prompts import ChatTemplate, PromptTemplate, Template
from premem_core.problems.thinking import ThinkingMarks, split_thinking
from premem_core.records import Example

_ARGUED = 3  # examples by which the arguments of a chat template are judged
_COMPARED = 40  # characters of a thinking trace


def find_warnings(
    encoder: Encoder,
    tokenizer: Any,
    template: Template,
    targets: Sequence[tuple[Example, Target]],
    test: Sequence[Example],
    marks: ThinkingMarks | None,
) -> tuple[str, ...]:
    """A sentence for each thing that may be wrong.

    Args:
        targets: the training problems that can be scored, and their targets.
    """
    return (
        *_of_texts(encoder, tokenizer, template, targets),
        *_of_chats(encoder, tokenizer, template, targets, marks, test),
    )


def _of_texts(
    encoder: Encoder,
    tokenizer: Any,
    template: Template,
    targets: Sequence[tuple[Example, Target]],
) -> Iterator[str]:
    """Yield a sentence for each thing that may be wrong with any template."""
    n = len(targets)
    bos = tokenizer.bos_token_id
    if bos is not None and any(target.ids[:2] == (bos, bos) for _, target in targets):
        yield "the text begins with two BOS tokens; take one out of the template"
    if isinstance(template, PromptTemplate):
        lost = sum(_has_more_turns(example) for example, _ in targets)
        if lost:
            yield (
                f"the plain prompt leaves out the system prompts and earlier turns of {lost:,} of "
                f"{n:,} conversations; the chat template shows them (--chat)"
            )
    cut = sum(not _ends(target, encoder, tokenizer) for _, target in targets)
    if cut:
        yield (
            f"{cut:,} of {n:,} targets end without anything that ends a completion, because they "
            "are cut or because the template puts nothing there; their completions may not stop"
        )
    other = sum(not _continues(encoder, example, target) for example, target in targets)
    if other:
        yield (
            f"for {other:,} of {n:,} problems the prompt to sample from is not the beginning of "
            "the training text, so the model was trained on another beginning of the answer"
        )
    repeated = sum(_repeats_question(example) for example, _ in targets)
    if repeated:
        yield f"{repeated:,} of {n:,} targets repeat their question, which makes their NLL small"
    added = added_tokens(tokenizer)
    typed = sum(any(token in _content(example) for token in added) for example, _ in targets)
    if typed:
        yield f"the texts of {typed:,} of {n:,} problems hold special tokens typed as text"
    if encoder.opens_trace and (without := sum(not target.trace for _, target in targets)):
        yield f"the prompt opens a thinking trace, which {without:,} of {n:,} solutions do not have"


def _of_chats(
    encoder: Encoder,
    tokenizer: Any,
    template: Template,
    targets: Sequence[tuple[Example, Target]],
    marks: ThinkingMarks | None,
    test: Sequence[Example],
) -> Iterator[str]:
    """Yield a sentence for each thing that may be wrong with a chat template."""
    n = len(targets)
    without = [one for one in targets if not one[1].trace]
    lost = sum(_is_trace_lost(example, target, marks, tokenizer) for example, target in without)
    if lost:
        yield (
            f"the template leaves out the thinking traces of {lost:,} of {n:,} solutions; if the "
            "run was trained on them, give the template that it was trained with (--chat-template)"
        )
    unmarked = sum(separate_answer(example) is not None for example, _ in without) - lost
    if unmarked > 0:
        yield (
            f"the thinking traces of {unmarked:,} of {n:,} solutions cannot be told from their "
            "answers; say what the template puts around them (--thinking)"
        )
    on = sum(_goes_on(target, encoder, tokenizer) for _, target in targets)
    if on:
        yield (
            f"{on:,} of {n:,} targets go on after a token that ends a completion, so completions "
            "stop before their end"
        )
    changed = sum(_is_changed(encoder, *pair) for pair in pairwise(targets))
    if changed:
        yield (
            f"the template renders {changed:,} of {n:,} turns otherwise once more turns follow, "
            "and a trainer that renders whole conversations saw them so; score the last turns "
            "alone (without --turns all)"
        )
    if isinstance(template, ChatTemplate) and template.arguments:
        bare = make_encoder(replace(template, arguments={}), tokenizer, frozenset())
        if all(_is_same(bare, encoder, example) for example, _ in targets[:_ARGUED]):
            yield "the arguments of the chat template change nothing in the first problems"
    missing = sum(not _has_system(example) for example in test)
    if missing and all(_has_system(example) for example, _ in targets):
        yield (
            f"all training problems have a system prompt, and {missing:,} of {len(test):,} test "
            "problems have none; give it with --system"
        )


def _is_trace_lost(
    example: Example, target: Target, marks: ThinkingMarks | None, tokenizer: Any
) -> bool:
    """Whether the solution's thinking trace is not in a target without a trace."""
    if separate_answer(example) is None:
        return marks is not None and bool(split_thinking(example.solution, marks).trace)
    reasoning = reasoning_of(example.conversation.target) if example.conversation else ""
    return reasoning.strip()[:_COMPARED] not in tokenizer.decode(target.ids)


def _goes_on(target: Target, encoder: Encoder, tokenizer: Any) -> bool:
    """Whether a text follows a token that ends a completion."""
    scored = [target.ids[i] for i in target.scored]
    ends = (n for n, token in enumerate(scored) if token in encoder.ending.tokens)
    first = next(ends, len(scored))
    return bool(tokenizer.decode(scored[first + 1 :], skip_special_tokens=True).strip())


def _is_changed(
    encoder: Encoder, one: tuple[Example, Target], later: tuple[Example, Target]
) -> bool:
    """Whether the tokens of a target are others in the prompt of the turn that follows it."""
    chat, after = one[0].conversation, later[0].conversation
    if chat is None or after is None:
        return False
    turns = (*chat.context, chat.target)
    ids = one[1].ids[: one[1].scored[-1]]
    return after.context[: len(turns)] == turns and later[1].ids[: len(ids)] != ids


def _is_same(encoder: Encoder, other: Encoder, example: Example) -> bool:
    same_prompt = encoder.prompt(example) == other.prompt(example)
    return same_prompt and encoder.target(example).ids == other.target(example).ids


def _has_system(example: Example) -> bool:
    return example.conversation is not None and example.conversation.context[0]["role"] == "system"


def _has_more_turns(example: Example) -> bool:
    return example.conversation is not None and len(example.conversation.context) > 1


def _ends(target: Target, encoder: Encoder, tokenizer: Any) -> bool:
    tail = [target.ids[i] for i in target.scored[-8:]]
    if encoder.ending.tokens.intersection(tail):
        return True
    text = tokenizer.decode(tail)
    return any(stop.strip() and stop.strip() in text for stop in encoder.ending.strings)


def _continues(encoder: Encoder, example: Example, target: Target) -> bool:
    prompt = encoder.prompt(example)
    return target.ids[: len(prompt)] == prompt


def _repeats_question(example: Example) -> bool:
    return len(example.question) > 20 and example.question in example.solution


def _content(example: Example) -> str:
    """The texts of an example, without the marks of its thinking trace."""
    thinking = split_thinking(example.solution)
    return f"{example.question}\n{thinking.answer}"
