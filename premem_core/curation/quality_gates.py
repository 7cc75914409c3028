"""Quality gates: training examples that a selection should leave out, each with what speaks for it.

A gate removes; a person who reads its evidence can let an example back in (`Recipe.excused`).
"""

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import pandas as pd

from premem_core.analysis.run_scores import RunScores
from premem_core.curation import similar_questions, suspect_labels
from premem_core.curation.strategies import ExampleFacts
from premem_core.errors import UsageError
from premem_core.grading.graders import GRADERS, make_grader
from premem_core.problems import examples
from premem_core.records import Grade
from premem_core.store.database import Store
from premem_core.store.examples import read_example_texts, read_task_examples

COLUMNS = ("id", "gate", "value", "why", "beside")
LOWEST = 0.05  # value that a gate can be asked to find from

# Candidates, the most wanted first, and those of them that stay whatever is found → COLUMNS but the
# first two, by example number, the highest value first. beside: the text that one is held against.
FindIssues = Callable[[pd.Index, Collection[int]], pd.DataFrame]


@dataclass(frozen=True, slots=True)
class Gate:
    """One kind of example to leave out.

    Attributes:
        label: in words.
        default: from which value on it finds; None: it has no such value.
        look: at all training examples, once, whatever the candidates will be.
    """

    label: str
    default: float | None
    look: Callable[["GateContext"], FindIssues]


@dataclass(frozen=True, slots=True)
class GateContext:
    """What a gate looks at.

    Attributes:
        at: from which value on it finds.
        against: a file of problems that nothing may leak from, beside the test problems of the
            store.
    """

    store: Store
    task: str
    evidence: ExampleFacts
    at: float
    against: Path | None


def finders(
    store: Store,
    task: str,
    evidence: ExampleFacts,
    gates: Mapping[str, float | None],
    against: Path | None = None,
) -> dict[str, FindIssues]:
    """What looks for the examples to leave out, by gate.

    Args:
        gates: from GATES; from which value on each finds, None for its default.
        against: as in `Asked`.

    Raises:
        UsageError: there is no such gate, no such value, or not what it needs.
        DataError: the file cannot be read.
    """
    check(gates)
    return {
        name: gate.look(
            GateContext(store, task, evidence, gates[name] or gate.default or 1.0, against)
        )
        for name, gate in GATES.items()
        if name in gates
    }


def check(gates: Mapping[str, float | None]) -> None:
    """UsageError: there is no such gate, or no such value."""
    for name, at in gates.items():
        if name not in GATES:
            raise UsageError(f"there is no gate '{name}'; there are {', '.join(GATES)}")
        if at is not None and GATES[name].default is None:
            raise UsageError(f"the gate '{name}' takes no value; leave it out")
        if at is not None and not (math.isfinite(at) and LOWEST <= at <= 1):
            raise UsageError(f"the gate '{name}' takes a value from {LOWEST} to 1, not {at}")


def _same_for_all(table: pd.DataFrame) -> FindIssues:
    """Finds what is in a table of all examples, whoever the other candidates are."""
    table = table.sort_values("value", ascending=False, kind="stable")
    return lambda candidates, stay: table[table.index.isin(candidates)]


def _suspect_labels(asked: GateContext) -> FindIssues:
    suspects = suspect_labels.find_suspect_labels(
        asked.store, asked.evidence.runs, asked.evidence.log_log_threshold
    ).query("suspicion >= @asked.at")
    why = [
        f"{row.agree} of {row.samples} samples from before memorization answer {row.suggested}, "
        f"{row.with_reference} its solution's {row.reference}"
        for row in suspects.itertuples()
    ]
    found = {"value": suspects["suspicion"], "why": why, "beside": ""}
    return _same_for_all(pd.DataFrame(found, suspects.index))


def _duplicates(asked: GateContext) -> FindIssues:
    questions, ids = _questions(asked), asked.evidence.examples["id"]
    twins = similar_questions.SimilarPairs(questions, asked.at)

    def find(candidates: pd.Index, stay: Collection[int]) -> pd.DataFrame:
        found = _like(twins.among(candidates, stay), ids, questions, "")
        return found.sort_values("value", ascending=False, kind="stable")

    return find


def test_questions(store: Store, task: str, against: Path | None) -> pd.DataFrame:
    """id and question of the problems that nothing may leak from: the test problems of the store.

    Args:
        against: a file of further ones.

    Raises:
        UsageError: there is none.
        DataError: the file cannot be read.
    """
    test = read_task_examples(store, task, "test")[["id", "question"]]
    test = test[test["question"].fillna("") != ""]
    if against is not None:
        more = pd.DataFrame(examples.read_questions(against), columns=["id", "question"])
        test = pd.concat([test, more])
    if test.empty:
        raise UsageError(
            f"the store has no test questions of '{task}' to look for leaks from; give a file of "
            "them"
        )
    return test.reset_index(drop=True)


def _leaks(asked: GateContext) -> FindIssues:
    test = test_questions(asked.store, asked.task, asked.against)
    found = similar_questions.find_leaks(_questions(asked), test["question"], asked.at)
    return _same_for_all(_like(found, test["id"], test["question"], "test problem "))


def grader_of(runs: Sequence[RunScores], solutions: Sequence[str]) -> str:
    """The grader of the runs; of imported runs, that of the form of their solutions."""
    graders = [run.grader for run in runs if run.grader in GRADERS]
    in_gsm8k = any("####" in each for each in solutions)
    return graders[0] if graders else "gsm8k" if in_gsm8k else "math"


def _unparsed(asked: GateContext) -> FindIssues:
    """References that no completion could match, and solutions that come to another answer."""
    texts = _texts(asked)
    name = grader_of(asked.evidence.runs, texts["solution"].tolist())
    references = texts["answer"].fillna("").tolist()
    with make_grader(name) as grader:
        said = [f"\\boxed{{{each}}}" for each in references]
        readable = [each.grade is Grade.CORRECT for each in grader.grade(said, references)]
        own = grader.grade(texts["solution"].tolist(), references)
    why = [
        f"its answer {reference!r} is none that {name} can read"
        if not read
        else f"its solution comes to {found.extracted}, its answer is {reference}"
        if found.grade is Grade.INCORRECT
        else ""
        for reference, read, found in zip(references, readable, own, strict=True)
    ]
    found = pd.DataFrame({"value": 1.0, "why": why, "beside": ""}, texts["example"])
    return _same_for_all(found[found["why"] != ""])


def _questions(asked: GateContext) -> pd.Series:
    return _texts(asked).set_index("example")["question"]


def _texts(asked: GateContext) -> pd.DataFrame:
    texts = read_example_texts(asked.store, asked.evidence.examples.index.tolist())
    if not texts["question"].any():
        raise UsageError(
            f"the store has no texts of the problems of '{asked.task}' for a gate to read; attach "
            "them with `import-published --train FILE`"
        )
    return texts


def _like(found: pd.DataFrame, ids: pd.Series, texts: pd.Series, what: str) -> pd.DataFrame:
    """Rows of `duplicates.COLUMNS`, told in words."""
    why = [
        f"the same as {what}{other}"
        if exact
        else f"like {what}{other} (similarity {similarity:.2f})"
        for other, similarity, exact in zip(
            ids.reindex(found["other"]), found["similarity"], found["exact"], strict=True
        )
    ]
    beside = texts.reindex(found["other"]).to_numpy()
    told = found.assign(value=found["similarity"], why=why, beside=beside)
    return told.set_index("example")[["value", "why", "beside"]]


# Duplicates last: an example that another gate takes out is no reason to leave its twin out.
GATES: Mapping[str, Gate] = MappingProxyType(
    {
        "labels": Gate("suspected wrong labels", 0.5, _suspect_labels),
        "leaks": Gate("leaks from the test set", similar_questions.SIMILARITY, _leaks),
        "unparsed": Gate("solutions without a right answer", None, _unparsed),
        "duplicates": Gate("exact and near duplicates", similar_questions.SIMILARITY, _duplicates),
    }
)
