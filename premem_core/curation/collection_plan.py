"""A selection → a plan of new problems to collect: which seeds, how many of each, how to ask.

The seeds are the examples that were chosen (METHOD, section 6: new problems like those that were
not learned before they were memorized). A person fills in the worksheet; a stronger model answers
the prompts.
"""

import csv
import json
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count, islice
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from premem_core.curation.export import BATCH
from premem_core.errors import UsageError
from premem_core.files import write_whole
from premem_core.problems.final_answers import after_answer_is, after_hashes, boxed
from premem_core.store.database import Store
from premem_core.store.examples import read_example_sizes, read_example_texts

ASK = (
    "Write one new problem that takes the same reasoning as the problem below, with another story "
    "and other numbers, and solve it step by step in the manner of its solution. The new problem "
    "must have one right answer. Give the new problem after 'Problem:' and its solution after "
    "'Solution:'.\n\nProblem: {question}\n\nSolution: {solution}"
)
# Where the seed's own solution does not show how an answer is stated.
HASHES = "End with a line that holds '####' and the final answer."
FORMULA = ("=", "+", "-", "@", "\t", "\r")  # what a spreadsheet computes instead of showing it
TO_FILL = ("new_question", "new_solution", "note")


@dataclass(frozen=True, slots=True)
class NewProblem:
    """One problem to write: its id, and its seed's id and texts."""

    id: str
    seed: str
    question: str
    solution: str


def plan_collection(chosen: pd.DataFrame, new: int, group: str | None = None) -> pd.DataFrame:
    """How many new problems to write of each seed.

    In proportion to the scores of the seeds, the remainders to the largest (Hamilton's method).
    With a group, each of its values has as many new problems as its seeds' mean score asks for,
    however few seeds it has: rare weak groups are covered.

    Args:
        chosen: `curation.select`.
        new: in all.
        group: a metadata field.

    Returns:
        id, group, weight (share of all new problems) and new, by example number, those without a
        new problem left out, in the order of the selection.

    Raises:
        UsageError: there is nothing to plan, or the data has no such field.
    """
    if new < 1:
        raise UsageError(f"plan for at least 1 new problem, not {new}")
    if chosen.empty:
        raise UsageError("no example is chosen to be a seed; widen the bounds")
    score = chosen["score"].clip(lower=0)
    score = score if score.sum() > 0 else score + 1
    if group is not None:
        if group not in chosen:
            raise UsageError(f"the data has no field '{group}' to cover the groups of")
        groups = chosen[group].astype(str)
        within = score / score.groupby(groups).transform("sum").replace(0, 1)
        weight = within * score.groupby(groups).transform("mean")
        if not weight.sum() > 0:
            weight = score
    else:
        groups, weight = pd.Series("", chosen.index), score
    weight = weight / weight.sum()
    planned = pd.DataFrame(
        {"id": chosen["id"], "group": groups, "weight": weight, "new": _shared(weight, new)}
    )
    return planned[planned["new"] > 0]


def _shared(weight: pd.Series, new: int) -> NDArray[np.int64]:
    """Whole numbers in proportion to weights that sum to 1; they sum to `new`."""
    exact = weight.to_numpy() * new
    whole = np.floor(exact).astype(np.int64)
    left = new - int(whole.sum())
    whole[np.argsort(whole - exact, kind="stable")[:left]] += 1
    return whole


def worksheet(store: Store, task: str, planned: pd.DataFrame, file: Path) -> None:
    """Write a row per new problem, its seed beside what a person fills in. CSV.

    A text that a spreadsheet would take for a formula begins with an apostrophe.

    Raises:
        UsageError: the file cannot be written.
    """
    with write_whole(file) as unfinished, unfinished.open("w", encoding="utf-8", newline="") as out:
        writer = csv.writer(out)
        writer.writerow(("id", "seed", "seed_question", "seed_solution", *TO_FILL))
        for new in new_problems(store, task, planned):
            texts = map(_shown, (new.id, new.seed, new.question, new.solution))
            writer.writerow((*texts, *("" for _ in TO_FILL)))


def _shown(text: str) -> str:
    """A cell that a spreadsheet shows as it is."""
    return f"'{text}" if text.startswith(FORMULA) else text


def prompts(store: Store, task: str, planned: pd.DataFrame, file: Path) -> None:
    """Write a line per new problem, with the messages that ask for it. JSONL.

    Raises:
        UsageError: the file cannot be written.
    """
    with (
        write_whole(file) as unfinished,
        unfinished.open("w", encoding="utf-8", newline="\n") as out,
    ):
        for new in new_problems(store, task, planned):
            asked = [{"role": "user", "content": ask(new.question, new.solution)}]
            line = {"id": new.id, "seed": new.seed, "messages": asked}
            out.write(json.dumps(line, ensure_ascii=False) + "\n")


def ask(question: str, solution: str) -> str:
    """What a model is told to write a problem like this one."""
    head, tail = ASK.split("{question}")
    shown = boxed(solution) or after_hashes(solution) or after_answer_is(solution)
    if not shown:
        head = head.replace("'Solution:'.", f"'Solution:'. {HASHES}")
    return head + question + tail.replace("{solution}", solution)


def new_problems(store: Store, task: str, planned: pd.DataFrame) -> Iterator[NewProblem]:
    """Each new problem of `plan`, under an id that no training example of the task has."""
    taken = set(read_example_sizes(store, task, "train")["id"])
    for start in range(0, len(planned), BATCH):
        part = planned.iloc[start : start + BATCH]
        texts = read_example_texts(store, part.index.tolist()).to_dict("records")
        for text, new in zip(texts, part["new"].tolist(), strict=True):
            ids = (f"{text['id']}-new-{which}" for which in count(1))
            free = (each for each in ids if each not in taken)
            for name in islice(free, new):
                yield NewProblem(name, text["id"], text["question"] or "", text["solution"] or "")
