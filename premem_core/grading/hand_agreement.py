"""Hand agreement: how often a grader agrees with the grades that people set by hand."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq

from premem_core.grading.run_graders import read_graders, shards_of
from premem_core.records import Grade
from premem_core.store.database import Store
from premem_core.store.grades import read_overrides
from premem_core.store.shards.shards import select_shards

KEY = ["step", "split", "perturbation", "example", "sample"]


@dataclass(frozen=True, slots=True)
class HandAgreement:
    """A grader's grades beside those set by hand, each as correct or not correct.

    People set grades where they doubt the grader, so this is no estimate for all completions.

    Attributes:
        n: the number of completions with both.
        agree: the number of those on which they agree.
        kappa: Cohen's kappa (Cohen, 1960): agreement beyond chance, from −1 to 1; NaN if n is 0 or
            all grades are the same.
    """

    n: int
    agree: int
    kappa: float


def hand_agreement(store: Store, run: str, grader: str) -> HandAgreement:
    """The agreement of a grader with the grades of a run that are set by hand and not undone.

    Raises:
        UsageError: there is no such run.
        StoreError: the run has no completions, or the grader has graded none of them.
    """
    shards = shards_of(store, read_graders(store, run), grader)
    by_hand = read_overrides(store, run).query("undone.isna()")
    graded = [_grades(shards, *key) for key in by_hand[KEY[:3]].drop_duplicates().itertuples(False)]
    if not graded:
        return HandAgreement(0, 0, float("nan"))
    both = by_hand.merge(pd.concat(graded), on=KEY, suffixes=("_by_hand", ""))
    return _agreement(both["grade_by_hand"] == Grade.CORRECT, both["grade"] == Grade.CORRECT)


def _grades(shards: Sequence[Path], step: int, split: str, perturbation: str) -> pd.DataFrame:
    chosen = select_shards(
        shards, step=step, split=split, perturbation=perturbation, kind="samples"
    )
    # ParquetFile, because read_table would add a column for the folder's name run=….
    tables = [pq.ParquetFile(file).read(columns=[*KEY, "grade"]).to_pandas() for file in chosen]
    return pd.concat(tables) if tables else pd.DataFrame(columns=[*KEY, "grade"])


def _agreement(by_hand: "pd.Series[bool]", graded: "pd.Series[bool]") -> HandAgreement:
    from sklearn.metrics import cohen_kappa_score

    agree = int((by_hand == graded).sum())
    if not len(graded):
        return HandAgreement(0, 0, float("nan"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # scikit-learn warns where kappa is not defined
        kappa = cohen_kappa_score(by_hand, graded, labels=[False, True])
    return HandAgreement(len(graded), agree, float(kappa))
