"""Work left: the part of a job that is not measured yet."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from premem_core.metrics import sampling_plan
from premem_core.metrics.pre_memorization import Floats
from premem_core.metrics.sampling_plan import Plan, Share
from premem_core.metrics.segments import SEGMENT_COLUMNS, segment_nll
from premem_core.problems.perturbations import PREFIXES
from premem_core.records import BASE_STEP, Example, Grade, Segment
from premem_core.scoring.spec import Query, ScoringSpec, Split
from premem_core.store.scores import COUNT_COLUMNS
from premem_core.store.shards.committed_shards import GAP_COLUMNS

Counts = NDArray[np.int64]
NO_GAPS = pd.DataFrame(columns=list(GAP_COLUMNS))


@dataclass(slots=True)
class QueryGrid:
    """The results of one set of N queries at C checkpoints, filled in as work is done.

    Queries of similar length are next to each other, so that batches need little padding.
    """

    split: Split
    perturbation: str
    queries: tuple[Query, ...]  # (N,)
    samples: Counts  # (C, N)
    correct: Counts  # (C, N)
    nll: NDArray[np.float64]  # (C, N), nats, of the segment; NaN: not known
    measured: NDArray[np.bool_]  # (C, N) also where a target has no token that can be scored
    gaps: Counts  # (C, N), numbers below the highest that no sample has
    segment: Segment = "target"

    def columns(self, numbers: NDArray[np.int64]) -> NDArray[np.int64]:
        """The columns of the queries with these numbers in the store."""
        of_columns = np.array([query.number for query in self.queries])
        order = np.argsort(of_columns)
        return order[np.searchsorted(of_columns, numbers, sorter=order)]

    def add(self, row: int, table: pa.Table) -> None:
        """Add the results of a shard to the row of its checkpoint."""
        columns = self.columns(table["example"].to_numpy())
        if "nll" in table.column_names:
            measured = table.select(SEGMENT_COLUMNS).to_pydict()
            self.nll[row, columns] = segment_nll(measured, self.segment)
            self.measured[row, columns] = True
        else:
            np.add.at(self.samples[row], columns, 1)
            np.add.at(self.correct[row], columns, table["grade"].to_numpy() == Grade.CORRECT)

    def of_rows(self, rows: list[int]) -> "QueryGrid":
        """A copy with the checkpoints in these rows."""
        return replace(
            self,
            samples=self.samples[rows],
            correct=self.correct[rows],
            nll=self.nll[rows],
            measured=self.measured[rows],
            gaps=self.gaps[rows],
        )


@dataclass(slots=True)
class WorkLeft:
    """The results of a whole job, from which the work left follows.

    The first grid is that of the unperturbed training queries.

    Attributes:
        base: the work left at the base model, which is sampled for itself, by no plan; None if it
            is not scored, or if it is a checkpoint of the run.
        continued: the numbers of the queries whose continuation the base model has written; None
            if it is not asked for these, or if that is the work of `base`.
        closed: the steps of scored checkpoints that cannot be loaded any more, whose results stay
            as they are.
    """

    spec: ScoringSpec
    steps: tuple[int, ...]  # (C,) in training order
    grids: list[QueryGrid]
    base: "WorkLeft | None" = None
    continued: set[int] | None = None
    closed: frozenset[int] = frozenset()

    def at(self, step: int) -> "WorkLeft":
        """The work left of which a checkpoint is part: that of the base model, or this one."""
        return self.base if self.base and step in self.base.steps else self

    def needs_targets(self, grid: QueryGrid) -> NDArray[np.bool_]:
        """Whether the target of each query is still to be measured: (C, N)."""
        is_wanted = grid.split != "test" or self.spec.held_out
        needed: NDArray[np.bool_] = ~grid.measured & (is_wanted and not grid.perturbation)
        needed[list(self._closed_rows)] = False
        return needed

    def to_draw(self, grid: QueryGrid) -> Counts:
        """The number of further samples that are known to be needed now: (C, N)."""
        spec, wanted = self.spec, self.spec.sampling.samples
        if grid.split == "train" and not grid.perturbation:
            left = sampling_plan.to_draw(*self._plan_of(grid))
        else:
            left = np.maximum((wanted if grid.split != "unseen" else 0) - grid.samples, 0)
            if spec.plan == "final" or (grid.perturbation and not spec.perturb_all):
                left[self._controls(grid) : -1] = 0
        left[list(self._closed_rows)] = 0
        return left

    def _controls(self, grid: QueryGrid) -> int:
        """How many checkpoints, from the first, are controls of a perturbation: 0 or 1."""
        wanted = self.spec.perturb_controls and self.spec.plan != "final"
        return int(wanted and grid.perturbation != "" and grid.split == "train")

    def with_work(self) -> set[int]:
        """The steps of the checkpoints at which work can be done now."""
        any_target = [self.needs_targets(grid).any(axis=1) for grid in self.grids]
        any_sample = [self.to_draw(grid).any(axis=1) for grid in self.grids]
        has_work = np.logical_or.reduce([*any_target, *any_sample])
        found = {step for step, has in zip(self.steps, has_work, strict=True) if has}
        if self.continued is not None and self.to_continue:
            found.add(BASE_STEP)
        return found | (self.base.with_work() if self.base else set())

    @property
    def to_continue(self) -> list[QueryGrid]:
        """The grids with queries whose continuation the base model must still write."""
        done = self.continued or set()
        unperturbed = [g for g in self.grids if not g.perturbation and g.split != "unseen"]
        return [g for g in unperturbed if any(query.number not in done for query in g.queries)]

    @property
    def waits_for_perplexities(self) -> bool:
        """Whether no training problem can be sampled yet: a share is chosen by all perplexities."""
        return self.spec.share < 1 and bool(np.isnan(self.grids[0].nll).any())

    def drawn(self) -> dict[int, int]:
        """Completions drawn so far, by step."""
        of_base = self.base.drawn() if self.base else {}
        return of_base | _by_step(self.steps, [grid.samples for grid in self.grids])

    def at_most(self) -> dict[int, int]:
        """Completions that may still have to be drawn, by step."""
        of_train = sampling_plan.at_most(*self._plan_of(self.grids[0]))
        of_others = [self.to_draw(grid) for grid in self.grids[1:]]
        of_base = self.base.at_most() if self.base else {}
        return of_base | _by_step(self.steps, [of_train, *of_others])

    def _plan_of(
        self, grid: QueryGrid
    ) -> tuple[Plan, int, float | None, Floats, Counts, Counts, Share]:
        """The arguments of the functions of `sampling_plan`."""
        spec = self.spec
        return (
            spec.plan,
            spec.sampling.samples,
            spec.log_log_threshold,
            grid.nll,
            grid.samples,
            grid.correct,
            replace(spec.share_of_examples, closed=self._closed_rows),
        )

    @property
    def _closed_rows(self) -> tuple[int, ...]:
        return tuple(row for row, step in enumerate(self.steps) if step in self.closed)

    def completions_of_full_plan(self) -> int:
        """Completions that the full plan would draw in all."""
        full = WorkLeft(replace(self.spec, plan="full", share=1.0), self.steps, self.grids)
        of_base = self.base.completions_of_full_plan() if self.base else 0
        return of_base + sum(int((g.samples + full.to_draw(g)).sum()) for g in self.grids)

    def without(self, steps: set[int]) -> "WorkLeft":
        """A copy without these checkpoints, which failed."""
        rows = [row for row, step in enumerate(self.steps) if step not in steps]
        grids = [grid.of_rows(rows) for grid in self.grids]
        lacks_base = BASE_STEP in steps
        return WorkLeft(
            self.spec,
            tuple(self.steps[row] for row in rows),
            grids,
            self.base.without(steps) if self.base and not lacks_base else None,
            None if self.continued is None or lacks_base else set(self.continued),
            self.closed,
        )

    def copy(self) -> "WorkLeft":
        """A copy that can be filled in without changing this one."""
        return self.without(set())


def _by_step(steps: Sequence[int], counts: Sequence[Counts]) -> dict[int, int]:
    totals = sum(of_grid.sum(axis=1) for of_grid in counts)
    return dict(zip(steps, totals.tolist(), strict=True))


def find_work_left(
    spec: ScoringSpec,
    steps: Sequence[int],
    queries: Sequence[Query],
    counts: pd.DataFrame,
    continued: Collection[int] = (),
    gaps: pd.DataFrame = NO_GAPS,
) -> WorkLeft:
    """The work left of a job.

    Args:
        counts: `read_counts` of its run, with the segment of the specification.
        continued: the numbers of the queries whose continuation the base model has written.
        gaps: `read_gaps` of the run.
    """
    base = None
    if spec.score_base and BASE_STEP not in steps:
        base = find_work_left(of_base(spec), [BASE_STEP], queries, counts, continued, gaps)
    sets: list[tuple[Split, str]] = [("train", ""), ("test", ""), ("unseen", "")]
    sets += [(split, name) for name in spec.perturbations for split in spec.perturbed_splits]
    grids = [_find_grid(spec, split, name, steps, queries, counts, gaps) for split, name in sets]
    asked = spec.score_base and base is None
    return WorkLeft(spec, tuple(steps), grids, base, set(continued) if asked else None)


def of_base(spec: ScoringSpec) -> ScoringSpec:
    """The specification for the base model: every problem is sampled, or every one of the share.

    With a threshold of −∞ the plan `last` takes no solution for memorized, so that it samples the
    share in full.
    """
    return replace(
        spec,
        plan="last" if spec.share < 1 else "full",
        log_log_threshold=-np.inf,
        perturbations=(),
    )


def _find_grid(
    spec: ScoringSpec,
    split: Split,
    perturbation: str,
    steps: Sequence[int],
    queries: Sequence[Query],
    counts: pd.DataFrame,
    gaps: pd.DataFrame,
) -> QueryGrid:
    text_of = "" if perturbation in PREFIXES else perturbation
    members = [q for q in queries if q.split == split and q.perturbation == text_of]
    members.sort(key=lambda query: (len(query.example.question), query.number))
    shape = (len(steps), len(members))
    zeros = np.zeros(shape, dtype=np.int64)
    grid = QueryGrid(
        split,
        perturbation,
        tuple(members),
        zeros,
        zeros.copy(),
        np.full(shape, np.nan),
        np.zeros(shape, dtype=np.bool_),
        zeros.copy(),
        spec.segment,
    )
    # An imported file may have completions of further problems and checkpoints.
    numbers = [query.number for query in members]
    known, with_gap = (
        rows[
            (rows["split"] == split) & (rows["perturbation"] == perturbation)
            & rows["step"].isin(steps) & rows["example"].isin(numbers)
        ]
        for rows in (counts, gaps)
    )  # fmt: skip
    if len(with_gap):
        rows = np.searchsorted(np.asarray(steps), with_gap["step"].to_numpy())
        grid.gaps[rows, grid.columns(with_gap["example"].to_numpy())] = with_gap["gap"]
    if len(known):
        rows = np.searchsorted(np.asarray(steps), known["step"].to_numpy())
        columns = grid.columns(known["example"].to_numpy())
        grid.samples[rows, columns] = known["samples"]
        grid.correct[rows, columns] = known["correct"]
        grid.nll[rows, columns] = known["nll"].to_numpy(dtype=np.float64)
        grid.measured[rows, columns] = known["nll"].notna() | known["tokens"].eq(0).fillna(False)
    return grid


def all_work(
    spec: ScoringSpec, steps: Sequence[int], train: Sequence[Example], test: Sequence[Example]
) -> WorkLeft:
    """The work of a job that has not begun, and whose examples have no numbers yet."""
    queries = [Query(n, "train", example) for n, example in enumerate(train)]
    queries += [Query(n, "test", example) for n, example in enumerate(test, len(queries))]
    for name in spec.perturbations:  # at most: it may not apply to some
        queries += [replace(q, perturbation=name) for q in queries if not q.perturbation]
    return find_work_left(spec, steps, queries, pd.DataFrame(columns=list(COUNT_COLUMNS)))


def most_completions(
    spec: ScoringSpec, steps: Sequence[int], train: Sequence[Example], test: Sequence[Example]
) -> int:
    """The largest number of completions that a job which has not begun can need."""
    return sum(all_work(spec, steps, train, test).at_most().values())


def targets(spec: ScoringSpec, train: Sequence[Example], test: Sequence[Example]) -> int:
    """The number of targets that are measured at a checkpoint."""
    return len(train) + (len(test) if spec.held_out else 0)
