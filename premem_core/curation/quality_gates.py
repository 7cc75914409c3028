"""Quality gates: find training examples that a selection should leave out, and give the reason.

A selection leaves these examples out. A person who reads the reason can let one back in
(`Recipe.excused`).
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
from premem_core.grading.grader_texts import grader_label, parse_grader
from premem_core.grading.graders import GRADERS, make_grader
from premem_core.grading.run_graders import AS_SCORED
from premem_core.problems import examples
from premem_core.records import Grade
from premem_core.store.database import Store
from premem_core.store.examples import example_of, read_example_texts, read_task_examples

COLUMNS = ("id", "gate", "value", "why", "beside")
LOWEST = 0.05  # lowest cutoff of a gate

# Takes the candidates, the highest ranked first, and those of them that are never removed. Returns
# value, why and beside of each example with an issue, by example number, the highest value first.
# beside is the text with which the example was compared.
FindIssues = Callable[[pd.Index, Collection[int]], pd.DataFrame]


@dataclass(frozen=True, slots=True)
class Gate:
    """One kind of issue for which an example is left out.

    Attributes:
        label: the issue in words.
        default: the cutoff: examples with at least this value have the issue. None if the gate has
            no cutoff.
        make_finder: looks at all training examples once, and returns a function that finds the
            issues among any candidates.
    """

    label: str
    default: float | None
    make_finder: Callable[["GateContext"], FindIssues]


@dataclass(frozen=True, slots=True)
class GateContext:
    """The data that a gate looks at.

    Attributes:
        cutoff: examples with at least this value have the issue.
        against: a file of further test problems for the gate `leaks`; those of the store are
            always used.
    """

    store: Store
    task: str
    facts: ExampleFacts
    cutoff: float
    against: Path | None


def finders(
    store: Store,
    task: str,
    facts: ExampleFacts,
    gates: Mapping[str, float | None],
    against: Path | None = None,
) -> dict[str, FindIssues]:
    """The functions that find issues, by name of the gate, in the order of GATES.

    Args:
        gates: the cutoff of each gate, by name; None for its default.
        against: as in `GateContext`.

    Raises:
        UsageError: a gate or a cutoff is unknown, or the store lacks data that a gate needs.
        DataError: the file cannot be read.
    """
    check_gates(gates)
    return {
        name: gate.make_finder(
            GateContext(store, task, facts, gates[name] or gate.default or 1.0, against)
        )
        for name, gate in GATES.items()
        if name in gates
    }


def check_gates(gates: Mapping[str, float | None]) -> None:
    """UsageError: a gate is unknown, or its cutoff is not allowed."""
    for name, cutoff in gates.items():
        if name not in GATES:
            raise UsageError(f"there is no gate '{name}'; the gates are {', '.join(GATES)}")
        if cutoff is not None and GATES[name].default is None:
            raise UsageError(f"the gate '{name}' takes no value, but {cutoff} was given; omit it")
        if cutoff is not None and not (math.isfinite(cutoff) and LOWEST <= cutoff <= 1):
            raise UsageError(f"the gate '{name}' takes a value from {LOWEST} to 1, not {cutoff}")


def _find_in(table: pd.DataFrame) -> FindIssues:
    """Finds the candidates that are in a table of all examples with an issue."""
    table = table.sort_values("value", ascending=False, kind="stable")
    return lambda candidates, kept: table[table.index.isin(candidates)]


def _suspect_labels(context: GateContext) -> FindIssues:
    suspects = suspect_labels.find_suspect_labels(
        context.store, context.facts.runs, context.facts.log_log_threshold
    ).query("suspicion >= @context.cutoff")
    why = [
        f"{row.agree} of {row.samples} samples from before memorization answer {row.suggested}, "
        f"{row.with_reference} answer {row.reference} as its solution does"
        for row in suspects.itertuples()
    ]
    issues = {"value": suspects["suspicion"], "why": why, "beside": ""}
    return _find_in(pd.DataFrame(issues, suspects.index))


def _duplicates(context: GateContext) -> FindIssues:
    questions, ids = _read_questions(context), context.facts.examples["id"]
    pairs = similar_questions.SimilarPairs(questions, context.cutoff)

    def find(candidates: pd.Index, kept: Collection[int]) -> pd.DataFrame:
        issues = _similarity_issues(pairs.duplicates_in(candidates, kept), ids, questions, "")
        return issues.sort_values("value", ascending=False, kind="stable")

    return find


def test_questions(store: Store, task: str, against: Path | None) -> pd.DataFrame:
    """The test problems that must not occur in a training set, as columns id and question.

    Args:
        against: a file of further test problems, beside those of the store; None for no file.

    Raises:
        UsageError: there are no test problems.
        DataError: the file cannot be read.
    """
    test = read_task_examples(store, task, "test")[["id", "question"]]
    test = test[test["question"].fillna("") != ""]
    if against is not None:
        more = pd.DataFrame(examples.read_questions(against), columns=["id", "question"])
        test = pd.concat([test, more])
    if test.empty:
        raise UsageError(
            f"the store has no test questions of the task '{task}', with which training questions "
            "are compared to find leaks; give a file of test questions"
        )
    return test.reset_index(drop=True)


def _leaks(context: GateContext) -> FindIssues:
    test = test_questions(context.store, context.task, context.against)
    leaks = similar_questions.find_leaks(_read_questions(context), test["question"], context.cutoff)
    return _find_in(_similarity_issues(leaks, test["id"], test["question"], "test problem "))


def choose_grader(runs: Sequence[RunScores], solutions: Sequence[str]) -> str:
    """The name of the runs' grader; for imported runs, of a grader that can read the solutions."""
    graders = [run.grader for run in runs if run.grader and _compares_texts(run.grader)]
    has_hashes = any("####" in solution for solution in solutions)
    return graders[0] if graders else "gsm8k" if has_hashes else "math"


def _compares_texts(grader: str) -> bool:
    return grader != AS_SCORED and parse_grader(grader)[0] in set(GRADERS) - {"code"}


def _unparsed(context: GateContext) -> FindIssues:
    """Finds answers that the grader cannot read, and solutions that end with another answer."""
    texts = _read_texts(context)
    name = choose_grader(context.facts.runs, texts["solution"].tolist())
    answers = texts["answer"].fillna("").tolist()
    with make_grader(name) as grader:
        references = [grader.reference(example_of(row)) for row in texts.to_dict("records")]
        boxed = [f"\\boxed{{{answer}}}" for answer in answers]
        readable = [graded.grade is Grade.CORRECT for graded in grader.grade(boxed, references)]
        solutions = grader.grade(texts["solution"].tolist(), references)
    why = [
        f"the grader {grader_label(name)} cannot read its answer {answer!r}"
        if not is_readable
        else f"its solution ends with {solution.extracted}, but its answer is {answer}"
        if solution.grade is Grade.INCORRECT
        else ""
        for answer, is_readable, solution in zip(answers, readable, solutions, strict=True)
    ]
    issues = pd.DataFrame({"value": 1.0, "why": why, "beside": ""}, texts["example"])
    return _find_in(issues[issues["why"] != ""])


def _read_questions(context: GateContext) -> pd.Series:
    return _read_texts(context).set_index("example")["question"]


def _read_texts(context: GateContext) -> pd.DataFrame:
    texts = read_example_texts(context.store, context.facts.examples.index.tolist())
    if not texts["question"].any():
        raise UsageError(
            f"the store has no texts of the training problems of the task '{context.task}', which "
            "a quality gate must read; attach them with `import-published --train FILE`"
        )
    return texts


def _similarity_issues(
    pairs: pd.DataFrame, ids: pd.Series, texts: pd.Series, prefix: str
) -> pd.DataFrame:
    """value, why and beside for rows of `similar_questions.COLUMNS`.

    Args:
        ids, texts: of the questions in the column `other`, by number.
        prefix: is put before the id in `why`.
    """
    why = [
        f"the same as {prefix}{other}"
        if exact
        else f"like {prefix}{other} (similarity {similarity:.2f})"
        for other, similarity, exact in zip(
            ids.reindex(pairs["other"]), pairs["similarity"], pairs["exact"], strict=True
        )
    ]
    beside = texts.reindex(pairs["other"]).to_numpy()
    issues = pairs.assign(value=pairs["similarity"], why=why, beside=beside)
    return issues.set_index("example")[["value", "why", "beside"]]


# Duplicates come last: if another gate removes an example, its duplicate need not be removed.
GATES: Mapping[str, Gate] = MappingProxyType(
    {
        "labels": Gate("suspected wrong labels", 0.5, _suspect_labels),
        "leaks": Gate("leaks from the test set", similar_questions.SIMILARITY, _leaks),
        "unparsed": Gate("solutions without a right answer", None, _unparsed),
        "duplicates": Gate("exact and near duplicates", similar_questions.SIMILARITY, _duplicates),
    }
)
