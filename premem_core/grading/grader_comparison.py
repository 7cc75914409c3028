"""Two graders of the same completions: how often they agree, and where they do not."""

from dataclasses import dataclass
from functools import cached_property

import pandas as pd

from premem_core.grading.run_graders import checked_grader, shards_of
from premem_core.records import Grade
from premem_core.store.database import Store
from premem_core.store.grades import read_disagreements, read_grade_counts

Kind = tuple[Grade, Grade]  # what the one grader says, and the other


@dataclass(frozen=True)
class Comparison:
    """How two graders grade the same completions; `counts` has a row for each pair of grades.

    Its columns: split, perturbation, grade_one, grade_other (names of `Grade`), completions.
    """

    one: str
    other: str
    counts: pd.DataFrame

    @cached_property
    def completions(self) -> int:
        """How many completions both have graded."""
        return int(self.counts["completions"].sum())

    @cached_property
    def disagreements(self) -> int:
        """How many of them got two different grades."""
        return int(self._differing["completions"].sum())

    @cached_property
    def about_correctness(self) -> int:
        """How many of them only one of the two calls correct: what accuracies can see."""
        differing = self._differing
        correct = (differing[["grade_one", "grade_other"]] == Grade.CORRECT.name).any(axis=1)
        return int(differing["completions"][correct].sum())

    @cached_property
    def share(self) -> float:
        """Disagreements per completion."""
        return self.disagreements / self.completions if self.completions else float("nan")

    @cached_property
    def cross(self) -> pd.DataFrame:
        """Completions by the one's grade (rows) and the other's (columns), of grades that occur."""
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
        """The kinds of disagreement that occur, named: "correct, incorrect"."""
        pairs = sorted(
            {(Grade[a], Grade[b]) for a, b in self._differing[["grade_one", "grade_other"]].values}
        )
        return {f"{a.name}, {b.name}".lower(): (a, b) for a, b in pairs}

    @cached_property
    def accuracies(self) -> pd.DataFrame:
        """split, perturbation, one, other: the share of correct completions by either grader."""
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


def compare_graders(store: Store, run: str, one: str, other: str) -> Comparison:
    """How two graders grade the completions that both of them have graded.

    Raises:
        UsageError, StoreError: as `grade` does; StoreError: one has not graded any.
    """
    about = checked_grader(store, run, one, other)
    counts = read_grade_counts(store, shards_of(store, about, one), shards_of(store, about, other))
    return Comparison(one, other, _named(counts))


def disagreements(
    store: Store,
    run: str,
    one: str,
    other: str,
    kind: Kind | None = None,
    limit: int | None = None,
) -> pd.DataFrame:
    """DISAGREEMENT_COLUMNS of the store: the completions that two graders grade differently.

    Those that only one of them calls correct come first. The index names a completion within its
    run, such as "315/train//486/4": step, split, perturbation, example and sample.

    Args:
        kind: only those with this pair of grades.
        limit: at most so many.

    Raises:
        UsageError, StoreError: as `compare` does.
    """
    about = checked_grader(store, run, one, other)
    shards = shards_of(store, about, one), shards_of(store, about, other)
    rows = read_disagreements(store, run, *shards, kind=kind, limit=limit)
    parts = zip(
        *(rows[name] for name in ("step", "split", "perturbation", "example", "sample")),
        strict=True,
    )
    return _named(rows).set_index(pd.Index(["/".join(map(str, each)) for each in parts]))


def _named(frame: pd.DataFrame) -> pd.DataFrame:
    names = {int(grade): grade.name for grade in Grade}
    return frame.assign(
        **{column: frame[column].map(names) for column in ("grade_one", "grade_other")}
    )
