"""Scoring jobs as their callers see them: create, extend, start, watch, cancel."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any
from urllib.parse import unquote

from premem_core.errors import JobError
from premem_core.files import is_held, write_json
from premem_core.models import checkpoints
from premem_core.problems import perturbations
from premem_core.records import Checkpoint, Example, Run, RunRecord
from premem_core.scoring import job_files
from premem_core.scoring.job_files import Execution, existing_job_folder, user_perturbation_names
from premem_core.scoring.progress import Progress, read_progress, write_progress
from premem_core.scoring.spec import Query, ScoringSpec, check_spec, read_spec
from premem_core.store.database import Store
from premem_core.store.examples import add_perturbed_examples, read_perturbed_examples
from premem_core.store.runs import add_run, read_runs
from premem_core.store.scores import read_committed_shards

SECONDS_TO_START = 120  # a process that loads torch from a slow disk takes its time


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
    check_spec(spec, {*own, *user_perturbation_names(folder)})
    _check_base(execution, run)
    wanted = job_files.describe(store, spec, run, task, train, test)
    registered = (folder / "job.json").exists()
    if registered:
        was = json.loads((folder / "job.json").read_text())
        if extend:
            _check_idle(store, spec.run)
            job_files.check_more(spec.run, was, wanted, folder, [*train, *test])
        elif resume:
            job_files.check_same(spec.run, was, wanted)
            write_json(folder / "execution.json", asdict(execution))
            return folder
        else:
            raise JobError(
                f"the run '{spec.run}' is already in {store.path}; resume it (--resume), ask more "
                "of it (--extend), or give this one another name (--run)"
            )
    else:
        # Registered without a job: imported, or a start that was killed, which goes on here.
        known = read_runs(store).set_index("run")["source"]
        if spec.run in known and (
            known[spec.run] != "scored" or read_committed_shards(store, spec.run)
        ):
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
    numbers = add_run(store, record, run.checkpoints, train, test)
    queries = [
        *(Query(n, "train", e) for n, e in zip(numbers, train, strict=False)),
        *(Query(n, "test", e) for n, e in zip(numbers[len(train) :], test, strict=True)),
    ]
    folder.mkdir(parents=True, exist_ok=True)
    queries += _perturbed(store, task, spec, queries, own)
    job_files.write_queries(folder / "queries.parquet", queries)
    write_json(folder / "execution.json", asdict(execution))
    if not registered:
        write_progress(folder / "state.json", Progress(spec.run))
    write_json(folder / "job.json", wanted)  # last: its presence says that the job is whole
    return folder


def extend_job(store: Store, run: str, **changes: Any) -> None:
    """Ask more of a job, without its data files: `samples`, `plan`, `log_log_threshold`,
    `perturbations` or `perturb_all`. The next start does only what is missing.

    Raises:
        JobError: there is no such job, it is running, or what is asked for is not more.
        UsageError: a plan or a perturbation is unknown.
    """
    folder = existing_job_folder(store, run)
    _check_idle(store, run)
    was = json.loads((folder / "job.json").read_text())
    spec = read_spec(was)
    if "samples" in changes:
        changes["sampling"] = replace(spec.sampling, samples=changes.pop("samples"))
    spec = replace(spec, **changes)
    check_spec(spec, user_perturbation_names(folder))
    wanted = {**was, **json.loads(json.dumps(asdict(spec)))}
    job_files.check_more(run, was, wanted, folder, [])
    queries = job_files.read_queries(folder / "queries.parquet")
    originals = [query for query in queries if not query.perturbation]
    queries = originals + _perturbed(store, was["task"], spec, originals, {})
    job_files.write_queries(folder / "queries.parquet", queries)
    write_json(folder / "job.json", wanted)


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
            made = perturbations.perturb(name, trains, spec.sampling.seed)
        new = {e.id: e for e in made if e is not None and e.id in originals}
        if name in own:
            _check_same_texts(store, task, name, {originals[i].number: e for i, e in new.items()})
        add_perturbed_examples(store, name, [originals[i].number for i in new], list(new.values()))
        asked = {query.number: query for query in originals.values()}
        for row in read_perturbed_examples(store, task, name).to_dict("records"):
            if query := asked.get(row["example"]):
                texts = {key: row[key] for key in ("question", "solution", "answer")}
                result.append(
                    replace(query, example=replace(query.example, **texts), perturbation=name)
                )
    return result


def _check_same_texts(store: Store, task: str, name: str, given: Mapping[int, Example]) -> None:
    for row in read_perturbed_examples(store, task, name).to_dict("records"):
        example = given.get(row["example"])
        if example and (example.question, example.answer) != (row["question"], row["answer"]):
            raise JobError(
                f"the perturbation '{name}' of the problem '{example.id}' is in {store.path} with "
                "another text or answer; give this one another name"
            )


def start_job(store: Store, run: str) -> None:
    """Run a job in a process of its own, which outlives this one; it waits for its turn.

    Raises:
        JobError: there is no such job, or it is running.
    """
    folder = existing_job_folder(store, run)
    _check_idle(store, run)
    now = time.time()
    state = replace(job_progress(store, run), state="queued", message="", updated=now, queued=now)
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


def cancel_job(store: Store, run: str) -> None:
    """Ask a job to stop, running or waiting; what it finished stays, and it can be resumed.

    Raises:
        JobError: there is no such job, or it is not running.
    """
    folder = existing_job_folder(store, run)
    if not is_held(folder / "lock"):
        raise JobError(f"the job '{run}' is not running")
    with contextlib.suppress(ProcessLookupError):
        if (pid := job_progress(store, run).pid) > 0:  # 0 would be this process's own group
            os.kill(pid, signal.SIGTERM)


def job_progress(store: Store, run: str) -> Progress:
    """Where a job stands, true even after its process was killed."""
    folder = existing_job_folder(store, run)
    state = read_progress(folder / "state.json")
    starting = state.state == "queued" and time.time() - state.updated < SECONDS_TO_START
    if state.state in ("running", "queued") and not starting and not is_held(folder / "lock"):
        return replace(state, state="interrupted", message="its process ended; resume it")
    return state


def all_job_progress(store: Store) -> list[Progress]:
    """Every job of the store, the most recently active first."""
    names = [unquote(file.parent.name) for file in (store.path / "jobs").glob("*/job.json")]
    return sorted((job_progress(store, name) for name in names), key=lambda p: -p.updated)


def log_tail(store: Store, run: str, lines: int = 30) -> str:
    """The end of what the job's process printed."""
    file = existing_job_folder(store, run) / "log.txt"
    return (
        "\n".join(file.read_text(errors="replace").splitlines()[-lines:]) if file.exists() else ""
    )


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


def check_grader(store: Store, spec: ScoringSpec) -> None:
    grader = read_runs(store).set_index("run")["grader"].get(spec.run)
    if isinstance(grader, str) and grader != spec.grader:
        raise JobError(
            f"the run '{spec.run}' is graded by '{grader}' now, but its job grades by "
            f"'{spec.grader}'; regrade it by '{spec.grader}' before more is sampled"
        )
