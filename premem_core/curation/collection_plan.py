"""Collection plan: how many new problems to write like each chosen example, and the files for it.

A chosen example is called the *seed* of the problems that are written like it (docs/method.md,
section 6). A person fills in the worksheet, or a stronger model answers the prompts.
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

WRITING_PROMPT = (
    "Write one new problem that takes the same reasoning as the problem below, with another story "
    "and other numbers, and solve it step by step in the manner of its solution. The new problem "
    "must have one right answer. Give the new problem after 'Problem:' and its solution after "
    "'Solution:'.\n\nProblem: {question}\n\nSolution: {solution}"
)
# Added to the prompt if the seed's solution does not show how to state the final answer.
HASHES = "End with a line that holds '####' and the final answer."
FORMULA = ("=", "+", "-", "@", "\t", "\r")  # a spreadsheet reads a text that begins so as a formula
TO_FILL = ("new_question", "new_solution", "note")


@dataclass(frozen=True, slots=True)
class NewProblem:
    """One problem to write: its id, the id of its seed, and the seed's question and solution."""

    id: str
    seed: str
    question: str
    solution: str


def plan_collection(chosen: pd.DataFrame, new: int, group: str | None = None) -> pd.DataFrame:
    """How many new problems to write for each seed.

    The numbers are proportional to the seeds' scores, rounded by Hamilton's method (largest
    remainders). With `group`, the number of new problems for each value of this field is
    proportional to the mean score of its seeds, and does not depend on how many seeds have the
    value. So rare values with high scores get new problems, too.

    Args:
        chosen: `selection.select`.
        new: the number of new problems.
        group: a metadata field; None for no groups.

    Returns:
        id, group, weight (share of all new problems) and new (number of new problems), indexed by
        example number, in the order of the selection, without seeds that get no new problem.

    Raises:
        UsageError: `new` is below 1, no example is chosen, or the data has no such field.
    """
    if new < 1:
        raise UsageError(f"plan at least 1 new problem, not {new}")
    if chosen.empty:
        raise UsageError("no example is chosen to be a seed; widen the bounds")
    score = chosen["score"].clip(lower=0)
    score = score if score.sum() > 0 else score + 1
    if group is not None:
        if group not in chosen:
            raise UsageError(
                f"the data has no field '{group}' by which examples could be grouped; give another"
            )
        groups = chosen[group].astype(str)
        within = score / score.groupby(groups).transform("sum").replace(0, 1)
        weight = within * score.groupby(groups).transform("mean")
        if not weight.sum() > 0:
            weight = score
    else:
        groups, weight = pd.Series("", chosen.index), score
    weight = weight / weight.sum()
    planned = pd.DataFrame(
        {"id": chosen["id"], "group": groups, "weight": weight, "new": _apportion(weight, new)}
    )
    return planned[planned["new"] > 0]


def count_by_group(planned: pd.DataFrame) -> pd.DataFrame:
    """The number of seeds and of new problems in each group.

    Args:
        planned: `plan_collection`.

    Returns:
        group, seeds, new; one row per group.
    """
    groups = planned.groupby("group")["new"]
    return groups.agg(seeds="size", new="sum").reset_index()


def _apportion(weight: pd.Series, new: int) -> NDArray[np.int64]:
    """Integers proportional to weights that sum to 1; the integers sum to `new`."""
    exact = weight.to_numpy() * new
    rounded = np.floor(exact).astype(np.int64)
    left = new - int(rounded.sum())
    rounded[np.argsort(rounded - exact, kind="stable")[:left]] += 1
    return rounded


def write_worksheet(store: Store, task: str, planned: pd.DataFrame, file: Path) -> None:
    """Write a CSV file with one row per new problem: its seed, and empty cells to fill in.

    A text that a spreadsheet would take as a formula gets an apostrophe in front.

    Args:
        planned: `plan_collection`.

    Raises:
        UsageError: the file cannot be written.
    """
    with write_whole(file) as unfinished, unfinished.open("w", encoding="utf-8", newline="") as out:
        writer = csv.writer(out)
        writer.writerow(("id", "seed", "seed_question", "seed_solution", *TO_FILL))
        for new in new_problems(store, task, planned):
            texts = map(_cell, (new.id, new.seed, new.question, new.solution))
            writer.writerow((*texts, *("" for _ in TO_FILL)))


def _cell(text: str) -> str:
    """The text as a cell that a spreadsheet does not take as a formula."""
    return f"'{text}" if text.startswith(FORMULA) else text


def write_prompts(store: Store, task: str, planned: pd.DataFrame, file: Path) -> None:
    """Write a JSONL file with one line per new problem: the messages that ask a model for it.

    Args:
        planned: `plan_collection`.

    Raises:
        UsageError: the file cannot be written.
    """
    with (
        write_whole(file) as unfinished,
        unfinished.open("w", encoding="utf-8", newline="\n") as out,
    ):
        for new in new_problems(store, task, planned):
            prompt = writing_prompt(new.question, new.solution)
            line = {
                "id": new.id,
                "seed": new.seed,
                "messages": [{"role": "user", "content": prompt}],
            }
            out.write(json.dumps(line, ensure_ascii=False) + "\n")


def writing_prompt(question: str, solution: str) -> str:
    """The prompt that asks a model to write a problem like this one."""
    head, tail = WRITING_PROMPT.split("{question}")
    shows_answer = boxed(solution) or after_hashes(solution) or after_answer_is(solution)
    if not shows_answer:
        head = head.replace("'Solution:'.", f"'Solution:'. {HASHES}")
    return head + question + tail.replace("{solution}", solution)


def new_problems(store: Store, task: str, planned: pd.DataFrame) -> Iterator[NewProblem]:
    """The new problems of a plan, with ids that no training example of the task has.

    Args:
        planned: `plan_collection`.
    """
    taken = set(read_example_sizes(store, task, "train")["id"])
    for start in range(0, len(planned), BATCH):
        part = planned.iloc[start : start + BATCH]
        texts = read_example_texts(store, part.index.tolist()).to_dict("records")
        for text, new in zip(texts, part["new"].tolist(), strict=True):
            ids = (f"{text['id']}-new-{number}" for number in count(1))
            free = (new_id for new_id in ids if new_id not in taken)
            for new_id in islice(free, new):
                yield NewProblem(new_id, text["id"], text["question"] or "", text["solution"] or "")
