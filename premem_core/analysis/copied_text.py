"""Copied text: the passages of a completion that also occur in the training solution."""

import re
from dataclasses import dataclass
from difflib import SequenceMatcher
from functools import lru_cache

FEWEST_WORDS = 4  # a copied passage has at least this many words in a row


@dataclass(frozen=True, slots=True)
class Passage:
    """A part of a text; `marked` if it also occurs in the text that it is compared with."""

    text: str
    marked: bool


def mark_copied(completion: str, solution: str) -> tuple[Passage, ...]:
    """The completion as passages; those that occur in the solution word for word are marked.

    >>> mark_copied("So 3 and 4 make 7, done", "First: so 3 and 4 make 7!")
    (Passage(text='So 3 and 4 make 7', marked=True), Passage(text=', done', marked=False))
    """
    return mark_matches(completion, solution, FEWEST_WORDS)


@lru_cache(maxsize=2048)  # a page calls this at every change of its threshold
def mark_matches(text: str, reference: str, fewest_words: int = 1) -> tuple[Passage, ...]:
    """The text as passages; those that occur in the reference, in any case, are marked.

    Args:
        fewest_words: a marked passage has at least this many words.
    """
    words, reference_words = _words(text), _words(reference)
    match = SequenceMatcher(
        None,
        [word.lower() for word, *_ in words],
        [word.lower() for word, *_ in reference_words],
        autojunk=False,
    )
    passages, end = [], 0
    for block in match.get_matching_blocks():
        if block.size < fewest_words or not block.size:
            continue
        start, stop = words[block.a][1], words[block.a + block.size - 1][2]
        if start > end:
            passages.append(Passage(text[end:start], marked=False))
        passages.append(Passage(text[start:stop], marked=True))
        end = stop
    rest = [Passage(text[end:], marked=False)] if end < len(text) else []
    return (*passages, *rest)


@lru_cache(maxsize=2048)
def copied_share(passages: tuple[Passage, ...]) -> float:
    """The share of the words that are marked; 0 where there are no words."""
    words = [(len(_words(p.text)), p.marked) for p in passages]
    total = sum(n for n, _ in words)
    return sum(n for n, marked in words if marked) / total if total else 0.0


def _words(text: str) -> list[tuple[str, int, int]]:
    """Words and punctuation marks, with the positions where each starts and ends."""
    return [(m[0], m.start(), m.end()) for m in re.finditer(r"\w+|[^\w\s]", text)]
