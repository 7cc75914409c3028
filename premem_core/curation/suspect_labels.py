"""What runs answered before they began to copy → training solutions whose answer is suspect.

A solution that is copied is repeated, right or wrong. Until then a model answers by what it knows;
where its samples agree on one answer, and that is not the solution's, one of the two is wrong.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from premem_core.analysis.run_scores import RunScores
from premem_core.errors import UsageError
from premem_core.grading import run_graders
from premem_core.grading.gsm8k_grader import number
from premem_core.metrics import pre_memorization
from premem_core.store.completions import read_answer_votes, samples_shards
from premem_core.store.database import Store
from premem_core.store.examples import read_example_texts

COLUMNS = (
    "id", "question", "solution", "reference", "suggested", "suspicion", "agree",
    "with_reference", "samples", "runs",
)  # fmt: skip


def find_suspect_labels(
    store: Store, runs: Sequence[RunScores], log_log_threshold: float
) -> pd.DataFrame:
    """The training examples that were asked before they were memorized, most suspect first.

    Args:
        runs: of one task. Their samples are pooled: those of every checkpoint at which the
            solution's perplexity was not below the threshold.
        log_log_threshold: t = log log PPL, as of pre-memorization accuracy (METHOD, section 2).

    Returns:
        COLUMNS, indexed by the store's example number. reference: the solution's answer.
        suggested: of the answers that are graded wrong, the one that most samples gave, all
        spellings of a number together, as most of them wrote it; None: there is none. agree,
        with_reference, samples: how many gave it, how many were right, of how many. suspicion:
        (agree - with_reference) / samples, from -1 to 1. runs: that know of it.

    Raises:
        UsageError: no run has completions from before memorization.
    """
    asked = [run for run in runs if samples_shards(store, run.run)]
    votes = [_before(_answers(store, run.run), run, log_log_threshold) for run in asked]
    if not any(map(len, votes)):
        raise UsageError(
            "no chosen run has completions from before it memorized: scores imported without them "
            "do not tell what was answered; score a run of this task"
        )
    pooled = pd.concat(votes)
    found = pooled.groupby("example").agg(
        with_reference=("correct", "sum"), samples=("votes", "sum"), runs=("run", "nunique")
    )
    answered = pooled.dropna(subset=["answer"])
    written = answered.groupby(["example", "answer"], as_index=False)[["votes", "correct"]].sum()
    written["means"] = written["answer"].map(
        {each: _means(each) for each in set(written["answer"])}
    )
    written = written.sort_values(["example", "votes", "answer"], ascending=[True, False, True])
    others = written.groupby(["example", "means"], as_index=False, sort=False).agg(
        answer=("answer", "first"), votes=("votes", "sum"), correct=("correct", "sum")
    )
    others = others[others["correct"] == 0].sort_values(
        ["example", "votes", "answer"], ascending=[True, False, True]
    )
    best = others.drop_duplicates("example").set_index("example")
    found["suggested"] = best["answer"].reindex(found.index)
    found["agree"] = best["votes"].reindex(found.index, fill_value=0)
    found["suspicion"] = (found["agree"] - found["with_reference"]) / found["samples"]
    texts = read_example_texts(store, found.index.tolist()).rename(columns={"answer": "reference"})
    found = found.join(texts.set_index(found.index))
    return found.sort_values(["suspicion", "id"], ascending=[False, True])[list(COLUMNS)]


def _means(answer: str) -> str:
    """The same for all spellings of a number; of what is none, the text without its spaces."""
    value = number(answer)
    return "".join(answer.split()) if value is None else str(value)


def _answers(store: Store, run: str) -> pd.DataFrame:
    """ANSWER_COLUMNS of the store, by the grades that count."""
    return read_answer_votes(
        store, run, run_graders.shards_in_force(store, run_graders.read_graders(store, run))
    )


def _before(answers: pd.DataFrame, run: RunScores, log_log_threshold: float) -> pd.DataFrame:
    """Of a run's answers, those of an example at the checkpoints that had not memorized it."""
    known = pd.DataFrame(
        {
            "step": np.repeat(run.steps, len(run.examples)),
            "example": np.tile(run.examples, len(run.steps)),
            "memorized": pre_memorization.memorized(run.nll, log_log_threshold).ravel(),
        }
    )
    before = known[~known["memorized"]].drop(columns="memorized")
    return answers.merge(before, on=["step", "example"]).assign(run=run.run)
