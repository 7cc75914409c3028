"""Estimate of the time and disk space of a job, from a few problems at one checkpoint."""

import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path

from premem_core.errors import JobError
from premem_core.models.backend import Resources
from premem_core.models.server.served_models import Server
from premem_core.problems import examples
from premem_core.records import BASE_STEP, Checkpoint, Example, Run
from premem_core.scoring import work_left
from premem_core.scoring.executors.local import LocalExecutor
from premem_core.scoring.executors.worker import Assignment, Event
from premem_core.scoring.preparation.prepare import PreparedJob
from premem_core.scoring.preparation.scratch_job import ask_about
from premem_core.scoring.served_run import last_served
from premem_core.scoring.spec import ScoringSpec
from premem_core.store.shards.shards import ShardWriter, column_bytes, find_shards

PROBLEMS = 32
_FAILURES = ("failed", "memory", "disk", "endpoint", "lost")


@dataclass(frozen=True, slots=True)
class Estimate:
    """Upper bounds for a job, which is often faster, because its batches are larger."""

    completions: int
    seconds: float
    bytes_on_disk: float
    bytes_of_tokens: float  # a part of these: the scores of the targets' tokens
    bytes_free: int
    load_seconds: float  # of one checkpoint
    completions_per_second: float  # of one worker

    @property
    def fits(self) -> bool:
        """Whether one and a half times the space that the job needs is free."""
        return self.bytes_free > 1.5 * self.bytes_on_disk

    def in_words(self) -> str:
        """The time and disk space that the job will take, as a sentence."""
        return (
            f"Estimate: at most {timedelta(seconds=round(self.seconds))} "
            f"({self.load_seconds:.0f} s to load a checkpoint, "
            f"{self.completions_per_second:,.1f} completions per second and worker) and "
            f"{self.bytes_on_disk / 2**20:,.0f} MiB of disk{self._tokens_in_words()}; "
            f"{self.bytes_free / 2**30:,.1f} GiB are free"
            f"{'' if self.fits else ', which is too little'}."
        )

    def _tokens_in_words(self) -> str:
        if not self.bytes_of_tokens:
            return ""
        return (
            f", of which {self.bytes_of_tokens / 2**20:,.1f} MiB for the log-probabilities and "
            "ranks of the solutions' tokens (--no-tokens leaves them out)"
        )


def estimate_job(
    spec: ScoringSpec,
    run: Run,
    train: Sequence[Example],
    test: Sequence[Example],
    store: Path,
    devices: Sequence[str | None],
    server: Server | None = None,
) -> Estimate:
    """Score a few problems at the last checkpoint, and extrapolate; no results are kept.

    Args:
        store: the folder that the job will write to.
        devices: as for `LocalExecutor`. One worker is measured; the job will use all of them.
        server: the server that computes, for the backend "server".

    Raises:
        JobError: the checkpoint cannot be scored, for the reason given.
    """
    checkpoint = last_served(run, server)
    few = examples.draw(train, min(PROBLEMS, len(train)), spec.sampling.seed)
    small = replace(spec, plan="full", perturbations=(), chunk_examples=len(few), score_base=False)
    executor = LocalExecutor(devices[:1], spec.backend)
    measured = _measure(small, checkpoint, few, executor, Resources(server=server))
    drawn = len(few) * spec.sampling.samples
    completions = work_left.most_completions(spec, [c.step for c in run.checkpoints], train, test)
    targets = work_left.targets(spec, train, test)
    has_other_base = spec.score_base and run.checkpoints[0].step != BASE_STEP
    models = len(run.checkpoints) + has_other_base
    perplexities = models * targets
    # The tokens' texts are kept at one checkpoint only.
    texts = targets * measured.text_bytes / len(few)
    of_tokens = perplexities * measured.token_bytes / len(few) + texts
    workers = min(len(devices), models)
    seconds = (
        models * measured.load_seconds
        + perplexities * measured.target_seconds / len(few)
        + completions * measured.sample_seconds / drawn
    ) / workers
    return Estimate(
        completions=completions,
        seconds=seconds,
        bytes_on_disk=completions * measured.sample_bytes / drawn
        + perplexities * measured.target_bytes / len(few)
        + of_tokens,
        bytes_of_tokens=of_tokens,
        bytes_free=shutil.disk_usage(_existing_part(store)).free,
        load_seconds=measured.load_seconds,
        completions_per_second=(
            drawn / measured.sample_seconds if measured.sample_seconds else float("inf")
        ),
    )


@dataclass(frozen=True, slots=True)
class _Measured:
    """The time and disk space of the short run."""

    load_seconds: float
    target_seconds: float
    sample_seconds: float
    target_bytes: int  # without those of tokens and their texts
    token_bytes: int
    text_bytes: int
    sample_bytes: int


def _measure(
    spec: ScoringSpec,
    checkpoint: Checkpoint,
    train: Sequence[Example],
    executor: LocalExecutor,
    resources: Resources,
) -> _Measured:
    with tempfile.TemporaryDirectory(prefix="premem-") as scratch:
        inbox = Path(scratch) / "inbox"
        inbox.mkdir()
        work = work_left.all_work(spec, [checkpoint.step], train, ())
        writer = ShardWriter(scratch, spec.run)
        events = _run(Assignment((checkpoint,), work, writer, resources), executor)
        targets = find_shards(inbox, kind="targets")
        of_tokens, of_texts = (
            sum(column_bytes(file, columns) for file in targets) if spec.tokens else 0
            for columns in (("log_probabilities", "ranks"), ("texts",))
        )
        return _Measured(
            sum(event.seconds for event in events if event.kind == "loaded"),
            sum(event.seconds for event in events if event.text == "perplexities"),
            sum(event.seconds for event in events if event.text == "train samples"),
            sum(file.stat().st_size for file in targets) - of_tokens - of_texts,
            of_tokens,
            of_texts,
            sum(file.stat().st_size for file in find_shards(inbox, kind="samples")),
        )


def estimate_apart(store: Path, job: PreparedJob) -> Estimate:
    """`estimate_job` for all of this machine's GPUs, in a separate process.

    Raises:
        JobError: the checkpoint cannot be scored, for the reason given.
    """
    found = Estimate(**ask_about(job, "estimate"))
    return replace(found, bytes_free=shutil.disk_usage(store).free)


def _run(assignment: Assignment, executor: LocalExecutor) -> list[Event]:
    events: list[Event] = []
    try:
        executor.submit(assignment)
        while not executor.free:
            events += executor.wait(1.0)
    finally:
        executor.close()
    if wrong := [e for e in events if e.kind in _FAILURES]:
        raise JobError(f"checkpoint {wrong[0].step} cannot be scored: {wrong[0].text}")
    return events


def _existing_part(path: Path) -> Path:
    return next(part for part in (path.resolve(), *path.resolve().parents) if part.exists())
