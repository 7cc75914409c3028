"""Measures: what else is known of a run's checkpoints, beside pre-memorization accuracy."""

import numpy as np
import pandas as pd

from premem_core.analysis.perturbed.controls import both_forms, limem
from premem_core.analysis.repeated_answers import repeated_answers
from premem_core.analysis.solutions import solution_measures, solution_table
from premem_core.store.database import Store
from premem_core.store.runs import read_runs
from premem_core.store.scores import read_counts, read_lengths

LENGTHS = ("finished", "completion_tokens")
REPEATED = ("k", "pass_at_k", "pass_half", "maj_at_k", "maj_half", "entropy")


def read_measures(store: Store, run: str) -> pd.DataFrame:
    """One row per scored checkpoint of a run.

    Returns:
        step; train_nll and test_nll (held-out NLL) with their `_half`, train_token_accuracy and
        test_token_accuracy (`solutions`); finished and completion_tokens, of completions of
        training questions; REPEATED with the largest k, of test questions, or of training questions
        where no test question is sampled (`repeated_answers`), and `repeated_of`, which of the two;
        limem_<perturbation> for every perturbation that is sampled there (`controls.limem`).
        Missing where not measured, or where a sampling plan left out samples that it needs.
    """
    task = str(read_runs(store).set_index("run")["task"][run])
    lengths = read_lengths(store, task)
    of_run = lengths[(lengths["run"] == run) & (lengths["split"] == "train")].set_index("step")
    solutions = solution_table(solution_measures(store, run), of_run.index.to_numpy())
    return (
        solutions.set_index("step")
        .join(of_run[list(LENGTHS)])
        .join(_repeated(store, run))
        .join(_limem(store, run))
        .reset_index(names="step")
    )


def _repeated(store: Store, run: str) -> pd.DataFrame:
    table = repeated_answers(store, run)
    split = "test" if (table["split"] == "test").any() else "train"
    of_split = table[table["split"] == split].sort_values("k")
    largest = of_split.groupby("step").last()
    return largest[list(REPEATED)].assign(repeated_of=split)


def _limem(store: Store, run: str) -> pd.DataFrame:
    counts = read_counts(store, run)
    perturbed = counts[(counts["perturbation"] != "") & (counts["split"] == "train")]
    columns: dict[str, dict[int, float]] = {}
    pairs = perturbed[["perturbation", "step"]].drop_duplicates()
    for name, step in zip(pairs["perturbation"], pairs["step"].tolist(), strict=True):
        both = both_forms(counts, "train", step, name)
        if len(both) and _complete(counts, step, name):
            columns.setdefault(f"limem_{name}", {})[step] = limem(both)[0]
    return pd.DataFrame(columns, dtype=np.float64)


def _complete(counts: pd.DataFrame, step: int, perturbation: str) -> bool:
    """Whether every question that was asked in another form has all samples of its own form."""
    of_step = counts[(counts["step"] == step) & (counts["split"] == "train")]
    samples = of_step.set_index(["perturbation", "example"])["samples"]
    asked = samples.get(perturbation)
    own = samples.get("")
    if asked is None or own is None:
        return False
    return bool((own.reindex(asked[asked > 0].index).fillna(0) == own.max()).all())
