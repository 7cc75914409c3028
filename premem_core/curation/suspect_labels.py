"""Suspect labels: training solutions whose answer may be wrong.

A model that has memorized a solution repeats it, right or wrong. Before memorization, it computes
its own answers. Where its samples agree on one answer and the solution has another, one of the two
is wrong.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from premem_core.analysis.run_scores import RunScores
from premem_core.errors import UsageError
from premem_core.grading import run_graders
from premem_core.grading.built_in.numbers import number
from premem_core.metrics import pre_memorization
from premem_core.store.completions import read_answer_votes, samples_shards
from premem_core.store.database import Store
from premem_core.store.examples import read_example_texts

FEWEST_SAMPLES = 5  # agreement of fewer says little
COLUMNS = (
    "id", "question", "solution", "reference", "suggested", "suspicion", "agree",
    "with_reference", "samples", "runs",
)  # fmt: skip


def find_suspect_labels(
    store: Store, runs: Sequence[RunScores], log_log_threshold: float
) -> pd.DataFrame:
    """The training examples with samples from before memorization, the most suspect first.

    The samples of all runs are counted together, from every checkpoint at which the solution's
    perplexity was not below the threshold.

    Args:
        runs: of one task.
        log_log_threshold: t = log log PPL, as for pre-memorization accuracy (docs/method.md, 1).

    Returns:
        COLUMNS, indexed by the store's example number. reference is the solution's answer.
        suggested is the most frequent answer among those graded wrong, None if there is none;
        different spellings of a number count as one answer, and the most frequent spelling is
        given. agree says how many samples gave this answer, with_reference how many were graded
        correct, samples how many there are. suspicion = (agree − with_reference) / samples, from
        −1 to 1. runs says how many runs have samples of the example.

    Raises:
        UsageError: no run has completions from before memorization.
    """
    sampled = [run for run in runs if samples_shards(store, run.run)]
    votes = [
        _before_memorization(_read_votes(store, run.run), run, log_log_threshold) for run in sampled
    ]
    if not any(map(len, votes)):
        raise UsageError(
            "no chosen run has completions from before memorization, and scores that were imported "
            "have no completions; score a run of this task"
        )
    pooled = pd.concat(votes)
    suspects = pooled.groupby("example").agg(
        with_reference=("correct", "sum"), samples=("votes", "sum"), runs=("run", "nunique")
    )
    suggested = _most_frequent_wrong_answers(pooled)
    suspects["suggested"] = suggested["answer"].reindex(suspects.index)
    suspects["agree"] = suggested["votes"].reindex(suspects.index, fill_value=0)
    suspects["suspicion"] = (suspects["agree"] - suspects["with_reference"]) / suspects["samples"]
    texts = read_example_texts(store, suspects.index.tolist())
    texts = texts.rename(columns={"answer": "reference"})
    suspects = suspects.join(texts.set_index(suspects.index))
    return suspects.sort_values(["suspicion", "id"], ascending=[False, True])[list(COLUMNS)]


def few_samples_in_words(suspects: pd.DataFrame, run: str) -> str:
    """A sentence where most examples have too few samples to agree on anything; else empty.

    Args:
        suspects: `find_suspect_labels`.
        run: a run that they come from.
    """
    few = int((suspects["samples"] < FEWEST_SAMPLES).sum())
    if 2 * few < len(suspects):
        return ""
    return (
        f"{few:,} of these examples have fewer than {FEWEST_SAMPLES} samples, whose agreement says "
        f"little; 'premem jobs extend {run} --plan lazy --samples 5' draws more."
    )


def _most_frequent_wrong_answers(votes: pd.DataFrame) -> pd.DataFrame:
    """The wrong answer with the most votes, and its votes: answer and votes, by example."""
    answered = votes.dropna(subset=["answer"])
    spellings = answered.groupby(["example", "answer"], as_index=False)[["votes", "correct"]].sum()
    spellings["meaning"] = spellings["answer"].map(
        {answer: _meaning(answer) for answer in set(spellings["answer"])}
    )
    spellings = _most_votes_first(spellings)
    answers = spellings.groupby(["example", "meaning"], as_index=False, sort=False).agg(
        answer=("answer", "first"), votes=("votes", "sum"), correct=("correct", "sum")
    )
    wrong = _most_votes_first(answers[answers["correct"] == 0])
    return wrong.drop_duplicates("example").set_index("example")


def _most_votes_first(rows: pd.DataFrame) -> pd.DataFrame:
    return rows.sort_values(["example", "votes", "answer"], ascending=[True, False, True])


def _meaning(answer: str) -> str:
    """A text that is equal for all spellings of a number; for other answers, without spaces."""
    value = number(answer)
    return "".join(answer.split()) if value is None else str(value)


def _read_votes(store: Store, run: str) -> pd.DataFrame:
    """`read_answer_votes` of a run, with the grades that are in use."""
    return read_answer_votes(
        store, run, run_graders.shards_in_force(store, run_graders.read_graders(store, run))
    )


def _before_memorization(
    votes: pd.DataFrame, run: RunScores, log_log_threshold: float
) -> pd.DataFrame:
    """The votes from checkpoints that had not memorized the example, with the column run."""
    pairs = pd.DataFrame(
        {
            "step": np.repeat(run.steps, len(run.examples)),
            "example": np.tile(run.examples, len(run.steps)),
            "memorized": pre_memorization.memorized(run.nll, log_log_threshold).ravel(),
        }
    )
    before = pairs[~pairs["memorized"]].drop(columns="memorized")
    return votes.merge(before, on=["step", "example"]).assign(run=run.run)
