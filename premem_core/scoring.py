"""One checkpoint: perplexities of the training solutions, then samples, graded, into shards.

The work is cut into chunks of a fixed set of examples. A chunk's name says what it holds, and what
it computes depends on nothing but the specification: a resumed job does the same work as an
uninterrupted one and skips the chunks that are already there.
"""

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal
from urllib.parse import quote

import pyarrow as pa

from premem_core import backends
from premem_core.backends import Backend
from premem_core.grading import Grader
from premem_core.shards import SAMPLES, TARGETS, write_shard
from premem_core.types import Checkpoint, Example, PromptTemplate, Sampling

Split = Literal["train", "test"]


@dataclass(frozen=True, slots=True)
class Query:
    """An example of a split under the number that the store gave it."""

    number: int
    split: Split
    example: Example


@dataclass(frozen=True, slots=True)
class ScoringSpec:
    """What is measured, for every checkpoint of a run alike."""

    run: str
    grader: str
    backend: str = "hf"
    template: PromptTemplate = field(default_factory=PromptTemplate)
    sampling: Sampling = field(default_factory=Sampling)
    chunk_examples: int = 128


@dataclass(frozen=True, slots=True)
class Chunk:
    """A unit of work: `targets` (perplexities) or `samples` of these queries."""

    name: str
    step: int
    split: Split
    kind: Literal["targets", "samples"]
    queries: tuple[Query, ...]

    @property
    def shard(self) -> str:
        """The shard's file name, in the inbox and in the store's ledger."""
        return f"{self.name}.parquet"


def chunks(spec: ScoringSpec, step: int, queries: Sequence[Query]) -> list[Chunk]:
    """The work on one checkpoint, in order: train perplexities, train samples, test samples.

    Queries of similar length stand together, so that a batch wastes little on padding.
    """
    result = []
    for split, kind in (("train", "targets"), ("train", "samples"), ("test", "samples")):
        members = [query for query in queries if query.split == split]
        members.sort(key=lambda query: (len(query.example.question), query.number))
        for index, start in enumerate(range(0, len(members), spec.chunk_examples)):
            result.append(
                Chunk(
                    name=f"{step:08d}.{split}..{kind}.{index:05d}.{quote(spec.run, safe='')}",
                    step=step,
                    split=split,  # type: ignore[arg-type]
                    kind=kind,  # type: ignore[arg-type]
                    queries=tuple(members[start : start + spec.chunk_examples]),
                )
            )
    return result


def score_checkpoint(
    spec: ScoringSpec,
    checkpoint: Checkpoint,
    todo: Iterable[Chunk],
    grader: Grader,
    inbox: Path,
    on_chunk: Callable[[Chunk], None],
) -> None:
    """Load a checkpoint, do its chunks, leave each as a shard in `inbox`; call back after each.

    Raises:
        CheckpointError: the checkpoint cannot be loaded.
        DataError: a prompt or target cannot be scored.
    """
    backend = backends.load(spec.backend, checkpoint)
    try:
        for chunk in todo:
            table = (_targets if chunk.kind == "targets" else _samples)(
                spec, chunk, backend, grader
            )
            write_shard(inbox, chunk.name, spec.run, table)
            on_chunk(chunk)
    finally:
        backend.close()


def sample_seed(seed: int, step: int, split: str, example_id: str) -> int:
    """A seed of its own for each (checkpoint, example); the same in every store."""
    digest = hashlib.sha256(f"{seed}/{step}/{split}/{example_id}".encode()).digest()
    return int.from_bytes(digest[:8], "big")


def _targets(spec: ScoringSpec, chunk: Chunk, backend: Backend, grader: Grader) -> pa.Table:
    filled = [spec.template.fill(query.example) for query in chunk.queries]
    scores = backend.target_nll([p for p, _ in filled], [t for _, t in filled])
    columns = {
        **_keys(spec, chunk, len(scores)),
        "example": [query.number for query in chunk.queries],
        "nll": [score.nll for score in scores],
        "tokens": [score.tokens for score in scores],
    }
    return pa.table(columns, schema=TARGETS)


def _samples(spec: ScoringSpec, chunk: Chunk, backend: Backend, grader: Grader) -> pa.Table:
    prompts = [spec.template.fill(query.example)[0] for query in chunk.queries]
    seeds = [
        sample_seed(spec.sampling.seed, chunk.step, chunk.split, query.example.id)
        for query in chunk.queries
    ]
    sampled = backend.sample(prompts, spec.sampling, spec.template.stop, seeds)
    rows = [
        (query, number, completion)
        for query, completions in zip(chunk.queries, sampled, strict=True)
        for number, completion in enumerate(completions)
    ]
    graded = grader.grade(
        [completion.text for _, _, completion in rows],
        [getattr(query.example, grader.grades_against) for query, _, _ in rows],
    )
    columns = {
        **_keys(spec, chunk, len(rows)),
        "example": [query.number for query, _, _ in rows],
        "sample": [number for _, number, _ in rows],
        "completion": [completion.text for _, _, completion in rows],
        "extracted": [grade.extracted for grade in graded],
        "grade": [int(grade.grade) for grade in graded],
        "tokens": [completion.tokens for _, _, completion in rows],
        "finished": [completion.finished for _, _, completion in rows],
    }
    return pa.table(columns, schema=SAMPLES)


def _keys(spec: ScoringSpec, chunk: Chunk, n: int) -> dict[str, list[object]]:
    keys = {"run": spec.run, "step": chunk.step, "split": chunk.split, "perturbation": ""}
    return {name: [value] * n for name, value in keys.items()}
