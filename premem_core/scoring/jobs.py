"""Scoring jobs: functions that create, extend, start, watch and cancel them."""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from premem_core import installation
from premem_core.errors import JobError
from premem_core.files import is_held
from premem_core.models import checkpoints
from premem_core.records import Checkpoint, Example, Run, RunRecord
from premem_core.scoring import job_files
from premem_core.scoring.job_changes import check_extension, check_imported, check_same
from premem_core.scoring.job_files import Execution, existing_job_folder, user_perturbation_names
from premem_core.scoring.perturbed_queries import UserPerturbations, perturbed_queries
from premem_core.scoring.progress import Progress, read_progress, write_progress
from premem_core.scoring.spec import Query, ScoringSpec, check_spec, read_spec
from premem_core.store.database import Store
from premem_core.store.examples import add_examples
from premem_core.store.job_folder import JobFolder, runs_with_jobs
from premem_core.store.runs import add_base, add_run, read_runs
from premem_core.store.sample_imports import allow_mixing, imports_of
from premem_core.store.scores import read_committed_shards

SECONDS_TO_START = 120  # loading torch from a slow disk takes long


def create_job(
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
    mix_settings: bool = False,
    execution: Execution = Execution(),
    user_perturbations: UserPerturbations = MappingProxyType({}),
    unseen: Sequence[Example] = (),
) -> JobFolder:
    """Create a job, or resume or extend an existing one; return its folder.

    Args:
        train: the training problems to score.
        trained_on: the number of problems that the run was trained on, if `train` is a sample.
        resume: resume the existing job, which must have this specification.
        extend: add samples, checkpoints, problems or perturbations to the existing job, or change
            its plan. Existing scores are kept.
        mix_settings: draw with other settings than those of the run's imported completions.
        user_perturbations: by the name of each of the user's own perturbations, the perturbed
            training problems, without those to which it does not apply.
        unseen: problems that the run was not trained on, whose perplexities are measured.

    Raises:
        JobError: the name is in use; or `resume` is set and the specification differs; or `extend`
            is set and something of the job is missing or has changed; or the settings differ from
            those of imported completions. The message says what.
        StoreError: an example is in the store with another text, or the run's base model is
            another one.
        CheckpointError: the base model is needed, and cannot be used.
    """
    folder = JobFolder.of(store, spec.run)
    if extend and folder.holds_job:
        spec = _as_it_began(spec, job_files.read_description(folder))
    own = {name for _, name in user_perturbations}
    check_spec(spec, {*own, *user_perturbation_names(folder)})
    _check_base(execution, run)
    base = job_files.find_base(spec, run, execution)
    description = job_files.describe_job(store, spec, run, task, train, test, unseen)
    is_new = not folder.holds_job
    if is_new:
        _check_name_is_free(store, spec, task)
    elif extend:
        _check_idle(folder, spec.run)
        registered = job_files.read_description(folder)
        queries = job_files.read_queries(folder)
        check_extension(spec.run, registered, description, queries, [*train, *test])
    elif resume:
        check_same(spec.run, job_files.read_description(folder), description)
        _register_base(store, spec.run, base)
        job_files.write_execution(folder, execution)
        return folder
    else:
        raise JobError(
            f"the run '{spec.run}' is already in {store.path}; resume it (--resume), extend "
            "it (--extend), or give this run another name (--run)"
        )
    if not mix_settings:
        check_imported(spec, imports_of(store, spec.run), {"train", *(["test"] if test else [])})
    _register_base(store, spec.run, base)
    queries = _register(store, spec, run, task, train, test, trained_on)
    numbers = add_examples(store, task, "train", unseen)
    queries += [Query(n, "unseen", e) for n, e in zip(numbers, unseen, strict=True)]
    queries += perturbed_queries(store, task, spec, queries, user_perturbations)
    folder.path.mkdir(parents=True, exist_ok=True)
    job_files.write_queries(folder, queries)
    job_files.write_execution(folder, execution)
    if is_new:
        write_progress(folder.state, Progress(spec.run))
    if mix_settings:
        allow_mixing(store, spec.run)
    job_files.write_description(folder, description)  # last: with it the job is complete
    return folder


def _as_it_began(spec: ScoringSpec, registered: dict[str, Any]) -> ScoringSpec:
    """The specification; a job of an earlier version gets no controls that nobody asked for."""
    known = "perturb_controls" in registered
    return spec if known else replace(spec, perturb_controls=False)


def _check_name_is_free(store: Store, spec: ScoringSpec, task: str) -> None:
    # A run without a job was imported, or the creation of its job was killed and is repeated here.
    known = read_runs(store).set_index("run")
    if spec.run not in known.index:
        return
    if imports_of(store, spec.run):  # its completions count for the job
        if known["task"][spec.run] != task:
            raise JobError(
                f"the completions that were imported into the run '{spec.run}' are of the task "
                f"'{known['task'][spec.run]}', not '{task}'; give that one (--task)"
            )
        check_grader(store, spec)
    elif known["source"][spec.run] == "published" or read_committed_shards(store, spec.run):
        raise JobError(
            f"the run '{spec.run}' is already in {store.path}, and it has no job that can be "
            "resumed; give this run another name (--run)"
        )


def _register_base(store: Store, run: str, base: Checkpoint | None) -> None:
    if base is not None:
        add_base(store, run, base.path)


def _register(
    store: Store,
    spec: ScoringSpec,
    run: Run,
    task: str,
    train: Sequence[Example],
    test: Sequence[Example],
    trained_on: int | None,
) -> list[Query]:
    """Add run, checkpoints and problems to the store; return the problems with its numbers."""
    record = RunRecord(
        run=spec.run,
        task=task,
        source="scored",
        learning_rate=run.learning_rate,
        epochs=run.epochs,
        batch_size=run.batch_size,
        train_examples=len(train) if trained_on is None else trained_on,
        grader=spec.grader,
    )
    numbers = add_run(store, record, run.checkpoints, train, test)
    return [
        *(Query(n, "train", e) for n, e in zip(numbers, train, strict=False)),
        *(Query(n, "test", e) for n, e in zip(numbers[len(train) :], test, strict=True)),
    ]


def extend_job(store: Store, run: str, *, base: Path | None = None, **changes: Any) -> None:
    """Extend a job without reading its data files. The next start does only the missing work.

    Args:
        base: the folder of the run's base model, if it is to be scored now and was not given yet.
        changes: the new `samples`, `plan`, `log_log_threshold`, `share`, `perturbations`,
            `perturb_all`, `perturb_controls` or `score_base`. Another plan than `last` samples all
            problems.

    Raises:
        JobError: there is no such job, it is running, or something of it would be missing.
        UsageError: a plan or a perturbation is unknown.
        CheckpointError: the base model is to be scored, and cannot be used.
        StoreError: the run's base model is another one.
    """
    folder = existing_job_folder(store, run)
    _check_idle(folder, run)
    registered = job_files.read_description(folder)
    spec = read_spec(registered)
    if "samples" in changes:
        changes["sampling"] = replace(spec.sampling, samples=changes.pop("samples"))
    spec = replace(spec, **changes)
    if spec.plan != "last" and "share" not in changes:
        spec = replace(spec, share=1.0)
    check_spec(spec, user_perturbation_names(folder))
    description = {**registered, **job_files.as_json(asdict(spec))}
    check_extension(run, registered, description)
    if spec.score_base:
        execution = job_files.read_execution(folder)
        if base is not None:
            execution = replace(execution, base=str(base.resolve()))
        of_run = job_files.read_job(store, run)[1]
        _register_base(store, run, job_files.find_base(spec, of_run, execution))
        job_files.write_execution(folder, execution)
    queries = [query for query in job_files.read_queries(folder) if not query.perturbation]
    check_imported(spec, imports_of(store, run), {query.split for query in queries})
    queries += perturbed_queries(store, registered["task"], spec, queries, {})
    job_files.write_queries(folder, queries)
    job_files.write_description(folder, description)


def start_job(store: Store, run: str) -> None:
    """Start a job in a separate process, which continues when this one ends.

    The job waits until earlier jobs are done.

    Raises:
        JobError: there is no such job, or it is running.
        InstallationError: a package that scoring needs is not installed.
    """
    folder = existing_job_folder(store, run)
    backend = job_files.read_job_spec(store, run).backend
    installation.require_extra("server" if backend == "server" else "score")
    _check_idle(folder, run)
    now = time.time()
    state = replace(job_progress(store, run), state="queued", message="", updated=now, queued=now)
    write_progress(folder.state, state)
    command = [sys.executable, "-m", "premem_core", "jobs", "run", run, "--store", str(store.path)]
    with folder.log.open("a") as log:
        process = subprocess.Popen(
            command,
            stdout=log,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
    # Wait for the process, or it stays in the process table after its end.
    threading.Thread(target=process.wait, daemon=True).start()


def cancel_job(store: Store, run: str) -> None:
    """Stop a running or waiting job. Its finished results are kept, and it can be resumed.

    Raises:
        JobError: there is no such job, or it is not running.
    """
    if not is_held(existing_job_folder(store, run).lock):
        raise JobError(f"the job '{run}' is not running")
    with contextlib.suppress(ProcessLookupError):
        if (pid := job_progress(store, run).pid) > 0:  # 0 would be this process's own group
            os.kill(pid, signal.SIGTERM)


def job_progress(store: Store, run: str) -> Progress:
    """The state and progress of a job, correct even after its process was killed."""
    folder = existing_job_folder(store, run)
    state = read_progress(folder.state)
    starting = state.state == "queued" and time.time() - state.updated < SECONDS_TO_START
    if state.state in ("running", "queued") and not starting and not is_held(folder.lock):
        return replace(state, state="interrupted", message="its process ended; resume the job")
    return state


def all_job_progress(store: Store) -> list[Progress]:
    """The state and progress of every job of the store, the most recently active first."""
    found = (job_progress(store, run) for run in runs_with_jobs(store))
    return sorted(found, key=lambda progress: -progress.updated)


def log_tail(store: Store, run: str, lines: int = 30) -> str:
    """The last lines that the job's process printed."""
    log = existing_job_folder(store, run).log
    return "\n".join(log.read_text(errors="replace").splitlines()[-lines:]) if log.exists() else ""


def check_grader(store: Store, spec: ScoringSpec) -> None:
    """Check that the grades of the job's grader are those that count for the run.

    Raises:
        JobError: another grader's grades count.
    """
    grader = read_runs(store).set_index("run")["grader"].get(spec.run)
    if isinstance(grader, str) and grader != spec.grader:
        raise JobError(
            f"the run '{spec.run}' has the grades of '{grader}', but its job grades with "
            f"'{spec.grader}'; give the first one to the job, or regrade the run with "
            f"'{spec.grader}' before more samples are drawn"
        )


def _check_idle(folder: JobFolder, run: str) -> None:
    if is_held(folder.lock):
        raise JobError(f"the job '{run}' is running already")


def _check_base(execution: Execution, run: Run) -> None:
    if not execution.weights:
        return
    if execution.base_folder:
        checkpoints.check_checkpoint(Checkpoint(execution.base_folder, 0))
    elif any(checkpoint.adapter_base is None for checkpoint in run.checkpoints):
        raise JobError(
            "the distance from initialization is measured from the run's base model; give its "
            "folder (--base)"
        )
