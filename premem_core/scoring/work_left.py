"""Work left: what a job still has to measure, cut into chunks.

A chunk is a unit of work over a fixed set of examples. Its name says what it holds, and its result
depends only on its name and the specification, so a resumed job does the same work as one that was
never interrupted.
"""

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from urllib.parse import quote

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from premem_core.metrics import sampling_plan
from premem_core.problems.perturbations import PREFIXES
from premem_core.records import Example, Grade
from premem_core.scoring.spec import Query, ScoringSpec, Split
from premem_core.store.scores import COUNT_COLUMNS

Counts = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Chunk:
    """A unit of work at one checkpoint: the targets of these queries, or samples of them.

    `numbers` says which samples of each query; a chunk of targets has none.
    """

    run: str
    step: int
    split: Split
    perturbation: str
    block: int
    queries: tuple[Query, ...]
    numbers: tuple[range, ...] = ()

    @property
    def shard(self) -> str:
        """The shard's file name, in the inbox and in the store's ledger."""
        kind = "samples" if self.numbers else "targets"
        content = [
            (query.number, r.start, r.stop)
            for query, r in zip(
                self.queries, self.numbers or [range(0)] * len(self.queries), strict=True
            )
        ]
        digest = hashlib.sha256(json.dumps(content).encode()).hexdigest()[:12]
        return (
            f"{self.step:08d}.{self.split}.{self.perturbation}.{kind}."
            f"{self.block:05d}-{digest}.{quote(self.run, safe='')}.parquet"
        )


@dataclass(slots=True)
class QueryGrid:
    """What is known of one set of queries: C checkpoints by N queries, filled as work is done.

    Queries of similar length stand together, so that a batch wastes little on padding.
    """

    split: Split
    perturbation: str
    queries: tuple[Query, ...]  # (N,)
    samples: Counts  # (C, N)
    correct: Counts  # (C, N)
    nll: NDArray[np.float64]  # (C, N), nats; NaN: not measured yet

    def columns(self, numbers: NDArray[np.int64]) -> NDArray[np.int64]:
        """Where the queries of these store numbers stand."""
        own = np.array([query.number for query in self.queries])
        order = np.argsort(own)
        return order[np.searchsorted(own, numbers, sorter=order)]

    def add(self, row: int, table: pa.Table) -> None:
        """Take a shard of checkpoint `row` into account."""
        examples = self.columns(table["example"].to_numpy())
        if "nll" in table.column_names:
            self.nll[row, examples] = table["nll"].to_numpy()
        else:
            np.add.at(self.samples[row], examples, 1)
            np.add.at(self.correct[row], examples, table["grade"].to_numpy() == Grade.CORRECT)


@dataclass(slots=True)
class WorkLeft:
    """What is known of a whole job, and so what is still to be done."""

    spec: ScoringSpec
    steps: tuple[int, ...]  # (C,) in training order, those that count
    sheets: list[QueryGrid]

    def needs_targets(self, step: int) -> NDArray[np.bool_]:
        """Which training queries' perplexities are not measured yet at a checkpoint: (N,)."""
        return np.isnan(self.sheets[0].nll[self.steps.index(step)])

    def to_draw(self, sheet: QueryGrid) -> Counts:
        """(C, N) further samples to draw now, as far as can be told yet."""
        spec, wanted = self.spec, self.spec.sampling.samples
        if sheet.split == "train" and not sheet.perturbation:
            return sampling_plan.to_draw(
                spec.plan,
                wanted,
                spec.log_log_threshold,
                sheet.nll,
                sheet.samples,
                sheet.correct,
            )
        left = np.maximum(wanted - sheet.samples, 0)
        last_only = spec.plan == "final" or (sheet.perturbation and not spec.perturb_all)
        if last_only:
            left[:-1] = 0
        return left

    def with_work(self) -> set[int]:
        """The steps at which something can be done now."""
        any_target = np.isnan(self.sheets[0].nll).any(axis=1)
        any_sample = [self.to_draw(sheet).any(axis=1) for sheet in self.sheets]
        work = np.logical_or.reduce([any_target, *any_sample])
        return {step for step, has in zip(self.steps, work, strict=True) if has}

    def drawn(self) -> dict[int, int]:
        """Completions drawn so far, by step."""
        return _by_step(self.steps, [sheet.samples for sheet in self.sheets])

    def at_most(self) -> dict[int, int]:
        """Completions that may still have to be drawn, by step."""
        spec, train = self.spec, self.sheets[0]
        more = sampling_plan.at_most(
            spec.plan,
            spec.sampling.samples,
            spec.log_log_threshold,
            train.nll,
            train.samples,
            train.correct,
        )
        return _by_step(self.steps, [more, *(self.to_draw(sheet) for sheet in self.sheets[1:])])

    def full(self) -> int:
        """Completions of the full plan."""
        full = WorkLeft(replace(self.spec, plan="full"), self.steps, self.sheets)
        return sum(int((sheet.samples + full.to_draw(sheet)).sum()) for sheet in self.sheets)

    def without(self, steps: set[int]) -> "WorkLeft":
        """The board as if these checkpoints, which failed, did not exist."""
        kept = [row for row, step in enumerate(self.steps) if step not in steps]
        sheets = [
            QueryGrid(
                s.split, s.perturbation, s.queries, s.samples[kept], s.correct[kept], s.nll[kept]
            )
            for s in self.sheets
        ]
        return WorkLeft(self.spec, tuple(self.steps[row] for row in kept), sheets)


def _by_step(steps: Sequence[int], counts: Sequence[Counts]) -> dict[int, int]:
    return dict(zip(steps, sum(each.sum(axis=1) for each in counts).tolist(), strict=True))


def find_work_left(
    spec: ScoringSpec, steps: Sequence[int], queries: Sequence[Query], counts: pd.DataFrame
) -> WorkLeft:
    """What is known of a job.

    Args:
        counts: `Store.counts` of its run.
    """
    sheets = []
    for split, perturbation in (
        ("train", ""),
        ("test", ""),
        *(("train", name) for name in spec.perturbations),
    ):
        own = "" if perturbation in PREFIXES else perturbation
        members = [q for q in queries if q.split == split and q.perturbation == own]
        members.sort(key=lambda query: (len(query.example.question), query.number))
        shape = (len(steps), len(members))
        zeros = np.zeros(shape, dtype=np.int64)
        sheet = QueryGrid(
            split,  # type: ignore[arg-type]
            perturbation,
            tuple(members),
            zeros,
            zeros.copy(),
            np.full(shape, np.nan),
        )
        known = counts[(counts["split"] == split) & (counts["perturbation"] == perturbation)]
        known = known[known["step"].isin(steps)]
        if len(known):
            rows = np.searchsorted(np.asarray(steps), known["step"].to_numpy())
            columns = sheet.columns(known["example"].to_numpy())
            sheet.samples[rows, columns] = known["samples"]
            sheet.correct[rows, columns] = known["correct"]
            sheet.nll[rows, columns] = known["nll"].to_numpy(dtype=np.float64)
        sheets.append(sheet)
    return WorkLeft(spec, tuple(steps), sheets)


def all_work(
    spec: ScoringSpec, steps: Sequence[int], train: Sequence[Example], test: Sequence[Example]
) -> WorkLeft:
    """The board of a job of which nothing is done and no example has its number yet."""
    queries = [Query(n, "train", example) for n, example in enumerate(train)]
    queries += [Query(n, "test", example) for n, example in enumerate(test, len(queries))]
    for name in spec.perturbations:  # at most: it need not apply to all of them
        queries += [Query(n, "train", example, name) for n, example in enumerate(train)]
    return find_work_left(spec, steps, queries, pd.DataFrame(columns=list(COUNT_COLUMNS)))


def most_completions(
    spec: ScoringSpec, steps: Sequence[int], train: Sequence[Example], test: Sequence[Example]
) -> int:
    """Completions that such a job can need."""
    return sum(all_work(spec, steps, train, test).at_most().values())


def target_chunks(known: WorkLeft, step: int) -> list[Chunk]:
    """The perplexities that are not measured yet at a checkpoint."""
    wanted = known.needs_targets(step)
    return [
        Chunk(known.spec.run, step, "train", "", block, queries)
        for block, queries, _ in _blocks(known.spec, known.sheets[0], wanted)
    ]


def sample_chunks(known: WorkLeft, step: int) -> list[Chunk]:
    """The samples that are known to be needed at a checkpoint and are not drawn yet."""
    row, result = known.steps.index(step), []
    for sheet in known.sheets:
        more = known.to_draw(sheet)[row]
        for block, queries, at in _blocks(known.spec, sheet, more > 0):
            starts = sheet.samples[row, at].tolist()
            numbers = tuple(
                range(start, start + n) for start, n in zip(starts, more[at].tolist(), strict=True)
            )
            result.append(
                Chunk(
                    known.spec.run, step, sheet.split, sheet.perturbation, block, queries, numbers
                )
            )
    return result


def _blocks(
    spec: ScoringSpec, sheet: QueryGrid, wanted: NDArray[np.bool_]
) -> Iterator[tuple[int, tuple[Query, ...], NDArray[np.int64]]]:
    """Blocks of a sheet: number, the queries that are wanted of it, their columns.

    A block's number and borders do not depend on what is wanted, so a resumed job cuts the same.
    """
    for block, start in enumerate(range(0, len(sheet.queries), spec.chunk_examples)):
        at = start + np.flatnonzero(wanted[start : start + spec.chunk_examples])
        if len(at):
            yield block, tuple(sheet.queries[column] for column in at), at
