"""Scoring of one checkpoint: perplexities of solutions, then graded samples.

The base model also continues questions whose beginning it is given (`continuations.py`).

Results are written to shards. A shard that exists already is read, not computed again.
"""

import hashlib
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from typing import Any

import pyarrow as pa

from premem_core.errors import DataError
from premem_core.grading.grader import Grader
from premem_core.models.backend import Backend, Request, Target, TokenScores
from premem_core.models.encoding.encoder import Encoder, make_encoder
from premem_core.problems.perturbations import PREFIXES
from premem_core.problems.thinking import split_thinking
from premem_core.records import Completion, TargetScore
from premem_core.scoring.chunks import Chunk, continuation_chunks, sample_chunks, target_chunks
from premem_core.scoring.continuations import write_continuations
from premem_core.scoring.spec import Query, ScoringSpec
from premem_core.scoring.work_left import WorkLeft
from premem_core.store.shards.shards import SAMPLES, TARGETS, ShardWriter
from premem_core.store.token_scores import rounded


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
    work = work.at(step)
    row, spec = work.steps.index(step), work.spec
    encoder = make_encoder(
        spec.template, backend.tokenizer, backend.end_tokens, spec.marks, spec.longest
    )
    grids = {(grid.split, grid.perturbation): grid for grid in work.grids}
    for chunk in target_chunks(work, step):
        table, seconds = writer.read(chunk.shard), 0.0
        if table is None:
            table, seconds = _targets(chunk, encoder, backend, spec.tokens, is_first=row == 0)
            writer.write(chunk.shard, table)
        grids[chunk.split, chunk.perturbation].add(row, table)
        on_chunk(chunk, seconds)
    for chunk in continuation_chunks(work, step):
        table, seconds = writer.read(chunk.shard), 0.0
        if table is None:
            table, seconds = write_continuations(chunk, backend)
            writer.write(chunk.shard, table)
        on_chunk(chunk, seconds)
    # Each pass draws what the passes before it have shown to be needed.
    while chunks := sample_chunks(work, step):
        for chunk, table, seconds in _samples(spec, chunks, encoder, backend, grader, writer):
            grids[chunk.split, chunk.perturbation].add(row, table)
            on_chunk(chunk, seconds)


def sample_seed(seed: int, step: int, split: str, example_id: str, perturbation: str = "") -> int:
    """The seed for the samples of a query at a checkpoint; it is the same in every store."""
    text = f"{seed}/{step}/{split}/{example_id}" + (f"/{perturbation}" if perturbation else "")
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")


def target_score(target: Target, scores: TokenScores) -> TargetScore:
    """The NLL of a target, and of its thinking trace apart, from the scores of its tokens."""
    log_probabilities = scores.log_probabilities
    trace = log_probabilities[: target.trace]
    return TargetScore(
        -float(log_probabilities.mean()),
        len(log_probabilities),
        -float(trace.mean()) if target.trace else None,
        target.trace,
        int((scores.ranks == 0).sum()),
    )


def _targets(
    chunk: Chunk, encoder: Encoder, backend: Backend, tokens: bool, is_first: bool
) -> tuple[pa.Table, float]:
    """The table of a chunk of targets, and the seconds that the backend took.

    Args:
        tokens: keep the scores of each token, but not of unseen solutions, which serve for the
            threshold only.
        is_first: the checkpoint is the first one, where the tokens' texts are kept too.
    """
    targets = [_target(query, chunk, encoder, backend.positions) for query in chunk.queries]
    tokens = tokens and chunk.split != "unseen"
    started = time.perf_counter()
    found = iter(backend.target_scores([target for target in targets if target]))
    seconds = time.perf_counter() - started
    rows = []
    for query, target in zip(chunk.queries, targets, strict=True):
        row: dict[str, object] = {"example": query.number, "tokens": 0, "top_tokens": 0}
        if target:
            scores = next(found)
            row |= asdict(target_score(target, scores))
            row |= _kept(target, scores, backend.tokenizer if is_first else None) if tokens else {}
        rows.append(_keys(chunk) | row)
    return pa.Table.from_pylist(rows, schema=TARGETS), seconds


def _target(query: Query, chunk: Chunk, encoder: Encoder, positions: int | None) -> Target | None:
    """A query's target; None for a test or unseen solution that cannot be scored."""
    try:
        target = encoder.target(query.example)
    except DataError:
        if chunk.split == "train":
            raise
        return None
    # An engine may need one position more than the target has tokens.
    is_too_long = positions is not None and len(target.ids) >= positions
    return None if chunk.split != "train" and is_too_long else target


def _kept(target: Target, scores: TokenScores, tokenizer: Any) -> dict[str, object]:
    """The columns of a target's tokens, with their texts where a tokenizer is given."""
    columns: dict[str, object] = {
        "log_probabilities": rounded(scores.log_probabilities),
        "ranks": scores.ranks,
    }
    if tokenizer:
        columns["texts"] = tokenizer.batch_decode([[target.ids[i]] for i in target.scored])
    return columns


def _samples(
    spec: ScoringSpec,
    chunks: Sequence[Chunk],
    encoder: Encoder,
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
    opened: dict[str, list[bool]] = {}  # of each chunk, by its shard

    def requests() -> Iterator[list[Request]]:
        for chunk in missing:
            asked = _requests(spec, chunk, encoder)
            opened[chunk.shard] = [request.opened for request in asked for _ in request.numbers]
            yield asked

    drawn = backend.sample(requests(), spec.sampling, encoder.ending)
    for chunk in missing:
        started = time.perf_counter()
        completions = next(drawn)
        seconds = time.perf_counter() - started
        begun = opened.pop(chunk.shard)
        lengths = _trace_lengths(spec, backend, completions, begun)
        table = _graded(chunk, completions, grader, lengths, begun)
        writer.write(chunk.shard, table)
        yield chunk, table, seconds


def _requests(spec: ScoringSpec, chunk: Chunk, encoder: Encoder) -> list[Request]:
    beginning = PREFIXES.get(chunk.perturbation, "")
    return [
        Request(
            encoder.prompt(query.example, beginning),
            sample_seed(
                spec.sampling.seed, chunk.step, chunk.split, query.example.id, chunk.perturbation
            ),
            numbers,
            encoder.leaves_open(query.example, beginning),
        )
        for query, numbers in zip(chunk.queries, chunk.numbers, strict=True)
    ]


def _trace_lengths(
    spec: ScoringSpec,
    backend: Backend,
    completions: Sequence[Sequence[Completion]],
    opened: Sequence[bool],
) -> list[int | None]:
    """The tokens of each completion's thinking trace; None if the run has no traces.

    Args:
        opened: whether the prompt of each completion ends inside its trace.
    """
    texts = [completion.text for drawn in completions for completion in drawn]
    if spec.marks is None or not texts:
        return [None] * len(texts)
    traces = [
        split_thinking(text, spec.marks, opened=begun).trace
        for text, begun in zip(texts, opened, strict=True)
    ]
    return list(map(len, backend.tokenizer(traces, add_special_tokens=False)["input_ids"]))


def _graded(
    chunk: Chunk,
    completions: Sequence[Sequence[Completion]],
    grader: Grader,
    trace_lengths: Sequence[int | None],
    opened: Sequence[bool],
) -> pa.Table:
    rows = [
        (query, number, completion)
        for query, numbers, drawn in zip(chunk.queries, chunk.numbers, completions, strict=True)
        for number, completion in zip(numbers, drawn, strict=True)
    ]
    graded = grader.grade(
        [completion.text for _, _, completion in rows],
        [grader.reference(query.example) for query, _, _ in rows],
        opened=opened,
    )
    columns = {
        **{name: [value] * len(rows) for name, value in _keys(chunk).items()},
        "example": [query.number for query, _, _ in rows],
        "sample": [number for _, number, _ in rows],
        "completion": [completion.text for _, _, completion in rows],
        "extracted": [grade.extracted for grade in graded],
        "grade": [int(grade.grade) for grade in graded],
        "tokens": [completion.tokens for _, _, completion in rows],
        "finished": [completion.finished for _, _, completion in rows],
        "trace_tokens": trace_lengths,
    }
    return pa.table(columns, schema=SAMPLES)


def _keys(chunk: Chunk) -> dict[str, object]:
    return {
        "run": chunk.run,
        "step": chunk.step,
        "split": chunk.split,
        "perturbation": chunk.perturbation,
    }
