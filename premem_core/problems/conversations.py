"""Conversations: the turns of a row, whoever wrote them, up to an assistant's turn.

A turn has a role and a content (OpenAI, TRL), or `from` and `value` (ShareGPT):

    {"messages": [{"role": "user", "content": "2+2?"}, {"role": "assistant", "content": "4"}]}
    {"conversations": [{"from": "human", "value": "2+2?"}, {"from": "gpt", "value": "4"}]}
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal

from premem_core.problems.rows import BadRowError, check_characters
from premem_core.records import Conversation, Example

Turns = Literal["last", "all"]
Turn = Mapping[str, Any]

_ROLES = {
    **dict.fromkeys(("human", "user", "prompter"), "user"),
    **dict.fromkeys(("gpt", "assistant", "model", "bot", "chatgpt", "bing", "bard"), "assistant"),
    **dict.fromkeys(("system", "developer"), "system"),
    **dict.fromkeys(("tool", "observation", "function", "ipython", "function_response"), "tool"),
    "function_call": "assistant",
}
REASONING = ("reasoning_content", "reasoning", "thinking")
# What a chat template knows of a turn besides its role and content.
_KEPT = ("name", "tool_calls", "tool_call_id", *REASONING)
_DEEPEST = 100  # levels of a turn or a tool, so that every library can write and read it
_LEFT_OUT = {"weight": 0, "train": False, "loss": False}  # how tools mark a turn not trained on


def as_turns(value: object) -> list[Turn] | None:
    """The turns in a value, with the roles of OpenAI; None if it is not a list of turns.

    The list may also be written as JSON.

    >>> as_turns([{"from": "human", "value": "2+2?"}])
    [{'role': 'user', 'content': '2+2?'}]
    """
    if isinstance(value, str) and value.lstrip().startswith("["):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            return None
    if not isinstance(value, Sequence) or isinstance(value, str) or not value:
        return None
    turns = [_turn(item) for item in value]
    return None if None in turns else [turn for turn in turns if turn is not None]


def _turn(item: object) -> Turn | None:
    if not isinstance(item, Mapping):
        return None
    role, content = item.get("role", item.get("from")), item.get("content", item.get("value"))
    if not isinstance(role, str):
        return None
    turn = {"role": _ROLES.get(role.lower(), role), "content": _text_of(content)}
    turn |= {key: item[key] for key in _KEPT if item.get(key)}
    if any(key in item and item[key] == no for key, no in _LEFT_OUT.items()):
        turn["trained"] = False
    return turn


def _text_of(content: object) -> object:
    """The text of a content that is divided into parts of text; any other content as it is."""
    if isinstance(content, Sequence) and not isinstance(content, str):
        texts = [part.get("text") for part in content if isinstance(part, Mapping)]
        if len(texts) == len(content) and all(isinstance(text, str) for text in texts):
            return "".join(map(str, texts))
    return "" if content is None else content


def conversations(
    turns: Sequence[Turn], tools: Sequence[Turn] = (), which: Turns = "last"
) -> Iterator[Conversation]:
    """Yield the conversation up to the last assistant's turn, or up to each of them.

    Turns that the data marks as not trained on are context only.

    Raises:
        BadRowError: a turn has no text or cannot be stored, no turn is the assistant's, or the
            user says nothing before it.
    """
    for kept in (*turns, *tools):
        _check_depth(kept, _DEEPEST)
        check_characters(json.dumps(kept, ensure_ascii=False, default=str))
    for turn in turns:
        if not isinstance(turn["content"], str):
            raise BadRowError(f"the content of a turn is {str(turn['content'])[:40]}, not text")
    trained = [
        place
        for place, turn in enumerate(turns)
        if turn["role"] == "assistant" and turn.get("trained", True)
    ]
    places = [place for place in trained if target_text(turns[place]).strip()]
    if not places:
        raise BadRowError("no turn with a text is the assistant's")
    if which == "last" and places[-1] != trained[-1]:
        raise BadRowError("the assistant's last turn has no text")
    for place in places if which == "all" else places[-1:]:
        if not any(turn["role"] == "user" for turn in turns[:place]):
            raise BadRowError("there is no turn of the user before the assistant's")
        plain = [{k: v for k, v in turn.items() if k != "trained"} for turn in turns[: place + 1]]
        yield Conversation(tuple(plain[:-1]), plain[-1], tuple(tools))


def _check_depth(value: object, left: int) -> None:
    inner = value.values() if isinstance(value, Mapping) else value
    if isinstance(inner, str) or not isinstance(inner, Iterable):
        return
    if left == 0:
        raise BadRowError(f"a turn or a tool is nested more than {_DEEPEST} levels deep")
    for one in inner:
        _check_depth(one, left - 1)


def question_of(conversation: Conversation) -> str:
    """The text of the user's last turn before the target."""
    return str(conversation.context[question_place(conversation)]["content"])


def question_place(conversation: Conversation) -> int:
    """The index of the user's last turn among the turns before the target."""
    turns = conversation.context
    return max(place for place, turn in enumerate(turns) if turn["role"] == "user")


def reasoning_of(target: Turn) -> str:
    """The reasoning that an assistant's turn keeps apart from its content; "" if there is none."""
    return next((str(target[key]) for key in REASONING if target.get(key)), "")


def target_text(target: Turn) -> str:
    """The text of an assistant's turn, with its reasoning before it if that is kept apart."""
    reasoning, content = reasoning_of(target), str(target["content"])
    return f"<think>\n{reasoning.strip()}\n</think>\n\n{content}" if reasoning else content


def separate_answer(example: Example) -> str | None:
    """The answer of a solution whose reasoning is kept apart from it; None where it is not."""
    target = example.conversation.target if example.conversation else {}
    return str(target["content"]) if reasoning_of(target) else None


def conversation_json(conversation: Conversation | None) -> str | None:
    """A conversation as JSON text, as the store and a job's files keep it."""
    if conversation is None:
        return None
    content = {
        "context": conversation.context,
        "target": conversation.target,
        "tools": conversation.tools,
    }
    return json.dumps(content, ensure_ascii=False, default=str)


def read_conversation(text: str | None) -> Conversation | None:
    """The conversation that `conversation_json` wrote."""
    if not isinstance(text, str):
        return None
    content = json.loads(text)
    return Conversation(tuple(content["context"]), content["target"], tuple(content["tools"]))
