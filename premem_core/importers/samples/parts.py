"""Parts: the completions of one file at one checkpoint, matched with examples and graded."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from statistics import fmean

from premem_core.errors import DataError
from premem_core.grading.grader import Grader
from premem_core.importers.samples.files import SampleFile
from premem_core.importers.samples.matching import QuestionIndex
from premem_core.importers.samples.sample import ImportedSample
from premem_core.records import Example, Grade, Graded, KnownSampling


@dataclass(frozen=True, slots=True)
class Row:
    """A completion of an example, which is named by its place among the examples."""

    example: int
    sample: ImportedSample
    graded: Graded | None = None

    @property
    def correct(self) -> bool:
        """Whether it is graded correct."""
        return self.graded is not None and self.graded.grade == Grade.CORRECT


@dataclass(frozen=True, slots=True)
class Part:
    """The completions of one file at one checkpoint.

    Attributes:
        samples: as they stand in the file.
        rows: the completions whose example is known.
        nlls: by example, the sample that has the NLL of its solution.
        unmatched, ambiguous: rows whose question is that of no example, or of several.
        without: examples without a completion.
        already: whether the store has them.
    """

    file: SampleFile
    step: int
    sampling: KnownSampling
    samples: tuple[ImportedSample, ...]
    rows: tuple[Row, ...] = ()
    nlls: Mapping[int, ImportedSample] = field(default_factory=dict)
    unmatched: int = 0
    ambiguous: int = 0
    without: int = 0
    already: bool = False

    @property
    def questions(self) -> int:
        """The number of questions that have a completion."""
        return len({row.example for row in self.rows})

    @property
    def correct(self) -> int:
        """The number of correct completions."""
        return sum(row.correct for row in self.rows)

    @property
    def accuracy(self) -> float:
        """The mean over the questions of the share of correct completions; NaN without any."""
        return self._mean([float(row.correct) for row in self.rows])

    @property
    def tool_accuracy(self) -> float | None:
        """The same by the tool's own scores; None if they do not say right or wrong."""
        scores = [row.sample.score for row in self.rows]
        if not scores or any(score not in (0, 1) for score in scores):
            return None
        return self._mean([float(score or 0) for score in scores])

    @property
    def differing(self) -> int:
        """How many completions the tool and the grader do not both call right or both wrong."""
        return sum(row.correct != (row.sample.score == 1) for row in self.rows)

    def _mean(self, values: Sequence[float]) -> float:
        of_question = defaultdict[int, list[float]](list)
        for row, value in zip(self.rows, values, strict=True):
            of_question[row.example].append(value)
        return fmean(map(fmean, of_question.values())) if of_question else float("nan")


def match_parts(
    parts: Sequence[Part],
    examples: Sequence[Example],
    *,
    nlls: bool,
) -> list[Part]:
    """The parts with their rows.

    Args:
        nlls: whether the NLLs in the files are used.

    Raises:
        DataError: a question has two NLLs.
    """
    questions = QuestionIndex(examples)
    return [_matched(part, examples, questions, nlls) for part in parts]


def _matched(
    part: Part,
    examples: Sequence[Example],
    questions: QuestionIndex,
    with_nlls: bool,
) -> Part:
    found = questions.match(part.samples)
    pairs = [(number, part.samples[place]) for place, number in found.pairs]
    rows = [Row(number, sample) for number, sample in pairs if sample.completion is not None]
    return replace(
        part,
        rows=tuple(rows),
        nlls=_nlls(part, examples, pairs) if with_nlls else {},
        unmatched=len(found.unmatched),
        ambiguous=len(found.ambiguous),
        without=len(examples) - len({row.example for row in rows}),
    )


def _nlls(
    part: Part, examples: Sequence[Example], pairs: Sequence[tuple[int, ImportedSample]]
) -> dict[int, ImportedSample]:
    nlls: dict[int, ImportedSample] = {}
    for number, sample in pairs:
        if sample.nll is None:
            continue
        first = nlls.setdefault(number, sample)
        if first.nll != sample.nll:
            raise DataError(
                f"{part.file.path} has the NLLs {first.nll} and {sample.nll} of the question "
                f"'{examples[number].id}' at step {part.step}; give one"
            )
    return nlls


def grade_parts(parts: Sequence[Part], examples: Sequence[Example], grader: Grader) -> list[Part]:
    """The parts with the grades of their completions, except those that the store has."""
    rows = [row for part in parts if not part.already for row in part.rows]
    graded = iter(
        grader.grade(
            [row.sample.completion or "" for row in rows],
            [grader.reference(examples[row.example]) for row in rows],
        )
    )
    return [
        part
        if part.already
        else replace(part, rows=tuple(replace(row, graded=next(graded)) for row in part.rows))
        for part in parts
    ]
