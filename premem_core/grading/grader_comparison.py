"""Comparing two graders of the same completions: how often and where they disagree."""

from dataclasses import dataclass
from functools import cached_property

import pandas as pd

from premem_core.grading.run_graders import checked_grader, shards_of
from premem_core.records import Grade
from premem_core.store.database import Store
from premem_core.store.grades import read_disagreements, read_grade_counts

Kind = tuple[Grade, Grade]  # the grades of grader A and of grader B for the same completion


@dataclass(frozen=True)
class Comparison:
    """How two graders, A and B, grade the same completions.

    Attributes:
        grader_a, grader_b: names of graders.
        counts: one row per pair of grades that occurs, with the columns split, perturbation,
            grade_one (of A) and grade_other (of B), which are names of `Grade`, and completions.
    """

    grader_a: str
    grader_b: str
    counts: pd.DataFrame

    @cached_property
    def completions(self) -> int:
        """The number of completions that both have graded."""
        return int(self.counts["completions"].sum())

    @cached_property
    def disagreements(self) -> int:
        """The number of completions with two different grades."""
        return int(self._differing["completions"].sum())

    @cached_property
    def about_correctness(self) -> int:
        """The number of completions that only one of the two calls correct.

        Only these make the two graders' accuracies differ.
        """
        differing = self._differing
        correct = (differing[["grade_one", "grade_other"]] == Grade.CORRECT.name).any(axis=1)
        return int(differing["completions"][correct].sum())

    @cached_property
    def share(self) -> float:
        """The share of completions with two different grades; NaN if there are none."""
        return self.disagreements / self.completions if self.completions else float("nan")

    @cached_property
    def cross(self) -> pd.DataFrame:
        """Numbers of completions by the grade of A (rows) and of B (columns)."""
        table = self.counts.pivot_table(
            index="grade_one",
            columns="grade_other",
            values="completions",
            aggfunc="sum",
            fill_value=0,
        )
        names = [g.name for g in Grade if g.name in {*table.index, *table.columns}]
        return table.reindex(index=names, columns=names, fill_value=0)

    @cached_property
    def kinds(self) -> dict[str, Kind]:
        """The pairs of different grades that occur, by names such as "correct, incorrect"."""
        pairs = sorted(
            {(Grade[a], Grade[b]) for a, b in self._differing[["grade_one", "grade_other"]].values}
        )
        return {f"{a.name}, {b.name}".lower(): (a, b) for a, b in pairs}

    @cached_property
    def accuracies(self) -> pd.DataFrame:
        """Columns split, perturbation, one and other: the accuracy by grader A and by grader B."""
        counts = self.counts
        parts = {
            name: counts["completions"].where(counts[column] == Grade.CORRECT.name, 0)
            for name, column in (("one", "grade_one"), ("other", "grade_other"))
        }
        summed = counts.assign(**parts).groupby(["split", "perturbation"], sort=False)[
            ["one", "other", "completions"]
        ]
        sums = summed.sum()
        return sums[["one", "other"]].div(sums["completions"], axis=0).reset_index()

    @cached_property
    def _differing(self) -> pd.DataFrame:
        return self.counts[self.counts["grade_one"] != self.counts["grade_other"]]


def compare_graders(store: Store, run: str, grader_a: str, grader_b: str) -> Comparison:
    """Compare two graders on the completions of a run that both have graded.

    Raises:
        UsageError: there is no such run or grader.
        StoreError: the run has no completions, or one of the graders has graded none of them.
    """
    graders = checked_grader(store, run, grader_a, grader_b)
    counts = read_grade_counts(
        store, shards_of(store, graders, grader_a), shards_of(store, graders, grader_b)
    )
    return Comparison(grader_a, grader_b, _named(counts))


def disagreements(
    store: Store,
    run: str,
    grader_a: str,
    grader_b: str,
    kind: Kind | None = None,
    limit: int | None = None,
) -> pd.DataFrame:
    """The completions that two graders grade differently, as DISAGREEMENT_COLUMNS of the store.

    Completions that only one grader calls correct come first. The index names a completion within
    its run, such as "315/train//486/4": step, split, perturbation, example and sample.

    Args:
        kind: only completions with this pair of grades.
        limit: the most rows to return.

    Raises:
        UsageError, StoreError: as `compare_graders`.
    """
    graders = checked_grader(store, run, grader_a, grader_b)
    shards = shards_of(store, graders, grader_a), shards_of(store, graders, grader_b)
    rows = read_disagreements(store, run, *shards, kind=kind, limit=limit)
    parts = zip(
        *(rows[name] for name in ("step", "split", "perturbation", "example", "sample")),
        strict=True,
    )
    return _named(rows).set_index(pd.Index(["/".join(map(str, key)) for key in parts]))


def _named(frame: pd.DataFrame) -> pd.DataFrame:
    """The frame with the names of grades in place of their codes."""
    names = {int(grade): grade.name for grade in Grade}
    return frame.assign(
        **{column: frame[column].map(names) for column in ("grade_one", "grade_other")}
    )
