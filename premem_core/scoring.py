"""One checkpoint: perplexities of the training solutions, then samples, graded, into shards.

The work is cut into chunks of a fixed set of examples. A chunk's name says what it holds, and what
it computes depends on nothing but its name and the specification: a resumed job does the same work
as an uninterrupted one, and what is on the shelf already is read instead of computed again.
"""

import hashlib
import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal
from urllib.parse import quote

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from premem_core import perturbations, sampling_plan
from premem_core.backends import Backend, Request
from premem_core.grading import Grader
from premem_core.perturbations import PREFIXES
from premem_core.sampling_plan import Plan
from premem_core.shards import SAMPLES, TARGETS, Shelf
from premem_core.store import COUNT_COLUMNS
from premem_core.types import Completion, Example, Grade, PromptTemplate, Sampling

Split = Literal["train", "test"]
Counts = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Query:
    """An example of a split under the number that the store gave it, or a perturbed form of it."""

    number: int
    split: Split
    example: Example
    perturbation: str = ""


@dataclass(frozen=True, slots=True)
class ScoringSpec:
    """What is measured of a run.

    `plan` says which samples are drawn (`sampling_plan`); all but "full" need the threshold
    t = log log PPL. Perturbed training queries are sampled at the last checkpoint, or at every
    one with `perturb_all`.
    """

    run: str
    grader: str
    backend: str = "hf"
    template: PromptTemplate = field(default_factory=PromptTemplate)
    sampling: Sampling = field(default_factory=Sampling)
    chunk_examples: int = 128
    plan: Plan = "full"
    log_log_threshold: float | None = None
    perturbations: tuple[str, ...] = ()
    perturb_all: bool = False


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
class Sheet:
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
class Board:
    """What is known of a whole job, and so what is still to be done."""

    spec: ScoringSpec
    steps: tuple[int, ...]  # (C,) in training order, those that count
    sheets: list[Sheet]

    def needs_targets(self, step: int) -> NDArray[np.bool_]:
        """Which training queries' perplexities are not measured yet at a checkpoint: (N,)."""
        return np.isnan(self.sheets[0].nll[self.steps.index(step)])

    def to_draw(self, sheet: Sheet) -> Counts:
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
        full = Board(replace(self.spec, plan="full"), self.steps, self.sheets)
        return sum(int((sheet.samples + full.to_draw(sheet)).sum()) for sheet in self.sheets)

    def without(self, steps: set[int]) -> "Board":
        """The board as if these checkpoints, which failed, did not exist."""
        kept = [row for row, step in enumerate(self.steps) if step not in steps]
        sheets = [
            Sheet(s.split, s.perturbation, s.queries, s.samples[kept], s.correct[kept], s.nll[kept])
            for s in self.sheets
        ]
        return Board(self.spec, tuple(self.steps[row] for row in kept), sheets)


def _by_step(steps: Sequence[int], counts: Sequence[Counts]) -> dict[int, int]:
    return dict(zip(steps, sum(each.sum(axis=1) for each in counts).tolist(), strict=True))


def board(
    spec: ScoringSpec, steps: Sequence[int], queries: Sequence[Query], counts: pd.DataFrame
) -> Board:
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
        sheet = Sheet(
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
    return Board(spec, tuple(steps), sheets)


def blank_board(
    spec: ScoringSpec, steps: Sequence[int], train: Sequence[Example], test: Sequence[Example]
) -> Board:
    """The board of a job of which nothing is done and no example has its number yet."""
    queries = [Query(n, "train", example) for n, example in enumerate(train)]
    queries += [Query(n, "test", example) for n, example in enumerate(test, len(queries))]
    for name in spec.perturbations:  # at most: it need not apply to all of them
        queries += [Query(n, "train", example, name) for n, example in enumerate(train)]
    return board(spec, steps, queries, pd.DataFrame(columns=list(COUNT_COLUMNS)))


def at_most(
    spec: ScoringSpec, steps: Sequence[int], train: Sequence[Example], test: Sequence[Example]
) -> int:
    """Completions that such a job can need."""
    return sum(blank_board(spec, steps, train, test).at_most().values())


def target_chunks(known: Board, step: int) -> list[Chunk]:
    """The perplexities that are not measured yet at a checkpoint."""
    wanted = known.needs_targets(step)
    return [
        Chunk(known.spec.run, step, "train", "", block, queries)
        for block, queries, _ in _blocks(known.spec, known.sheets[0], wanted)
    ]


def sample_chunks(known: Board, step: int) -> list[Chunk]:
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
    spec: ScoringSpec, sheet: Sheet, wanted: NDArray[np.bool_]
) -> Iterator[tuple[int, tuple[Query, ...], NDArray[np.int64]]]:
    """Blocks of a sheet: number, the queries that are wanted of it, their columns.

    A block's number and borders do not depend on what is wanted, so a resumed job cuts the same.
    """
    for block, start in enumerate(range(0, len(sheet.queries), spec.chunk_examples)):
        at = start + np.flatnonzero(wanted[start : start + spec.chunk_examples])
        if len(at):
            yield block, tuple(sheet.queries[column] for column in at), at


def score_checkpoint(
    known: Board,
    step: int,
    backend: Backend,
    grader: Grader,
    shelf: Shelf,
    on_chunk: Callable[[Chunk, float], None],
) -> None:
    """Do what can be done at a checkpoint now, each chunk into a shard; `known` is filled in.

    Args:
        backend: the checkpoint, loaded.
        on_chunk: called with each finished chunk and the seconds that the backend took for it.

    Raises:
        DataError: a prompt or target cannot be scored.
    """
    row, spec = known.steps.index(step), known.spec
    sheets = {(sheet.split, sheet.perturbation): sheet for sheet in known.sheets}
    for chunk in target_chunks(known, step):
        table, seconds = shelf.read(chunk.shard), 0.0
        if table is None:
            table, seconds = _targets(spec, chunk, backend)
            shelf.write(chunk.shard, table)
        known.sheets[0].add(row, table)
        on_chunk(chunk, seconds)
    # Each pass draws what the passes before it have shown to be needed.
    while chunks := sample_chunks(known, step):
        for chunk, table, seconds in _samples(spec, chunks, backend, grader, shelf):
            sheets[chunk.split, chunk.perturbation].add(row, table)
            on_chunk(chunk, seconds)


def sample_seed(seed: int, step: int, split: str, example_id: str, perturbation: str = "") -> int:
    """A seed of its own for each (checkpoint, query); the same in every store."""
    text = f"{seed}/{step}/{split}/{example_id}" + (f"/{perturbation}" if perturbation else "")
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")


def _targets(spec: ScoringSpec, chunk: Chunk, backend: Backend) -> tuple[pa.Table, float]:
    filled = [spec.template.fill(query.example) for query in chunk.queries]
    started = time.perf_counter()
    scores = backend.target_nll([p for p, _ in filled], [t for _, t in filled])
    seconds = time.perf_counter() - started
    columns = {
        **_keys(chunk, len(scores)),
        "example": [query.number for query in chunk.queries],
        "nll": [score.nll for score in scores],
        "tokens": [score.tokens for score in scores],
    }
    return pa.table(columns, schema=TARGETS), seconds


def _samples(
    spec: ScoringSpec, chunks: Sequence[Chunk], backend: Backend, grader: Grader, shelf: Shelf
) -> Iterator[tuple[Chunk, pa.Table, float]]:
    """Each chunk's table, from the shelf or drawn; the backend sees all that are drawn as one."""
    missing = []
    for chunk in chunks:
        table = shelf.read(chunk.shard)
        if table is None:
            missing.append(chunk)
        else:
            yield chunk, table, 0.0
    drawn = backend.sample(
        (_requests(spec, chunk) for chunk in missing), spec.sampling, spec.template.stop
    )
    for chunk in missing:
        started = time.perf_counter()
        completions = next(drawn)
        seconds = time.perf_counter() - started
        table = _graded(chunk, completions, grader)
        shelf.write(chunk.shard, table)
        yield chunk, table, seconds


def _requests(spec: ScoringSpec, chunk: Chunk) -> list[Request]:
    return [
        Request(
            perturbations.prompt(spec.template, query.example, chunk.perturbation),
            sample_seed(
                spec.sampling.seed, chunk.step, chunk.split, query.example.id, chunk.perturbation
            ),
            numbers,
        )
        for query, numbers in zip(chunk.queries, chunk.numbers, strict=True)
    ]


def _graded(chunk: Chunk, completions: Sequence[Sequence[Completion]], grader: Grader) -> pa.Table:
    rows = [
        (query, number, completion)
        for query, numbers, drawn in zip(chunk.queries, chunk.numbers, completions, strict=True)
        for number, completion in zip(numbers, drawn, strict=True)
    ]
    graded = grader.grade(
        [completion.text for _, _, completion in rows],
        [getattr(query.example, grader.grades_against) for query, _, _ in rows],
    )
    columns = {
        **_keys(chunk, len(rows)),
        "example": [query.number for query, _, _ in rows],
        "sample": [number for _, number, _ in rows],
        "completion": [completion.text for _, _, completion in rows],
        "extracted": [grade.extracted for grade in graded],
        "grade": [int(grade.grade) for grade in graded],
        "tokens": [completion.tokens for _, _, completion in rows],
        "finished": [completion.finished for _, _, completion in rows],
    }
    return pa.table(columns, schema=SAMPLES)


def _keys(chunk: Chunk, n: int) -> dict[str, list[object]]:
    keys = {
        "run": chunk.run,
        "step": chunk.step,
        "split": chunk.split,
        "perturbation": chunk.perturbation,
    }
    return {name: [value] * n for name, value in keys.items()}
