"""Copied text: which passages of a completion stand in the training solution too."""

import re
from dataclasses import dataclass
from difflib import SequenceMatcher
from functools import lru_cache

FEWEST_WORDS = 4  # in a row that make a copied passage


@dataclass(frozen=True, slots=True)
class Passage:
    """A part of a text; `marked` where it is also in the text that it is held against."""

    text: str
    marked: bool


def copied(completion: str, solution: str) -> tuple[Passage, ...]:
    """The completion in passages, marked where the solution says the same, word for word.

    >>> copied("So 3 and 4 make 7, done", "First: so 3 and 4 make 7!")
    (Passage(text='So 3 and 4 make 7', marked=True), Passage(text=', done', marked=False))
    """
    return matched(completion, solution, FEWEST_WORDS)


@lru_cache(maxsize=2048)  # a page asks again at every change of its threshold
def matched(text: str, other: str, fewest: int = 1) -> tuple[Passage, ...]:
    """A text in passages, marked where at least so many words in a row are in the other too."""
    ours, theirs = (_words(each) for each in (text, other))
    match = SequenceMatcher(
        None, [w.lower() for w, *_ in ours], [w.lower() for w, *_ in theirs], autojunk=False
    )
    passages, end = [], 0
    for block in match.get_matching_blocks():
        if block.size < fewest or not block.size:
            continue
        start, stop = ours[block.a][1], ours[block.a + block.size - 1][2]
        if start > end:
            passages.append(Passage(text[end:start], marked=False))
        passages.append(Passage(text[start:stop], marked=True))
        end = stop
    rest = [Passage(text[end:], marked=False)] if end < len(text) else []
    return (*passages, *rest)


@lru_cache(maxsize=2048)
def copied_share(passages: tuple[Passage, ...]) -> float:
    """The share of the words that are marked; 0 of no word."""
    words = [(len(_words(p.text)), p.marked) for p in passages]
    total = sum(n for n, _ in words)
    return sum(n for n, marked in words if marked) / total if total else 0.0


def _words(text: str) -> list[tuple[str, int, int]]:
    return [(m[0], m.start(), m.end()) for m in re.finditer(r"\w+|[^\w\s]", text)]
