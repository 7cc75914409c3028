"""Shapes: the columns that hold an example's question and solution, as trainers expect them.

An example from a chat has more than these two: a system prompt, earlier turns, tools. A shape has
a place for all that an example has, or it is refused.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, get_args

import pyarrow as pa

from premem_core.curation.recipe import Shape
from premem_core.errors import UsageError
from premem_core.problems.conversations import read_conversation
from premem_core.records import Conversation, Example
from premem_core.store.database import Store
from premem_core.store.examples import count_conversations, read_conversations, read_task_examples

SHAPES: tuple[Shape, ...] = get_args(Shape)
KINDS = (".jsonl", ".csv", ".parquet")
Row = dict[str, Any]

BATCH = 10_000  # conversations in memory
_TYPES = {
    "system": pa.string(),
    "history": pa.list_(pa.list_(pa.string())),
    "tools": pa.string(),
}


@dataclass(frozen=True, slots=True)
class Layout:
    """How the rows of one file hold question and solution.

    Attributes:
        in_turns: whether both are lists of turns.
        more: further columns that some example needs, of `system`, `history` and `tools`.
        turn_type: of a turn in Parquet; None where Parquet cannot hold the turns as they are.
    """

    shape: Shape
    in_turns: bool
    more: tuple[str, ...] = ()
    turn_type: pa.DataType | None = None

    def row(self, example: Example) -> Row:
        """The columns of one example."""
        question: Any = example.question
        solution: Any = example.solution
        if self.in_turns:
            chat = example.conversation or _one_turn(example)
            question, solution = [*map(dict, chat.context)], [dict(chat.target)]
        columns: Mapping[Shape, Row] = {
            "plain": {"question": question, "solution": solution},
            "prompt-completion": {"prompt": question, "completion": solution},
            "messages": {"messages": question + solution},
            "alpaca": {"instruction": question, "input": "", "output": solution},
        }
        return columns[self.shape] | _more(example.conversation, self.more)

    def types(self) -> dict[str, pa.DataType]:
        """The Parquet types of columns whose first rows may not show them."""
        found = {name: _TYPES[name] for name in self.more}
        if self.in_turns and self.turn_type is not None:
            names = ("messages",) if self.shape == "messages" else ("prompt", "completion")
            found |= dict.fromkeys(names, pa.list_(self.turn_type))
        return found

    def check_kind(self, kind: str) -> None:
        """Check that a file of a kind can hold the rows.

        Args:
            kind: one of KINDS.

        Raises:
            UsageError: it cannot.
        """
        if kind == ".csv" and (self.in_turns or "history" in self.more):
            raise UsageError(
                f"the shape '{self.shape}' has lists of turns and cannot be written as CSV; choose "
                ".jsonl or .parquet"
            )
        if kind == ".parquet" and self.in_turns and self.turn_type is None:
            raise UsageError(
                "the turns call tools with different arguments, and Parquet has one set of "
                "arguments for all rows; choose .jsonl"
            )


def make_layout(store: Store, numbers: Sequence[int], shape: Shape) -> Layout:
    """The layout of a file with these examples.

    Args:
        numbers: the store's numbers of the examples.

    Raises:
        UsageError: the shape has no place for what some of the examples have.
    """
    chats, more = 0, set[str]()
    values: dict[str, tuple[object, Any]] = {}
    varied = False
    for start in range(0, len(numbers), BATCH):
        for id_, chat in read_conversations(store, numbers[start : start + BATCH]):
            more |= _columns_for(id_, chat, shape)
            varied |= not _add_values(values, (*chat.context, chat.target))
            chats += 1
    in_turns = shape == "messages" or (shape == "prompt-completion" and chats > 0)
    values = {"role": ("", ""), "content": ("", "")} | values
    fields = [(key, pa.array([value]).type) for key, (_, value) in values.items() if not varied]
    ordered = tuple(name for name in _TYPES if name in more)
    return Layout(shape, in_turns, ordered, pa.struct(fields) if fields else None)


def default_shape(store: Store, task: str) -> Shape:
    """The shape in which a task's training examples lose nothing.

    That is `plain` for questions and solutions, and `messages` for chats. Where some rows are
    chats only because they have a system prompt or earlier turns, it is `alpaca`.
    """
    chats, examples = count_conversations(store, task, "train")
    if not chats:
        return "plain"
    if chats == examples:
        return "messages"
    texts = read_task_examples(store, task, "train")["conversation"].dropna()
    parts = [_parts(chat) for text in texts if (chat := read_conversation(text))]
    return "alpaca" if all(found and any(found) for found in parts) else "messages"


def _one_turn(example: Example) -> Conversation:
    """The chat of a question and a solution."""
    asked = {"role": "user", "content": example.question}
    return Conversation((asked,), {"role": "assistant", "content": example.solution})


def _more(chat: Conversation | None, columns: Iterable[str]) -> Row:
    system, history = (_parts(chat) if chat else None) or ("", [])
    tools = json.dumps(chat.tools if chat else [], ensure_ascii=False, default=str)
    values = {"system": system, "history": history, "tools": tools}
    return {name: values[name] for name in columns}


def _parts(chat: Conversation) -> tuple[str, list[list[str]]] | None:
    """The system prompt and the earlier pairs of texts of a chat that has nothing else beside them.

    None if it has: turns of tools, or calls of them, reasoning that is kept apart.
    """
    turns = [*chat.context, chat.target]
    if any(turn.keys() != {"role", "content"} for turn in turns):
        return None
    has_system = turns[0]["role"] == "system"
    system = turns.pop(0)["content"] if has_system else ""
    if [turn["role"] for turn in turns] != ["user", "assistant"] * (len(turns) // 2):
        return None
    if has_system and not system.strip():  # a row without a system prompt looks the same
        return None
    texts = [turn["content"] for turn in turns]
    return system, [texts[i : i + 2] for i in range(0, len(texts) - 2, 2)]


def _columns_for(id_: str, chat: Conversation, shape: Shape) -> set[str]:
    """The further columns that a chat needs in a shape.

    Raises:
        UsageError: the shape has no place for what it has.
    """
    tools = {"tools"} if chat.tools else set()
    if shape == "messages" or (shape == "prompt-completion" and not _continues(chat)):
        return tools
    parts = _parts(chat) if shape != "prompt-completion" else None
    if parts is None or (shape == "plain" and parts[1]):
        raise UsageError(
            f"the shape '{shape}' has no place for all turns of example '{id_}', which comes from "
            "a chat; choose the shape messages"
        )
    return tools | {name for name, value in zip(("system", "history"), parts, strict=True) if value}


def _continues(chat: Conversation) -> bool:
    """Whether the target continues a turn of the assistant."""
    return bool(chat.context[-1]["role"] == "assistant")


def _add_values(values: dict[str, tuple[object, Any]], turns: Iterable[Mapping[str, Any]]) -> bool:
    """Add each key's form and first value; False if a key has values of different forms."""
    pairs = [(key, _form(value), value) for turn in turns for key, value in turn.items()]
    same = [values.setdefault(key, (form, value))[0] == form for key, form, value in pairs]
    return all(same) and None not in (form for _, form, _ in pairs)


def _form(value: Any) -> object:
    """The keys and types of a nested value; None for what Parquet cannot hold: an empty object."""
    if isinstance(value, Mapping):
        forms = tuple((key, _form(inner)) for key, inner in sorted(value.items()))
        return None if not forms or None in (form for _, form in forms) else forms
    if isinstance(value, list):
        found = {_form(inner) for inner in value}
        return ("list", *found) if len(found) == 1 and None not in found else None
    return type(value).__name__ if value is not None else None
