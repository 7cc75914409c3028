"""Similar questions: finds questions that are the same as another question, or nearly so.

The similarity of two questions is the Jaccard index of their pairs of neighbouring words. It is
computed twice, once for the original text and once with every name replaced by the same sign, and
the larger value counts. Case, spaces and punctuation do not matter, but numbers do: the same
problem with other numbers is another problem. Candidates come from MinHash signatures (Broder
1997); the similarity of a reported pair is exact.
"""

import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Sequence
from itertools import pairwise
from typing import Any

import pandas as pd

SIMILARITY = 0.5  # default: two questions with at least this similarity are similar
PERMUTATIONS = 128
# Signatures only estimate the similarity. So the search also returns pairs with a slightly lower
# estimate, and its weights make a missed pair (false negative) worse than a needless comparison.
MARGIN, WEIGHTS = 0.25, (0.1, 0.9)
COLUMNS = ("example", "other", "similarity", "exact")

Shingles = frozenset[str]
Sets = tuple[Shingles, Shingles]
# Scripts without spaces between words: every character counts as a word.
CJK = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
WORD = re.compile(rf"[{CJK}]|[^\W{CJK}]+(?:[.,]\d+)*")
INVISIBLE = re.compile("[\u00ad\u200b-\u200f\u2060\ufeff]")
NAME = re.compile(r"[^\W\d_]+")
# If a larger share of a text's words is capitalized, capital letters do not mark names.
MOST_NAMES = 0.4


class QuestionIndex:
    """A set of questions, to find those that are similar to a given question.

    Args:
        similarity: two questions with at least this Jaccard index, from 0 to 1, are similar.
    """

    def __init__(self, similarity: float = SIMILARITY) -> None:
        from datasketch import MinHashLSH

        self._similarity = similarity
        self._views = [
            MinHashLSH(max(similarity - MARGIN, 0.05), PERMUTATIONS, WEIGHTS) for _ in range(2)
        ]
        self._questions: dict[int, Sets] = {}

    def add(self, number: int, question: str) -> None:
        """Add a question with its number."""
        if sets := _sets(question):
            self._questions[number] = sets
            for view, shingles in zip(self._views, sets, strict=True):
                view.insert(number, _signature(shingles))

    def most_similar(self, question: str) -> tuple[int, float, bool] | None:
        """The most similar question: its number, its similarity, and whether it is the same.

        Two questions are the same if they differ only in case, spaces and punctuation. Of equally
        similar questions, the one with the lowest number is returned. None if none is similar.
        """
        similar = self.all_similar(question)
        if not similar:
            return None
        best, negative = max((similarity, -number) for number, similarity in similar.items())
        sets = _sets(question)
        return -negative, best, sets is not None and sets[0] == self._questions[-negative][0]

    def all_similar(self, question: str) -> dict[int, float]:
        """The similarity of every similar question, by its number."""
        sets = _sets(question)
        if sets is None:
            return {}
        candidates = {
            number
            for view, shingles in zip(self._views, sets, strict=True)
            for number in view.query(_signature(shingles))
        }
        similarities = {number: _jaccard(sets, self._questions[number]) for number in candidates}
        return {number: s for number, s in similarities.items() if s >= self._similarity}


class SimilarPairs:
    """All pairs of similar questions. They are computed once, for use with any order of examples.

    Args:
        questions: texts by example number.
        similarity: as in `QuestionIndex`.
    """

    def __init__(self, questions: pd.Series, similarity: float = SIMILARITY) -> None:
        index, firsts = QuestionIndex(similarity), dict[Shingles, int]()
        # For each example, the first example with the same question, which represents them all.
        self._first: dict[int, int] = {}
        # Similarities between these first examples.
        self._similar: dict[int, dict[int, float]] = defaultdict(dict)
        for label, question in questions.items():
            number = int(str(label))
            if (sets := _sets(question)) is None:
                continue
            self._first[number] = firsts.setdefault(sets[0], number)
            if self._first[number] == number:
                for other, similarity_of_pair in index.all_similar(question).items():
                    self._similar[number][other] = similarity_of_pair
                    self._similar[other][number] = similarity_of_pair
                index.add(number, question)

    def duplicates_in(
        self, order: Iterable[int], kept: Collection[int] = frozenset()
    ) -> pd.DataFrame:
        """Every example that is similar to an earlier example of an order.

        Args:
            order: example numbers.
            kept: examples that stay even if they are similar to an earlier one.

        Returns:
            COLUMNS, one row per example that is similar to an earlier one. other is the most
            similar earlier example that stays. exact says whether the two differ only in case,
            spaces and punctuation.
        """
        # By first example with the same question: the first that stays, and its position.
        staying: dict[int, tuple[int, int]] = {}
        rows = []
        for position, number in enumerate(order):
            if (first := self._first.get(number)) is None:
                continue
            similar = {**self._similar.get(first, {}), first: 1.0}
            earlier = [
                (similarity, -staying[other][1], other)
                for other, similarity in similar.items()
                if other in staying
            ]
            if earlier:
                similarity, _, nearest = max(earlier)
                rows.append((number, staying[nearest][0], similarity, nearest == first))
            if not earlier or number in kept:
                staying.setdefault(first, (number, position))
        return pd.DataFrame(rows, columns=list(COLUMNS))


def find_duplicates(questions: pd.Series, similarity: float = SIMILARITY) -> pd.DataFrame:
    """Every question that is similar to an earlier question.

    Args:
        questions: texts by example number. Of similar questions, the first stays.
        similarity: as in `QuestionIndex`.

    Returns:
        COLUMNS, as `SimilarPairs.duplicates_in`.
    """
    return SimilarPairs(questions, similarity).duplicates_in(questions.index)


def find_leaks(
    questions: pd.Series, against: pd.Series, similarity: float = SIMILARITY
) -> pd.DataFrame:
    """Every question that is similar to a question of a test set.

    Args:
        questions: training questions by example number.
        against: test questions by number.
        similarity: as in `QuestionIndex`.

    Returns:
        COLUMNS, one row per training question that is similar to a test question. other is the
        number of the most similar test question. exact says whether the two differ only in case,
        spaces and punctuation.
    """
    index = QuestionIndex(similarity)
    for number, question in against.items():
        index.add(int(str(number)), question)
    rows = [
        (number, *match)
        for number, question in questions.items()
        if (match := index.most_similar(question))
    ]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _sets(text: str) -> Sets | None:
    """A question's pairs of words, with names and without; None if it has no word."""
    text = INVISIBLE.sub("", unicodedata.normalize("NFKC", text))
    words = WORD.findall(text)
    return (_shingles(words), _shingles(_nameless(text, words))) if words else None


def _shingles(words: Sequence[str]) -> Shingles:
    folded = [word.casefold() for word in words]
    return frozenset(map(" ".join, pairwise(folded))) or frozenset(folded)


def _nameless(text: str, words: Sequence[str]) -> list[str]:
    """The words, with every name replaced by the same sign.

    A name is a capitalized word that is not only capitalized because it begins a sentence.
    """
    capital = [word for word in words if word[0].isupper()]
    if len(capital) > MOST_NAMES * len(words):
        return list(words)
    opening = set(re.findall(r"(?:^|[.!?:\"“]\s*)([^\W\d_]+)", text))
    inside = {word for word in capital if NAME.fullmatch(word)} - opening
    times = Counter(NAME.findall(text))
    repeated = {word for word in opening if times[word] > 1}
    lower = {word for word in words if word[0].islower()}
    names = {word for word in inside | repeated if word.casefold() not in lower and len(word) > 1}
    return ["\N{BULLET}" if word in names else word for word in words]


def _signature(shingles: Shingles) -> Any:
    from datasketch import MinHash

    signature = MinHash(num_perm=PERMUTATIONS, seed=1)
    signature.update_batch([shingle.encode() for shingle in shingles])
    return signature


def _jaccard(sets_a: Sequence[Shingles], sets_b: Sequence[Shingles]) -> float:
    """The larger of the Jaccard indices with names and without."""
    return max(len(a & b) / len(a | b) for a, b in zip(sets_a, sets_b, strict=True))
