"""Quality gates: training examples that a selection should leave out, each with what speaks for it.

A gate removes; a person who reads its evidence can let an example back in (`Recipe.excused`).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import pandas as pd

from premem_core import datasets, duplicates, grading, labels
from premem_core.curves import RunScores
from premem_core.errors import UsageError
from premem_core.rankings import Evidence
from premem_core.store import Store
from premem_core.types import Grade

COLUMNS = ("id", "gate", "value", "why")


@dataclass(frozen=True, slots=True)
class Gate:
    """One kind of example to leave out.

    Attributes:
        label: in words.
        default: from which value on it removes; None: it has no such value.
        find: COLUMNS but the first two, by example number, from a value on.
    """

    label: str
    default: float | None
    find: Callable[["Asked"], pd.DataFrame]


@dataclass(frozen=True, slots=True)
class Asked:
    """What a gate looks at.

    Attributes:
        at: from which value on it removes.
        against: a file of the test problems that nothing may leak from; None: those of the store.
    """

    store: Store
    task: str
    evidence: Evidence
    at: float
    against: Path | None


def find(
    store: Store,
    task: str,
    evidence: Evidence,
    gates: Mapping[str, float | None],
    against: Path | None = None,
) -> pd.DataFrame:
    """What these gates remove of a task's training examples.

    Args:
        gates: from GATES; from which value on each removes, None for its default.
        against: as in `Asked`.

    Returns:
        COLUMNS, indexed by the store's example number, one row per gate and example: why in words;
        the highest value first.

    Raises:
        UsageError: there is no such gate, or not what it needs.
    """
    found = []
    for name, at in gates.items():
        if name not in GATES:
            raise UsageError(f"there is no gate '{name}'; there are {', '.join(GATES)}")
        gate = GATES[name]
        least = gate.default if at is None else at
        rows = gate.find(Asked(store, task, evidence, least or 0.0, against))
        found.append(rows.assign(gate=name).sort_values("value", ascending=False, kind="stable"))
    if not found:
        return pd.DataFrame(columns=list(COLUMNS))
    rows = pd.concat(found)
    rows = rows[rows.index.isin(evidence.examples.index)]
    return rows.assign(id=evidence.examples["id"].reindex(rows.index))[list(COLUMNS)]


def _suspect_labels(asked: Asked) -> pd.DataFrame:
    suspects = labels.suspects(
        asked.store, asked.evidence.runs, asked.evidence.log_log_threshold
    ).query("suspicion >= @asked.at")
    why = [
        f"{row.agree} of {row.samples} samples from before memorization answer {row.suggested}, "
        f"{row.with_reference} its solution's {row.reference}"
        for row in suspects.itertuples()
    ]
    return pd.DataFrame({"value": suspects["suspicion"], "why": why}, suspects.index)


def _duplicates(asked: Asked) -> pd.DataFrame:
    found = duplicates.duplicates(_questions(asked), asked.at)
    return _like(found, asked.evidence.examples["id"], "")


def test_questions(store: Store, task: str, against: Path | None) -> pd.DataFrame:
    """id and question of the test problems that nothing may leak from.

    Args:
        against: a file of them; None: those of the store.

    Raises:
        UsageError: there is none.
        DataError: the file cannot be read.
    """
    if against is not None:
        problems = datasets.read_examples(against).examples
        rows = [(each.id, each.question) for each in problems]
        return pd.DataFrame(rows, columns=["id", "question"])
    test = store.examples(task, "test").set_index("example")[["id", "question"]]
    if not test["question"].any():
        raise UsageError(
            f"the store has no test questions of '{task}' to look for leaks from; give a file of "
            "them"
        )
    return test


def _leaks(asked: Asked) -> pd.DataFrame:
    test = test_questions(asked.store, asked.task, asked.against)
    found = duplicates.leaks(_questions(asked), test["question"], asked.at)
    return _like(found, test["id"], "test problem ")


def grader_of(runs: Sequence[RunScores], solutions: Sequence[str]) -> str:
    """The grader of the runs; of imported runs, that of the form of their solutions."""
    graders = [run.grader for run in runs if run.grader in grading.GRADERS]
    in_gsm8k = any("####" in each for each in solutions)
    return graders[0] if graders else "gsm8k" if in_gsm8k else "math"


def _unparsed(asked: Asked) -> pd.DataFrame:
    texts = _texts(asked)
    name = grader_of(asked.evidence.runs, texts["solution"].tolist())
    with grading.make_grader(name) as grader:
        references = texts[grader.grades_against].tolist()
        grades = [each.grade for each in grader.grade(texts["solution"].tolist(), references)]
    why = [f"its own solution is graded {grade.name.lower()} by {name}" for grade in grades]
    found = pd.DataFrame({"value": 1.0, "why": why}, texts["example"])
    return found[[grade is not Grade.CORRECT for grade in grades]]


def _questions(asked: Asked) -> pd.Series:
    return _texts(asked).set_index("example")["question"]


def _texts(asked: Asked) -> pd.DataFrame:
    texts = asked.store.example_texts(asked.evidence.examples.index.tolist())
    if not texts["question"].any():
        raise UsageError(
            f"the store has no texts of the problems of '{asked.task}' for a gate to read; attach "
            "them with `import-published --train FILE`"
        )
    return texts


def _like(found: pd.DataFrame, ids: pd.Series, what: str) -> pd.DataFrame:
    """Rows of `duplicates.COLUMNS`, told in words."""
    why = [
        f"the same as {what}{other}"
        if exact
        else f"like {what}{other} (similarity {similarity:.2f})"
        for other, similarity, exact in zip(
            ids.reindex(found["other"]), found["similarity"], found["exact"], strict=True
        )
    ]
    return found.assign(value=found["similarity"], why=why).set_index("example")[["value", "why"]]


GATES: Mapping[str, Gate] = MappingProxyType(
    {
        "labels": Gate("suspected wrong labels", 0.5, _suspect_labels),
        "duplicates": Gate("exact and near duplicates", duplicates.SIMILARITY, _duplicates),
        "leaks": Gate("leaks from the test set", duplicates.SIMILARITY, _leaks),
        "unparsed": Gate("solutions without a right answer", None, _unparsed),
    }
)
