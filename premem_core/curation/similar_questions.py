"""Questions → those that say what another one says: word for word, or nearly.

Two questions are compared by the pairs of neighbouring words that they share, once as they are and
once with every name replaced by the same sign. Case, spaces and punctuation do not count; numbers
do: the same problem with other numbers is another problem. Candidates come from MinHash signatures
(Broder 1997), and the similarity that is told of a pair is exact.
"""

import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Sequence
from itertools import pairwise
from typing import Any

import pandas as pd

SIMILARITY = 0.5  # Jaccard index of two questions' pairs of words
PERMUTATIONS = 128
# Signatures only estimate: candidates are sought below the similarity that is asked for, and one
# that is missed weighs more than one that is looked at in vain.
MARGIN, WEIGHTS = 0.25, (0.1, 0.9)
COLUMNS = ("example", "other", "similarity", "exact")

Shingles = frozenset[str]
Sets = tuple[Shingles, Shingles]
# Scripts that put no spaces between words: each of their characters is one.
CJK = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
WORD = re.compile(rf"[{CJK}]|[^\W{CJK}]+(?:[.,]\d+)*")
INVISIBLE = re.compile("[\u00ad\u200b-\u200f\u2060\ufeff]")
NAME = re.compile(r"[^\W\d_]+")
# Of a text in which more words than these are written so, capitals tell no name.
MOST_NAMES = 0.4


class QuestionIndex:
    """Questions to hold others against.

    Args:
        similarity: at least this Jaccard index, from 0 to 1, makes two questions alike.
    """

    def __init__(self, similarity: float = SIMILARITY) -> None:
        from datasketch import MinHashLSH

        self._similarity = similarity
        self._views = [
            MinHashLSH(max(similarity - MARGIN, 0.05), PERMUTATIONS, WEIGHTS) for _ in range(2)
        ]
        self._known: dict[int, Sets] = {}

    def add(self, number: int, question: str) -> None:
        """Remember a question by a number."""
        if sets := _sets(question):
            self._known[number] = sets
            for view, one in zip(self._views, sets, strict=True):
                view.insert(number, _signature(one))

    def like(self, question: str) -> tuple[int, float, bool] | None:
        """The question most like this one: number, similarity, whether the same; None: none is.

        The same: they differ in nothing but case, spaces and punctuation. Of equally similar ones
        it is the one with the lowest number.
        """
        alike = self.all_like(question)
        if not alike:
            return None
        best, other = max((similarity, -other) for other, similarity in alike.items())
        sets = _sets(question)
        return -other, best, sets is not None and sets[0] == self._known[-other][0]

    def all_like(self, question: str) -> dict[int, float]:
        """Every question like this one: its similarity by its number."""
        sets = _sets(question)
        if sets is None:
            return {}
        near = {
            other
            for view, one in zip(self._views, sets, strict=True)
            for other in view.query(_signature(one))
        }
        alike = {other: _jaccard(sets, self._known[other]) for other in near}
        return {other: index for other, index in alike.items() if index >= self._similarity}


class SimilarPairs:
    """Which of many questions are alike: looked for once, then told for any order of them.

    Args:
        questions: texts by example number.
        similarity: as of `Seen`.
    """

    def __init__(self, questions: pd.Series, similarity: float = SIMILARITY) -> None:
        seen, firsts = QuestionIndex(similarity), dict[Shingles, int]()
        self._text: dict[int, int] = {}  # of each example the first that asks the same
        self._alike: dict[int, dict[int, float]] = defaultdict(dict)  # between such first ones
        for each, question in questions.items():
            number = int(str(each))
            if (sets := _sets(question)) is None:
                continue
            self._text[number] = firsts.setdefault(sets[0], number)
            if self._text[number] == number:
                for other, index in seen.all_like(question).items():
                    self._alike[number][other] = self._alike[other][number] = index
                seen.add(number, question)

    def among(self, order: Iterable[int], through: Collection[int] = frozenset()) -> pd.DataFrame:
        """Every example that is like an earlier one of an order.

        Args:
            through: examples that stay nevertheless.

        Returns:
            COLUMNS, one row per example that is like an earlier one: `other` is the most similar
            of the earlier ones that stay; exact: they differ in nothing but case, spaces and
            punctuation.
        """
        stay: dict[int, tuple[int, int]] = {}  # by text: its first example that stays, and where
        rows = []
        for at, number in enumerate(order):
            if (text := self._text.get(number)) is None:
                continue
            alike = {**self._alike.get(text, {}), text: 1.0}
            near = [(alike[each], -stay[each][1], each) for each in alike if each in stay]
            if near:
                index, _, twin = max(near)
                rows.append((number, stay[twin][0], index, twin == text))
            if not near or number in through:
                stay.setdefault(text, (number, at))
        return pd.DataFrame(rows, columns=list(COLUMNS))


def find_duplicates(questions: pd.Series, similarity: float = SIMILARITY) -> pd.DataFrame:
    """Every question that is like an earlier one.

    Args:
        questions: texts by example number, in the order in which the first of several is kept.
        similarity: as of `Seen`.

    Returns:
        COLUMNS, one row per question that is like an earlier one: `other` is the most similar of
        the earlier ones that are not themselves like one before; exact: they differ in nothing but
        case, spaces and punctuation.
    """
    return SimilarPairs(questions, similarity).among(questions.index)


def find_leaks(
    questions: pd.Series, against: pd.Series, similarity: float = SIMILARITY
) -> pd.DataFrame:
    """Every question that is like one of a test set.

    Args:
        questions, against: texts by example number.
        similarity: as of `Seen`.

    Returns:
        COLUMNS, as `duplicates`; `other` is the number in `against` of the most similar.
    """
    seen = QuestionIndex(similarity)
    for number, question in against.items():
        seen.add(int(str(number)), question)
    rows = [(number, *found) for number, q in questions.items() if (found := seen.like(q))]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _sets(text: str) -> Sets | None:
    """A question's pairs of words, as they are and without names; None: it has no word."""
    text = INVISIBLE.sub("", unicodedata.normalize("NFKC", text))
    words = WORD.findall(text)
    return (_shingles(words), _shingles(_nameless(text, words))) if words else None


def _shingles(words: Sequence[str]) -> Shingles:
    folded = [word.casefold() for word in words]
    return frozenset(map(" ".join, pairwise(folded))) or frozenset(folded)


def _nameless(text: str, words: Sequence[str]) -> list[str]:
    """The words with one sign for every name: what is capitalized, but not only after a stop."""
    capital = [word for word in words if word[0].isupper()]
    if len(capital) > MOST_NAMES * len(words):
        return list(words)
    opening = set(re.findall(r"(?:^|[.!?:\"“]\s*)([^\W\d_]+)", text))
    inside = {word for word in capital if NAME.fullmatch(word)} - opening
    times = Counter(NAME.findall(text))
    again = {word for word in opening if times[word] > 1}
    lower = {word for word in words if word[0].islower()}
    names = {word for word in inside | again if word.casefold() not in lower and len(word) > 1}
    return ["\N{BULLET}" if word in names else word for word in words]


def _signature(shingles: Shingles) -> Any:
    from datasketch import MinHash

    signature = MinHash(num_perm=PERMUTATIONS, seed=1)
    signature.update_batch([each.encode() for each in shingles])
    return signature


def _jaccard(one: Sequence[Shingles], other: Sequence[Shingles]) -> float:
    """The larger of both views'."""
    return max(len(a & b) / len(a | b) for a, b in zip(one, other, strict=True))
