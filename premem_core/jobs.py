"""A scoring job: a process of its own whose whole state is a folder, `store/jobs/<run>/`.

    job.json          what is measured; a resumed job must ask for the same
    queries.parquet   the examples, as numbered by the store
    state.json        progress, written after each chunk
    lock              held while the job runs: whoever holds it is alive
    log.txt           what the process printed, when the dashboard started it

Killed at any moment, a job loses the chunk in flight and nothing else.
"""

import contextlib
import fcntl
import json
import os
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, replace
from hashlib import sha256
from pathlib import Path
from types import FrameType
from typing import Any
from urllib.parse import quote

import pyarrow as pa
import pyarrow.parquet as pq

from premem_core import checkpoints, scoring
from premem_core.backends import BACKENDS
from premem_core.errors import CheckpointError, JobError, PrememError, UsageError
from premem_core.grading import make_grader
from premem_core.locks import flock, is_held
from premem_core.progress import Progress, Tracker, write_json
from premem_core.scoring import Chunk, Query, ScoringSpec
from premem_core.store import Store
from premem_core.types import Example, PromptTemplate, Run, RunRecord, Sampling

SECONDS_TO_START = 120  # a process that loads torch from a slow disk takes its time


class Cancelled(BaseException):
    """The process was asked to stop (SIGTERM)."""


def check_spec(spec: ScoringSpec) -> None:
    """Refuse a specification that cannot work, before anything is read or made.

    Raises:
        UsageError: the grader or the backend is unknown.
        JobError: the run's name is empty or too long, or the template has no place for the
            question or the solution.
    """
    if spec.backend not in BACKENDS:
        raise UsageError(
            f"backend '{spec.backend}' is unknown; choose one of: {', '.join(BACKENDS)}"
        )
    make_grader(spec.grader).close()
    if not spec.run.strip(" .") or len(quote(spec.run, safe="")) > 150:
        raise JobError(f"the run's name {spec.run!r} must have 1 to 150 plain characters")
    if not all(spec.template.stop):
        raise JobError("the text that ends a completion is empty; give the template's own end")
    if "{question}" not in spec.template.prompt or "{solution}" not in spec.template.target:
        raise JobError(
            "the prompt template must contain {question} and the target template {solution}"
        )


def create(
    store: Store,
    spec: ScoringSpec,
    run: Run,
    task: str,
    train: Sequence[Example],
    test: Sequence[Example],
    *,
    trained_on: int | None = None,
    resume: bool = False,
) -> Path:
    """Register a job, or find the one to resume; its folder.

    Args:
        train: the training problems to score.
        trained_on: how many the run was trained on, where `train` is a sample of them.

    Raises:
        JobError: the name is taken, or `resume` asks for something else than the job's own
            specification (the message says in what it differs).
        StoreError: an example is known with another text.
    """
    check_spec(spec)
    folder = _folder(store, spec.run)
    wanted = _describe(store, spec, run, task, train, test)
    if (folder / "job.json").exists():
        if not resume:
            raise JobError(
                f"the run '{spec.run}' is already in {store.path}; resume it (--resume) or give "
                "this one another name (--run)"
            )
        _check_same(spec.run, json.loads((folder / "job.json").read_text()), wanted)
        return folder
    # Registered without a job: imported, or a start that was killed before its end, which goes on.
    known = store.runs().set_index("run")["source"]
    if spec.run in known and (known[spec.run] != "scored" or store.committed_shards(spec.run)):
        raise JobError(
            f"the run '{spec.run}' is already in {store.path}, and not from a job that could be "
            "resumed; give this one another name (--run)"
        )
    record = RunRecord(
        run=spec.run,
        task=task,
        source="scored",
        learning_rate=run.learning_rate,
        epochs=run.epochs,
        batch_size=run.batch_size,
        train_examples=trained_on or len(train),
    )
    numbers = store.add_run(record, run.checkpoints, train, test)
    splits = ["train"] * len(train) + ["test"] * len(test)
    folder.mkdir(parents=True, exist_ok=True)
    _write_queries(folder / "queries.parquet", numbers, splits, [*train, *test])
    total = len(run.checkpoints) * len(splits) * spec.sampling.samples
    write_json(folder / "state.json", asdict(Progress(spec.run, completions_total=total)))
    write_json(folder / "job.json", wanted)  # last: its presence says that the job is whole
    return folder


def start(store: Store, run: str) -> None:
    """Run a job in a process of its own, which outlives this one.

    Raises:
        JobError: there is no such job, or it is running.
    """
    folder = _existing(store, run)
    if is_held(folder / "lock"):
        raise JobError(f"the job '{run}' is running already")
    queued = replace(progress(store, run), state="queued", message="", updated=time.time())
    write_json(folder / "state.json", asdict(queued))
    command = [sys.executable, "-m", "premem_core", "jobs", "run", run, "--store", str(store.path)]
    with (folder / "log.txt").open("a") as log:
        process = subprocess.Popen(
            command,
            stdout=log,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
    # Someone must take note of its end, or it stays in the process table.
    threading.Thread(target=process.wait, daemon=True).start()


def cancel(store: Store, run: str) -> None:
    """Ask a running job to stop; what it finished stays, and it can be resumed.

    Raises:
        JobError: there is no such job, or it is not running.
    """
    folder = _existing(store, run)
    if not is_held(folder / "lock"):
        raise JobError(f"the job '{run}' is not running")
    with contextlib.suppress(ProcessLookupError):
        if (pid := progress(store, run).pid) > 0:  # 0 would be this process's own group
            os.kill(pid, signal.SIGTERM)


def progress(store: Store, run: str) -> Progress:
    """Where a job stands, true even after its process was killed."""
    folder = _existing(store, run)
    state = _read_state(folder)
    starting = state.state == "queued" and time.time() - state.updated < SECONDS_TO_START
    if state.state in ("running", "queued") and not starting and not is_held(folder / "lock"):
        return replace(state, state="interrupted", message="its process ended; resume it")
    return state


def _read_state(folder: Path) -> Progress:
    return Progress(**json.loads((folder / "state.json").read_text()))


def all_progress(store: Store) -> list[Progress]:
    """Every job of the store, the most recently active first."""
    folders = [file.parent for file in (store.path / "jobs").glob("*/job.json")]
    names = [json.loads((folder / "job.json").read_text())["run"] for folder in folders]
    return sorted((progress(store, name) for name in names), key=lambda p: -p.updated)


def log_tail(store: Store, run: str, lines: int = 30) -> str:
    """The end of what the job's process printed."""
    file = _existing(store, run) / "log.txt"
    return (
        "\n".join(file.read_text(errors="replace").splitlines()[-lines:]) if file.exists() else ""
    )


def execute(
    store: Store, run: str, on_progress: Callable[[Progress], None] = lambda _: None
) -> Progress:
    """Do what is left of a job, in this process; its last state.

    A checkpoint that cannot be scored is marked failed with its reason and the rest goes on.

    Raises:
        JobError: there is no such job, or another process is running it.
    """
    folder = _existing(store, run)
    try:
        with flock(folder / "lock", fcntl.LOCK_EX | fcntl.LOCK_NB), _sigterm_cancels():
            # First of all who to signal: the file may still name a process that is gone.
            ours = replace(_read_state(folder), state="running", pid=os.getpid(), message="")
            write_json(folder / "state.json", asdict(ours))
            return _execute(store, folder, on_progress)
    except BlockingIOError as error:
        raise JobError(f"the job '{run}' is running already in another process") from error
    except PrememError as error:
        write_json(folder / "state.json", asdict(_failed(progress(store, run), str(error))))
        raise


def _failed(state: Progress, message: str) -> Progress:
    return replace(state, state="failed", message=message, phase="", updated=time.time())


def _execute(store: Store, folder: Path, on_progress: Callable[[Progress], None]) -> Progress:
    spec, run = _read_job(store, folder)
    queries = _read_queries(folder / "queries.parquet")
    work = {c.step: scoring.chunks(spec, c.step, queries) for c in run.checkpoints}
    store.commit_inbox()
    finished = store.committed_shards(spec.run)
    tracker = Tracker(folder, spec, work, finished, on_progress)

    def on_chunk(chunk: Chunk) -> None:
        store.commit_inbox()
        tracker.finished(chunk)

    failures = []
    try:
        with make_grader(spec.grader) as grader:
            for checkpoint in run.checkpoints:
                todo = [c for c in work[checkpoint.step] if c.shard not in finished]
                tracker.checkpoint(checkpoint.step)
                if todo:
                    try:
                        checkpoints.check_checkpoint(checkpoint)
                        scoring.score_checkpoint(
                            spec, checkpoint, todo, grader, store.path / "inbox", on_chunk
                        )
                    except OSError:
                        raise  # the disk, not this checkpoint
                    except Exception as error:
                        reason = _reason(error)
                        failures.append(f"checkpoint {checkpoint.step}: {reason}")
                        store.set_checkpoint_state(spec.run, checkpoint.step, "failed", reason)
                        continue
                store.set_checkpoint_state(spec.run, checkpoint.step, "scored")
    except (Cancelled, KeyboardInterrupt):
        return tracker.end("cancelled", "stopped on request; resume continues where it stopped")
    except BaseException as error:
        tracker.end("failed", f"{type(error).__name__}: {error}")
        raise
    return tracker.end("failed" if failures else "done", "; ".join(failures))


def _reason(error: Exception) -> str:
    """Our own errors speak for themselves; of others the log keeps the whole story."""
    if isinstance(error, PrememError):
        return str(error)
    traceback.print_exception(error)
    return f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"


@contextlib.contextmanager
def _sigterm_cancels() -> Iterator[None]:
    def stop(number: int, frame: FrameType | None) -> None:
        raise Cancelled

    previous = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)


def _folder(store: Store, run: str) -> Path:
    return store.path / "jobs" / quote(run, safe="")


def _existing(store: Store, run: str) -> Path:
    folder = _folder(store, run)
    if not (folder / "job.json").exists():
        raise JobError(f"the store {store.path} has no scoring job named '{run}'")
    return folder


def _describe(
    store: Store,
    spec: ScoringSpec,
    run: Run,
    task: str,
    train: Sequence[Example],
    test: Sequence[Example],
) -> dict[str, Any]:
    return {
        **asdict(spec),
        "task": task,
        "run_path": store.relative(run.path),
        "checkpoints": [checkpoint.step for checkpoint in run.checkpoints],
        "train_data": _digest(train),
        "test_data": _digest(test),
    }


def _digest(examples: Sequence[Example]) -> str:
    content = json.dumps([[e.id, e.question, e.solution, e.answer] for e in examples])
    return f"{len(examples)} examples, sha256 {sha256(content.encode()).hexdigest()[:16]}"


def _check_same(run: str, was: dict[str, Any], wanted: dict[str, Any]) -> None:
    wanted = json.loads(json.dumps(wanted))
    flat_was, flat_wanted = _flat(was), _flat(wanted)
    differing = [key for key in flat_wanted if flat_was.get(key) != flat_wanted[key]]
    if differing:
        changes = "; ".join(f"{k} was {flat_was.get(k)}, is {flat_wanted[k]}" for k in differing)
        raise JobError(
            f"the run '{run}' cannot be resumed with another specification ({changes}); "
            "repeat the first one or choose another name with --run"
        )


def _flat(nested: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in nested.items():
        flat |= (
            _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
        )
    return flat


def _read_job(store: Store, folder: Path) -> tuple[ScoringSpec, Run]:
    job = json.loads((folder / "job.json").read_text())
    template = PromptTemplate(**{**job["template"], "stop": tuple(job["template"]["stop"])})
    spec = ScoringSpec(
        run=job["run"],
        grader=job["grader"],
        backend=job["backend"],
        template=template,
        sampling=Sampling(**job["sampling"]),
        chunk_examples=job["chunk_examples"],
    )
    run = checkpoints.read_run(store.path / job["run_path"], check=False)
    wanted = [c for c in run.checkpoints if c.step in job["checkpoints"]]
    missing = set(job["checkpoints"]) - {c.step for c in wanted}
    if missing:
        raise CheckpointError(
            f"{run.path} no longer holds checkpoint {min(missing)}; put it back to resume"
        )
    return spec, replace(run, checkpoints=tuple(wanted))


def _write_queries(
    file: Path, numbers: Sequence[int], splits: Sequence[str], examples: Sequence[Example]
) -> None:
    columns = {
        "number": list(numbers),
        "split": list(splits),
        "id": [e.id for e in examples],
        "question": [e.question for e in examples],
        "solution": [e.solution for e in examples],
        "answer": [e.answer for e in examples],
    }
    pq.write_table(pa.table(columns), file)


def _read_queries(file: Path) -> list[Query]:
    return [
        Query(
            row["number"],
            row["split"],
            Example(row["id"], row["question"], row["solution"], row["answer"]),
        )
        for row in pq.read_table(file).to_pylist()
    ]
