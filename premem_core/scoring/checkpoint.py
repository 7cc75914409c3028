"""Scoring of one checkpoint: perplexities of training solutions, then graded samples.

Results are written to shards. A shard that exists already is read, not computed again.
"""

import hashlib
import time
from collections.abc import Callable, Iterator, Sequence

import pyarrow as pa

from premem_core.grading.grader import Grader
from premem_core.models.backend import Backend, Request
from premem_core.problems import perturbations
from premem_core.records import Completion
from premem_core.scoring.spec import ScoringSpec
from premem_core.scoring.work_left import Chunk, WorkLeft, sample_chunks, target_chunks
from premem_core.store.shards import SAMPLES, TARGETS, ShardWriter


def score_checkpoint(
    work: WorkLeft,
    step: int,
    backend: Backend,
    grader: Grader,
    writer: ShardWriter,
    on_chunk: Callable[[Chunk, float], None],
) -> None:
    """Do the work that can be done at a checkpoint now; write a shard for each chunk.

    Args:
        work: the results so far, to which the new ones are added.
        backend: the loaded checkpoint.
        on_chunk: called with each finished chunk and the seconds that the backend took for it.

    Raises:
        DataError: a prompt or target cannot be scored.
    """
    row, spec = work.steps.index(step), work.spec
    grids = {(grid.split, grid.perturbation): grid for grid in work.grids}
    for chunk in target_chunks(work, step):
        table, seconds = writer.read(chunk.shard), 0.0
        if table is None:
            table, seconds = _targets(spec, chunk, backend)
            writer.write(chunk.shard, table)
        work.grids[0].add(row, table)
        on_chunk(chunk, seconds)
    # Each pass draws what the passes before it have shown to be needed.
    while chunks := sample_chunks(work, step):
        for chunk, table, seconds in _samples(spec, chunks, backend, grader, writer):
            grids[chunk.split, chunk.perturbation].add(row, table)
            on_chunk(chunk, seconds)


def sample_seed(seed: int, step: int, split: str, example_id: str, perturbation: str = "") -> int:
    """The seed for the samples of a query at a checkpoint; it is the same in every store."""
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
    spec: ScoringSpec,
    chunks: Sequence[Chunk],
    backend: Backend,
    grader: Grader,
    writer: ShardWriter,
) -> Iterator[tuple[Chunk, pa.Table, float]]:
    """Yield each chunk's table, read or drawn; the backend gets all missing chunks at once."""
    missing = []
    for chunk in chunks:
        table = writer.read(chunk.shard)
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
        writer.write(chunk.shard, table)
        yield chunk, table, seconds


def _requests(spec: ScoringSpec, chunk: Chunk) -> list[Request]:
    return [
        Request(
            perturbations.perturbed_prompt(spec.template, query.example, chunk.perturbation),
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
        [grader.reference(query.example) for query, _, _ in rows],
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
