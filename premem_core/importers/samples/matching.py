"""Matching: which example of the data a row of another tool's file is about.

By the text of the question; else by the prompt, which contains the question, a few-shot prompt
after its demonstrations. The id decides between examples with the same question, or alone where
the row has no text, because tools number their rows too. White space does not count.
"""

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

from premem_core.importers.samples.sample import ImportedSample
from premem_core.records import Example

_END = 24  # characters of a question's end by which it is looked up in prompts


@dataclass(frozen=True, slots=True)
class Matched:
    """Which samples belong to which examples.

    Attributes:
        pairs: the number of a sample among those given, and of its example.
        unmatched: the numbers of samples whose question is that of no example.
        ambiguous: those whose question is that of several examples.
    """

    pairs: list[tuple[int, int]] = field(default_factory=list)
    unmatched: list[int] = field(default_factory=list)
    ambiguous: list[int] = field(default_factory=list)


class QuestionIndex:
    """The questions of the examples, by id, by text and by their ends.

    >>> data = [Example("a", "2+2?", "4", "4"), Example("b", "12+2?", "14", "14")]
    >>> rows = [ImportedSample(prompt="Q: 12+2?\\nA:"), ImportedSample(question="3+3?")]
    >>> QuestionIndex(data).match(rows)
    Matched(pairs=[(0, 1)], unmatched=[1], ambiguous=[])
    """

    def __init__(self, examples: Sequence[Example]) -> None:
        self._texts = [_normal(example.question) for example in examples]
        self._solutions = [_normal(example.solution) for example in examples]
        self._ids = {example.id: number for number, example in enumerate(examples)}
        self._of_text = defaultdict[str, list[int]](list)
        self._of_end = defaultdict[str, list[int]](list)
        for number, text in enumerate(self._texts):
            if text:
                self._of_text[text].append(number)
                self._of_end[text[-_END:]].append(number)
        self._lengths = sorted({len(end) for end in self._of_end}, reverse=True)

    def match(self, samples: Sequence[ImportedSample]) -> Matched:
        """Find the example of each sample."""
        of_prompt = {
            sample.prompt: self._in_prompt(_normal(sample.prompt))
            for sample in samples
            if sample.prompt is not None and not self._with_text(sample.question)
        }
        # A question that stands in several prompts is a demonstration in some of them.
        prompts = Counter(number for found in of_prompt.values() for number in found)
        matched = Matched()
        for place, sample in enumerate(samples):
            found = self._with_text(sample.question)
            if not found and sample.prompt is not None:
                found = [number for number in of_prompt[sample.prompt] if prompts[number] == 1]
            found = self._with_id(sample, found)
            if len(found) == 1:
                matched.pairs.append((place, found[0]))
            else:
                (matched.ambiguous if found else matched.unmatched).append(place)
        return matched

    def _with_text(self, question: str | None) -> list[int]:
        """The examples that have this question."""
        return [] if question is None else self._of_text.get(_normal(question), [])

    def _with_id(self, sample: ImportedSample, found: list[int]) -> list[int]:
        """The one of the examples found that has the sample's id; by the id alone without texts."""
        number = self._ids.get(sample.id) if sample.id is not None else None
        if number is not None and (
            number in found or (sample.question is None and sample.prompt is None)
        ):
            return [number]
        return found

    def _in_prompt(self, prompt: str) -> list[int]:
        """The examples whose question stands last in a prompt, without its solution after it."""
        for end in range(len(prompt), 0, -1):
            ends = {prompt[max(0, end - length) : end] for length in self._lengths}
            there = [
                number
                for text in ends
                for number in self._of_end.get(text, ())
                if self._stands(prompt, number, end)
            ]
            longest = max((len(self._texts[number]) for number in there), default=0)
            there = [number for number in there if len(self._texts[number]) == longest]
            if there and not any(self._solved(prompt[end:], number) for number in there):
                return there
        return []

    def _stands(self, prompt: str, number: int, end: int) -> bool:
        """Whether a question ends there, and is no part of a longer word or number."""
        text = self._texts[number]
        start = end - len(text)
        if start < 0 or not prompt.startswith(text, start):
            return False
        before = start > 0 and prompt[start - 1].isalnum() and text[0].isalnum()
        after = end < len(prompt) and prompt[end].isalnum() and text[-1].isalnum()
        return not before and not after

    def _solved(self, rest: str, number: int) -> bool:
        return bool(self._solutions[number]) and self._solutions[number] in rest


def _normal(text: str) -> str:
    return " ".join(text.split())
