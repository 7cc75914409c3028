"""Repeated answers: pass@k, maj@k and answer entropy of a run's checkpoints, from its samples.

After reinforcement learning, pass@k at a large k says more of what a model can reach than accuracy
does (docs/method.md, section 14).
"""

import numpy as np
import pandas as pd

from premem_core.grading import run_graders
from premem_core.metrics.intervals import mean_interval
from premem_core.metrics.pre_memorization import Floats
from premem_core.metrics.repeated_samples import majority_at_k, pass_at_k
from premem_core.store.completions import read_answer_votes, samples_shards
from premem_core.store.database import Store
from premem_core.store.runs import read_checkpoints
from premem_core.store.scores import read_counts

MOST_SAMPLES = 16  # of more, the choices of k are too many to count
COLUMNS = (
    *("step", "split", "k", "questions", "pass_at_k", "pass_half", "maj_at_k", "maj_half"),
    "entropy",
)


def repeated_answers(store: Store, run: str) -> pd.DataFrame:
    """How often k samples of a question hold a correct one, and how often their majority is right.

    Returns:
        COLUMNS, a row per scored checkpoint, split and k: 1, 2, 4 and so on, and the largest k that
        every question has samples for. A split of which a sampling plan left questions out has no
        row, because the others are no random part. pass_at_k and maj_at_k are means over questions,
        with the half-widths of their 90 % intervals. maj_at_k and entropy are NaN without
        completions; with more than MOST_SAMPLES samples, maj_at_k is NaN for a k between 1 and the
        largest. entropy is that of a question's answers in nats, in the mean; it does not depend on
        k, and is too low for few samples. Answers that are spelled differently count as different,
        unless they are correct.
    """
    steps = read_checkpoints(store, run).query("state == 'scored'")["step"]
    counts = read_counts(store, run)
    counts = counts[(counts["perturbation"] == "") & counts["step"].isin(steps)]
    rows = []
    for split in ("train", "test"):
        of_split = counts[counts["split"] == split]
        sampled = of_split[of_split["samples"] > 0]
        votes = _read_votes(store, run, split) if len(sampled) else pd.DataFrame()
        for step, questions in sampled.groupby("step"):
            if split == "train" and len(questions) < (of_split["step"] == step).sum():
                continue
            of_step = votes[votes["step"] == step] if len(votes) else votes
            rows += [
                {"step": step, "split": split, "questions": len(questions), **measured}
                for measured in _measure(questions, of_step)
            ]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _measure(questions: pd.DataFrame, votes: pd.DataFrame) -> list[dict[str, float]]:
    samples, correct = (questions[name].to_numpy(np.int64) for name in ("samples", "correct"))
    most = int(samples.min())
    ks = sorted({*(2**i for i in range(most.bit_length())), most})
    wrong, entropy = _answers(questions, votes)
    measured = []
    for k in ks:
        passed, pass_half = mean_interval(pass_at_k(samples, correct, k))
        majority, maj_half = np.nan, np.nan
        if wrong is not None and (k in (1, most) or most <= MOST_SAMPLES):
            each = [
                majority_at_k(c, others, n, k)
                for c, others, n in zip(correct.tolist(), wrong, samples.tolist(), strict=True)
            ]
            majority, maj_half = map(float, mean_interval(np.array(each)))
        measured.append(
            {
                "k": k,
                "pass_at_k": float(passed),
                "pass_half": float(pass_half),
                "maj_at_k": majority,
                "maj_half": maj_half,
                "entropy": float(entropy.mean()),
            }
        )
    return measured


def _answers(questions: pd.DataFrame, votes: pd.DataFrame) -> tuple[list[list[int]] | None, Floats]:
    """The votes of each question's wrong answers, None without completions, and its entropy."""
    if not len(votes):
        return None, np.array([np.nan])
    wrong = votes[(votes["correct"] == 0) & votes["answer"].notna()]
    of_wrong = wrong.groupby("example")["votes"].apply(list)
    total = votes.groupby("example")["votes"].transform("sum")
    share = votes["votes"] / total
    entropies = (-share * np.log(share)).groupby(votes["example"]).sum()
    numbers = questions["example"]
    known = [list(map(int, of_wrong.get(number, []))) for number in numbers]
    return known, entropies.reindex(numbers).to_numpy(np.float64)


def _read_votes(store: Store, run: str, split: str) -> pd.DataFrame:
    if not samples_shards(store, run):
        return pd.DataFrame()
    shards = run_graders.shards_in_force(store, run_graders.read_graders(store, run))
    return read_answer_votes(store, run, shards, split)
