"""A scoring job: a process of its own whose whole state is a folder, `store/jobs/<run>/`.

    job.json          what is measured; a resumed job must ask for the same
    execution.json    where: executor, workers, GPUs
    queries.parquet   the examples, as numbered by the store
    state.json        progress
    lock              held while the job runs: whoever holds it is alive
    log.txt           what the process printed, when the dashboard started it

The job's process commits what workers leave in the inbox, looks at what is still to be done, and
hands it out. Killed at any moment, it loses the chunks in flight and nothing else.
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
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import FrameType, MappingProxyType
from typing import Any, Literal
from urllib.parse import unquote

from premem_core import checkpoints, job_record, perturbations, processes
from premem_core.backends import Resources
from premem_core.dispatcher import Dispatcher
from premem_core.errors import CheckpointError, JobError, PrememError, StoreError
from premem_core.locks import flock, is_held
from premem_core.processes import Executor, Processes
from premem_core.progress import Progress, Tracker, read_progress, write_json, write_progress
from premem_core.scoring import Query, ScoringSpec
from premem_core.shards import Shelf
from premem_core.store import Store
from premem_core.types import Checkpoint, Example, PromptTemplate, Run, RunRecord
from premem_core.weight_pass import weight_pass
from premem_core.worker import DISK_FULL

ExecutorName = Literal["local", "ray"]
SECONDS_TO_START = 120  # a process that loads torch from a slow disk takes its time


@dataclass(frozen=True, slots=True)
class Execution:
    """Where a job runs; it may differ from one resumption to the next.

    Args:
        executor: this machine, or Ray.
        workers: how many at most; default: one per GPU (or set of GPUs), without GPUs one.
        tensor_parallel: GPUs per worker.
        address: of the Ray cluster; None: the one this machine belongs to, or a new one here.
        shards: an fsspec prefix for Ray workers that do not see the store's folder.
        weights: measure the checkpoints' weights too, once they are scored (`weight_pass`).
        base: folder of the model that the run began with, for that.
    """

    executor: ExecutorName = "local"
    workers: int | None = None
    tensor_parallel: int = 1
    address: str | None = None
    shards: str | None = None
    weights: bool = False
    base: str | None = None


class Cancelled(BaseException):
    """The process was asked to stop (SIGTERM)."""


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
    extend: bool = False,
    execution: Execution = Execution(),
    own: Mapping[str, Sequence[Example]] = MappingProxyType({}),
) -> Path:
    """Register a job, or find the one to resume or to extend; its folder.

    Args:
        train: the training problems to score.
        trained_on: how many the run was trained on, where `train` is a sample of them.
        resume: the job is there already, with this specification.
        extend: the job is there already, and asks for no more than this: more samples, more
            checkpoints, problems or perturbations, another plan. What is scored stays.
        own: the training problems under perturbations of the user's own, by their name; a problem
            that one does not apply to is not in it.

    Raises:
        JobError: the name is taken, or `resume` asks for something else than the job's own
            specification, or `extend` for something that is not more (the message says in what).
        StoreError: an example is known with another text.
        CheckpointError: the base model, where its weights are wanted, is none.
    """
    folder = store.job_folder(spec.run)
    job_record.check_spec(spec, {*own, *_own_perturbations(folder)})
    _check_base(execution, run)
    wanted = job_record.describe(store, spec, run, task, train, test)
    registered = (folder / "job.json").exists()
    if registered:
        was = json.loads((folder / "job.json").read_text())
        if extend:
            _check_idle(store, spec.run)
            job_record.check_more(spec.run, was, wanted, folder, [*train, *test])
        elif resume:
            job_record.check_same(spec.run, was, wanted)
            write_json(folder / "execution.json", asdict(execution))
            return folder
        else:
            raise JobError(
                f"the run '{spec.run}' is already in {store.path}; resume it (--resume), ask more "
                "of it (--extend), or give this one another name (--run)"
            )
    else:
        # Registered without a job: imported, or a start that was killed, which goes on here.
        known = store.runs().set_index("run")["source"]
        if spec.run in known and (known[spec.run] != "scored" or store.committed_shards(spec.run)):
            raise JobError(
                f"the run '{spec.run}' is already in {store.path}, and not from a job that could "
                "be resumed; give this one another name (--run)"
            )
    record = RunRecord(
        run=spec.run,
        task=task,
        source="scored",
        learning_rate=run.learning_rate,
        epochs=run.epochs,
        batch_size=run.batch_size,
        train_examples=trained_on or len(train),
        grader=spec.grader,
    )
    numbers = store.add_run(record, run.checkpoints, train, test)
    queries = [
        *(Query(n, "train", e) for n, e in zip(numbers, train, strict=False)),
        *(Query(n, "test", e) for n, e in zip(numbers[len(train) :], test, strict=True)),
    ]
    folder.mkdir(parents=True, exist_ok=True)
    queries += _perturbed(store, task, spec, queries, own)
    job_record.write_queries(folder / "queries.parquet", queries)
    write_json(folder / "execution.json", asdict(execution))
    if not registered:
        write_progress(folder / "state.json", Progress(spec.run))
    write_json(folder / "job.json", wanted)  # last: its presence says that the job is whole
    return folder


def change(store: Store, run: str, **changes: Any) -> None:
    """Ask more of a job, without its data files: `samples`, `plan`, `log_log_threshold`,
    `perturbations` or `perturb_all`. The next start does only what is missing.

    Raises:
        JobError: there is no such job, it is running, or what is asked for is not more.
        UsageError: a plan or a perturbation is unknown.
    """
    folder = _existing(store, run)
    _check_idle(store, run)
    was = json.loads((folder / "job.json").read_text())
    spec = job_record.read_spec(was)
    if "samples" in changes:
        changes["sampling"] = replace(spec.sampling, samples=changes.pop("samples"))
    spec = replace(spec, **changes)
    job_record.check_spec(spec, _own_perturbations(folder))
    wanted = {**was, **json.loads(json.dumps(asdict(spec)))}
    job_record.check_more(run, was, wanted, folder, [])
    queries = job_record.read_queries(folder / "queries.parquet")
    originals = [query for query in queries if not query.perturbation]
    queries = originals + _perturbed(store, was["task"], spec, originals, {})
    job_record.write_queries(folder / "queries.parquet", queries)
    write_json(folder / "job.json", wanted)


def _own_perturbations(folder: Path) -> set[str]:
    """The names of the user's own perturbations that a job, if there is one, knows already."""
    if not (folder / "job.json").exists():
        return set()
    asked = json.loads((folder / "job.json").read_text()).get("perturbations", [])
    return set(asked) - perturbations.KINDS.keys()


def _perturbed(
    store: Store,
    task: str,
    spec: ScoringSpec,
    queries: Sequence[Query],
    own: Mapping[str, Sequence[Example]],
) -> list[Query]:
    """The training queries under each perturbation of the query that applies to them.

    A text that the store has stays as it is: it may be sampled already.
    """
    originals = {q.example.id: q for q in queries if q.split == "train"}
    result = []
    for name in spec.perturbations:
        if name in perturbations.PREFIXES:
            continue
        made: Sequence[Example | None] = own.get(name, [])
        if name in perturbations.CHANGES:
            trains = [query.example for query in originals.values()]
            made = perturbations.perturbed(name, trains, spec.sampling.seed)
        new = {e.id: e for e in made if e is not None and e.id in originals}
        if name in own:
            _check_same_texts(store, task, name, {originals[i].number: e for i, e in new.items()})
        store.add_perturbed(name, [originals[i].number for i in new], list(new.values()))
        asked = {query.number: query for query in originals.values()}
        for row in store.perturbed(task, name).to_dict("records"):
            if query := asked.get(row["example"]):
                texts = {key: row[key] for key in ("question", "solution", "answer")}
                result.append(
                    replace(query, example=replace(query.example, **texts), perturbation=name)
                )
    return result


def _check_same_texts(store: Store, task: str, name: str, given: Mapping[int, Example]) -> None:
    for row in store.perturbed(task, name).to_dict("records"):
        example = given.get(row["example"])
        if example and (example.question, example.answer) != (row["question"], row["answer"]):
            raise JobError(
                f"the perturbation '{name}' of the problem '{example.id}' is in {store.path} with "
                "another text or answer; give this one another name"
            )


def start(store: Store, run: str) -> None:
    """Run a job in a process of its own, which outlives this one; it waits for its turn.

    Raises:
        JobError: there is no such job, or it is running.
    """
    folder = _existing(store, run)
    _check_idle(store, run)
    now = time.time()
    state = replace(progress(store, run), state="queued", message="", updated=now, queued=now)
    write_progress(folder / "state.json", state)
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
    """Ask a job to stop, running or waiting; what it finished stays, and it can be resumed.

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
    state = read_progress(folder / "state.json")
    starting = state.state == "queued" and time.time() - state.updated < SECONDS_TO_START
    if state.state in ("running", "queued") and not starting and not is_held(folder / "lock"):
        return replace(state, state="interrupted", message="its process ended; resume it")
    return state


def all_progress(store: Store) -> list[Progress]:
    """Every job of the store, the most recently active first."""
    names = [unquote(file.parent.name) for file in (store.path / "jobs").glob("*/job.json")]
    return sorted((progress(store, name) for name in names), key=lambda p: -p.updated)


def spec_of(store: Store, run: str) -> ScoringSpec:
    """What a job measures.

    Raises:
        JobError: there is no such job.
    """
    return job_record.read_spec(json.loads((_existing(store, run) / "job.json").read_text()))


def read_job(store: Store, run: str) -> tuple[ScoringSpec, Run, list[Query]]:
    """What a job measures, of which checkpoints, with which problems.

    Raises:
        JobError: there is no such job.
        CheckpointError: a checkpoint is no longer there.
    """
    folder = _existing(store, run)
    job = json.loads((folder / "job.json").read_text())
    found = checkpoints.read_run(store.path / job["run_path"], check=False)
    wanted = [c for c in found.checkpoints if c.step in job["checkpoints"]]
    missing = set(job["checkpoints"]) - {c.step for c in wanted}
    if missing:
        raise CheckpointError(
            f"{found.path} no longer holds checkpoint {min(missing)}; put it back to resume"
        )
    queries = job_record.read_queries(folder / "queries.parquet")
    return job_record.read_spec(job), replace(found, checkpoints=tuple(wanted)), queries


def training_of(store: Store, run: str) -> tuple[list[Example], PromptTemplate]:
    """The training problems that a job scores, and how it fills them in.

    Raises:
        JobError: there is no such job.
    """
    queries = job_record.read_queries(_existing(store, run) / "queries.parquet")
    return _training(queries), spec_of(store, run).template


def _training(queries: Sequence[Query]) -> list[Example]:
    return [query.example for query in queries if query.split == "train" and not query.perturbation]


def log_tail(store: Store, run: str, lines: int = 30) -> str:
    """The end of what the job's process printed."""
    file = _existing(store, run) / "log.txt"
    return (
        "\n".join(file.read_text(errors="replace").splitlines()[-lines:]) if file.exists() else ""
    )


def execute(
    store: Store,
    run: str,
    on_progress: Callable[[Progress], None] = lambda _: None,
    *,
    queue: bool = True,
) -> Progress:
    """Do what is left of a job, in this process and its workers; its last state.

    A checkpoint that cannot be scored is marked failed with its reason and the rest goes on.

    Args:
        queue: wait until the store's other jobs on this machine are done.

    Raises:
        JobError: there is no such job, or another process is running it.
        StoreError: the disk is full; what was finished is kept.
    """
    folder = _existing(store, run)
    state = folder / "state.json"
    try:
        with (
            flock(folder / "lock", fcntl.LOCK_EX | fcntl.LOCK_NB),
            _sigterm_cancels(),
            _full_disk_said(store),
        ):
            # First of all who to signal: the file may still name a process that is gone.
            was = read_progress(state)
            queued = was.queued if was.state == "queued" else time.time()
            ours = replace(was, state="queued", pid=os.getpid(), message="", queued=queued)
            try:  # from here on it is known whom to signal
                write_progress(state, ours)
                with _turn(store, ours, on_progress) if queue else contextlib.nullcontext():
                    return _execute(store, run, on_progress)
            except (Cancelled, KeyboardInterrupt):
                message = "stopped on request; resume continues where it stopped"
                return _end(state, "cancelled", message, on_progress)
    except BlockingIOError as error:
        raise JobError(f"the job '{run}' is running already in another process") from error
    except PrememError as error:
        _end(state, "failed", str(error), on_progress)
        raise
    except Exception as error:
        _end(state, "failed", f"{type(error).__name__}: {error}", on_progress)
        raise


def _end(file: Path, state: str, message: str, on_progress: Callable[[Progress], None]) -> Progress:
    ended = replace(read_progress(file), state=state, message=message, updated=time.time())
    with contextlib.suppress(OSError):  # on a full disk; the error itself is what matters
        write_progress(file, ended)
    on_progress(ended)
    return ended


@contextlib.contextmanager
def _full_disk_said(store: Store) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno not in DISK_FULL:
            raise
        raise StoreError(
            f"the disk of {store.path} is full; what was finished is kept: free space and resume"
        ) from error


@contextlib.contextmanager
def _turn(store: Store, ours: Progress, on_progress: Callable[[Progress], None]) -> Iterator[None]:
    """Jobs of a store run one after the other on this machine: first come, first served."""
    told = False
    while True:
        earlier = any(
            other.state == "queued"
            and other.pid  # it was started, not only created
            and (other.queued, other.run) < (ours.queued, ours.run)
            for other in all_progress(store)
        )
        if not earlier:
            with contextlib.suppress(BlockingIOError), contextlib.ExitStack() as stack:
                stack.enter_context(
                    flock(store.path / "jobs" / "turn.lock", fcntl.LOCK_EX | fcntl.LOCK_NB)
                )
                held = stack.pop_all()
                break
        if not told:
            told = True
            on_progress(replace(ours, message="waiting for the job before it"))
        time.sleep(0.5)
    with held:
        yield


def _execute(store: Store, name: str, on_progress: Callable[[Progress], None]) -> Progress:
    folder = store.job_folder(name)
    spec, run, queries = read_job(store, name)
    _check_grader(store, spec)
    execution = Execution(**json.loads((folder / "execution.json").read_text()))
    shelf = Shelf(execution.shards or str(store.path.resolve()), spec.run)
    shelf.sweep()
    executor = _executor(execution, run, spec.backend)
    dispatcher = Dispatcher(
        store,
        spec,
        run,
        queries,
        executor,
        shelf,
        Resources(tensor_parallel=execution.tensor_parallel),
    )
    try:
        start = read_progress(folder / "state.json")
        tracker = Tracker(folder / "state.json", start, dispatcher.known(), on_progress)
        dispatcher.work(tracker)
    finally:
        executor.close()
    shelf.sweep()
    failed = dispatcher.failed
    unmeasured = {}
    if execution.weights and len(failed) < len(run.checkpoints):
        base = Path(execution.base) if execution.base else None
        problems = _training(queries)
        unmeasured = weight_pass(store, name, problems, spec.template, base, say=tracker.say)
    reasons = [f"checkpoint {step}: {why}" for step, why in [*failed.items(), *unmeasured.items()]]
    return tracker.end("failed" if failed else "done", "; ".join(reasons))


def _executor(execution: Execution, run: Run, backend: str) -> Executor:
    if execution.executor == "ray":
        from premem_core.cluster import Cluster

        return Cluster(execution.address, execution.tensor_parallel, execution.workers)
    devices = processes.devices(execution.workers, execution.tensor_parallel)
    return Processes(devices[: len(run.checkpoints)], backend)


def _check_idle(store: Store, run: str) -> None:
    if is_held(store.job_folder(run) / "lock"):
        raise JobError(f"the job '{run}' is running already")


def _check_base(execution: Execution, run: Run) -> None:
    if not execution.weights:
        return
    if execution.base:
        checkpoints.check_checkpoint(Checkpoint(Path(execution.base), 0))
    elif any(checkpoint.adapter_base is None for checkpoint in run.checkpoints):
        raise JobError(
            "the distance from initialization is that to the model which the run began with; give "
            "its folder (--base)"
        )


def _check_grader(store: Store, spec: ScoringSpec) -> None:
    grader = store.runs().set_index("run")["grader"].get(spec.run)
    if isinstance(grader, str) and grader != spec.grader:
        raise JobError(
            f"the run '{spec.run}' is graded by '{grader}' now, but its job grades by "
            f"'{spec.grader}'; regrade it by '{spec.grader}' before more is sampled"
        )


@contextlib.contextmanager
def _sigterm_cancels() -> Iterator[None]:
    def stop(number: int, frame: FrameType | None) -> None:
        raise Cancelled

    previous = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)


def _existing(store: Store, run: str) -> Path:
    folder = store.job_folder(run)
    if not (folder / "job.json").exists():
        raise JobError(f"the store {store.path} has no scoring job named '{run}'")
    return folder
