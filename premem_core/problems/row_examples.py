"""The examples of one row: its fields become conversations, and these become examples."""

import hashlib
import json
import math
from collections import ChainMap
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from premem_core.problems.answer_rule import Option, label_of, listed_in, options_in
from premem_core.problems.conversations import (
    as_turns,
    conversation_json,
    conversations,
    question_of,
    target_text,
)
from premem_core.problems.fields import Fields
from premem_core.problems.rows import BadRowError, as_name, check_characters, value_at
from premem_core.records import Conversation, Example

_LARGEST_INTEGER = 2**63  # of a table's column
# What a value of an unforeseen form raises.
_ODD_FORM = (TypeError, ValueError, AttributeError, LookupError, RecursionError, ArithmeticError)


def examples_of_row(
    values: Mapping[str, Any], fields: Fields, earlier: Mapping[str, Example]
) -> list[Example]:
    """The examples of a row: one for each turn or text that is a solution.

    A row that repeats an earlier one, its id too, gives the same example.

    Args:
        earlier: the examples of the rows before it, by id.

    Raises:
        BadRowError: the row cannot be used.
    """
    try:
        return _examples(values, fields, earlier)
    except _ODD_FORM as error:
        raise BadRowError(f"a value has another form than its column should ({error})") from error


def _examples(
    values: Mapping[str, Any], fields: Fields, earlier: Mapping[str, Example]
) -> list[Example]:
    for path in (fields.question, fields.solution):
        if path and value_at(values, path) is None and path not in values:
            raise BadRowError(f"there is no field {path!r} (there are: {', '.join(values)})")
    metadata = _metadata(values, fields)
    found: dict[str, Example] = {}
    for question, solution, conversation in _targets(values, fields):
        answer = _answer(values, fields, solution)
        if answer is None:
            if fields.turns == "all" and conversation is not None:
                continue  # a turn without a final answer cannot be graded
            raise BadRowError(f"the rule '{fields.answer}' finds no final answer")
        for text in (question, solution, answer, *metadata, *map(str, metadata.values())):
            check_characters(text)
        id_ = _content_id(question, solution, conversation)
        if fields.id is not None:
            id_ = _free_id(_given_id(values, fields.id), found)
            if id_ in earlier:
                again = Example(id_, question, solution, answer, metadata, conversation)
                found[id_] = _repeated(earlier[id_], again)
                continue
        else:
            id_ = _free_id(id_, ChainMap(found, earlier))  # type: ignore[arg-type]
        found[id_] = Example(id_, question, solution, answer, metadata, conversation)
    if not found:
        raise BadRowError(f"the rule '{fields.answer}' finds no final answer in any turn")
    return list(found.values())


def _targets(
    values: Mapping[str, Any], fields: Fields
) -> Iterator[tuple[str, str, Conversation | None]]:
    """Yield the question and solution of each target of a row, and its conversation."""
    asked = value_at(values, fields.question)
    turns = as_turns(asked)
    answers = _answers(values, fields)
    answered = as_turns(answers)
    before = _turns_before(values, fields)
    tools = _tools(values, fields)
    if turns is None and answered is None and not before and not tools:
        question = _question(values, fields)
        for solution in _solutions(answers, fields.solution or ""):
            yield question, solution, None
        return
    context = turns or [{"role": "user", "content": _question(values, fields)}]
    if answered and answered[0]["role"] in ("system", "user"):  # it repeats the question
        context = []
    if any(turn["role"] == "system" for turn in [*context, *(answered or [])]):
        before = [turn for turn in before if turn["role"] != "system"]
    for said in _assistant_turns(answers, answered, fields):
        for conversation in conversations([*before, *context, *said], tools, fields.turns):
            yield question_of(conversation), target_text(conversation.target), conversation


def _answers(values: Mapping[str, Any], fields: Fields) -> Any:
    """What the solution's column holds; the option's label where it holds the final answer."""
    label = _label(values, fields) if fields.labelled else None
    return label or (value_at(values, fields.solution) if fields.solution else None)


def _assistant_turns(
    answers: object, answered: list[Mapping[str, Any]] | None, fields: Fields
) -> list[list[Mapping[str, Any]]]:
    """The turns that follow the question: none, turns, or one turn for each text."""
    if fields.solution is None:
        return [[]]
    if answered is not None:
        return [answered]
    texts = _solutions(answers, fields.solution)
    return [[{"role": "assistant", "content": text}] for text in texts]


def _solutions(value: object, column: str) -> list[str]:
    """The texts of a solution column, which may hold a list of them."""
    texts = value if isinstance(value, list) else [value]
    return [_text(text, column) for text in texts] or [_text(None, column)]


def _question(values: Mapping[str, Any], fields: Fields) -> str:
    """The question, with Alpaca's input and the options of a multiple-choice question after it."""
    question = _text(value_at(values, fields.question), fields.question)
    more = value_at(values, fields.input) if fields.input else None
    if isinstance(more, str) and more.strip():
        question = f"{question}\n{more}"
    options = _options(values, fields)
    labels = _label(values, fields) is not None
    if options and not listed_in(options, question, labels=labels):
        question = "\n".join([question, *(option.line for option in options)])
    return question


def _options(values: Mapping[str, Any], fields: Fields) -> list[Option]:
    return options_in(value_at(values, fields.options)) if fields.options else []


def _label(values: Mapping[str, Any], fields: Fields) -> str | None:
    """The label of the right option, where the answer is its index, as in MMLU, or the solution.

    Raises:
        BadRowError: the answer is an index that no option has, and there is no other solution.
    """
    options = _options(values, fields)
    if not options or fields.answer.kind != "field":
        return None
    given, is_solution = value_at(values, fields.answer.argument), fields.labelled
    label = label_of(options, given) if is_solution or not isinstance(given, str) else None
    if label is None and is_solution and isinstance(given, int):
        raise BadRowError(f"{fields.solution!r} is {given}, which is none of the options")
    return label


def _answer(values: Mapping[str, Any], fields: Fields, solution: str) -> str | None:
    """The final answer; where it is the index of an option, as in MMLU, the option's letter."""
    return _label(values, fields) or fields.answer.find(values, solution)


def _turns_before(values: Mapping[str, Any], fields: Fields) -> list[Mapping[str, Any]]:
    """The system prompt and the earlier turns that other columns hold."""
    turns: list[Mapping[str, Any]] = []
    system = value_at(values, fields.system) if fields.system else None
    if isinstance(system, str) and system.strip():
        turns.append({"role": "system", "content": system})
    history = (value_at(values, fields.history) if fields.history else None) or []
    for pair in history if isinstance(history, list) else [history]:
        if not isinstance(pair, list) or len(pair) != 2:
            raise BadRowError(f"{fields.history!r} is not a list of pairs of texts")
        roles = zip(("user", "assistant"), pair, strict=True)
        turns += [{"role": role, "content": text} for role, text in roles]
    return turns


def _tools(values: Mapping[str, Any], fields: Fields) -> list[Mapping[str, Any]]:
    value = value_at(values, fields.tools) if fields.tools else None
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError:
            raise BadRowError(f"{fields.tools!r} is not valid JSON") from None
        except RecursionError:
            raise BadRowError(f"{fields.tools!r} is JSON that is nested too deeply") from None
    return value if isinstance(value, list) else []


def _metadata(
    values: Mapping[str, Any], fields: Fields
) -> dict[str, str | int | float | bool | None]:
    used = fields.used
    names = [
        name
        for name in values
        if (name not in used if fields.metadata is None else name in fields.metadata)
    ]
    return {name: _as_scalar(values[name]) for name in names}


def _text(value: object, column: str) -> str:
    if not isinstance(value, str):
        shown = "missing" if value is None else repr(value)[:40]
        raise BadRowError(f"{column!r} is {shown}, not text")
    if not value.strip():
        raise BadRowError(f"{column!r} is empty")
    return value


def _content_id(question: str, solution: str, conversation: Conversation | None) -> str:
    content = conversation_json(conversation) or f"{question}\0{solution}"
    return hashlib.sha256(content.encode(errors="surrogatepass")).hexdigest()[:12]


def _given_id(values: Mapping[str, Any], column: str) -> str:
    id_ = (as_name(value_at(values, column)) or "").strip()
    if not id_:
        raise BadRowError(f"the id in {column!r} is neither text nor a number")
    check_characters(id_)
    return id_


def _repeated(earlier: Example, again: Example) -> Example:
    """The earlier example, where a row repeats it, as rows of more weight are repeated.

    Raises:
        BadRowError: it has the same id and says something else.
    """
    if replace(again, metadata=earlier.metadata) != earlier:
        raise BadRowError(f"the id {earlier.id!r} was used before")
    return earlier


def _free_id(wanted: str, taken: Mapping[str, Example]) -> str:
    """The id, or with the first number at its end that is free."""
    repeats = 1
    while (id_ := wanted if repeats == 1 else f"{wanted}-{repeats}") in taken:
        repeats += 1
    return id_


def _as_scalar(value: object) -> str | int | float | bool | None:
    """A metadata value as a scalar that JSON and a table column can hold."""
    if isinstance(value, int) and abs(value) >= _LARGEST_INTEGER:
        return str(value)
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return json.dumps(value, ensure_ascii=False, default=str)
