"""Chunks: the work left of a job, divided.

A chunk is a unit of work over a fixed set of examples. Its name says what it holds, and its result
depends only on its name and the specification, so a resumed job does the same work as one that was
never interrupted.
"""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from premem_core.records import BASE_STEP
from premem_core.scoring.spec import Query, ScoringSpec, Split
from premem_core.scoring.work_left import QueryGrid, WorkLeft
from premem_core.store.shards.shards import Kind, ShardName


@dataclass(frozen=True, slots=True)
class Chunk:
    """A unit of work at one checkpoint: samples, targets or continuations of these queries.

    `numbers` holds the numbers of the samples of each query; it is empty for the other kinds.
    """

    run: str
    step: int
    split: Split
    perturbation: str
    kind: Kind
    block: int
    queries: tuple[Query, ...]
    numbers: tuple[range, ...] = ()

    @property
    def shard(self) -> str:
        """The shard's file name, in the inbox and in the store's ledger."""
        ranges = self.numbers or [range(0)] * len(self.queries)
        content = [
            (query.number, samples.start, samples.stop)
            for query, samples in zip(self.queries, ranges, strict=True)
        ]
        name = ShardName(
            step=self.step,
            split=self.split,
            perturbation=self.perturbation,
            kind=self.kind,
            block=self.block,
            digest=hashlib.sha256(json.dumps(content).encode()).hexdigest()[:12],
            run=self.run,
        )
        return str(name)


def target_chunks(work: WorkLeft, step: int) -> list[Chunk]:
    """The chunks of perplexities that are not measured yet at a checkpoint."""
    row, run = work.steps.index(step), work.spec.run
    return [
        Chunk(run, step, grid.split, grid.perturbation, "targets", block, queries)
        for grid in work.grids
        for block, queries, _ in _blocks(work.spec, grid, work.needs_targets(grid)[row])
    ]


def continuation_chunks(work: WorkLeft, step: int) -> list[Chunk]:
    """The chunks of continuations that the base model has not written yet."""
    if work.continued is None or step != BASE_STEP:
        return []
    chunks = []
    for grid in work.to_continue:
        wanted = np.array([query.number not in work.continued for query in grid.queries])
        chunks += [
            Chunk(work.spec.run, step, grid.split, "", "continuations", block, queries)
            for block, queries, _ in _blocks(work.spec, grid, wanted)
        ]
    return chunks


def sample_chunks(work: WorkLeft, step: int) -> list[Chunk]:
    """The chunks of samples that are known to be needed at a checkpoint, but not drawn yet."""
    row, run, chunks = work.steps.index(step), work.spec.run, []
    for grid in work.grids:
        more = work.to_draw(grid)[row]
        for block, queries, columns in _blocks(work.spec, grid, more > 0):
            first = (grid.samples + grid.gaps)[row, columns]
            numbers = tuple(map(range, first.tolist(), (first + more[columns]).tolist()))
            chunks.append(
                Chunk(run, step, grid.split, grid.perturbation, "samples", block, queries, numbers)
            )
    return chunks


def _blocks(
    spec: ScoringSpec, grid: QueryGrid, wanted: NDArray[np.bool_]
) -> Iterator[tuple[int, tuple[Query, ...], NDArray[np.int64]]]:
    """Yield each block of a grid with wanted queries: its number, these queries, their columns.

    A block's number and borders do not depend on `wanted`, so a resumed job has the same blocks.
    """
    for block, start in enumerate(range(0, len(grid.queries), spec.chunk_examples)):
        columns = start + np.flatnonzero(wanted[start : start + spec.chunk_examples])
        if len(columns):
            yield block, tuple(grid.queries[column] for column in columns), columns
