"""The files of a scoring job: `job.json`, `queries.parquet`, `execution.json`, and their checks."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq

from premem_core.errors import CheckpointError, JobError
from premem_core.models import checkpoints
from premem_core.problems import perturbations
from premem_core.problems.prompts import PromptTemplate
from premem_core.records import Example, Run
from premem_core.scoring.spec import Query, ScoringSpec, read_spec
from premem_core.store.database import Store


def describe(
    store: Store,
    spec: ScoringSpec,
    run: Run,
    task: str,
    train: Sequence[Example],
    test: Sequence[Example],
) -> dict[str, Any]:
    """The content of `job.json`."""
    described = {
        **asdict(spec),
        "task": task,
        "run_path": store.relative(run.path),
        "checkpoints": [checkpoint.step for checkpoint in run.checkpoints],
        "train_data": _digest(train),
        "test_data": _digest(test),
    }
    plain: dict[str, Any] = json.loads(json.dumps(described))
    return plain


def _digest(examples: Sequence[Example]) -> str:
    content = json.dumps([[e.id, e.question, e.solution, e.answer] for e in examples])
    return f"{len(examples)} examples, sha256 {sha256(content.encode()).hexdigest()[:16]}"


def check_same(run: str, was: dict[str, Any], wanted: dict[str, Any]) -> None:
    """Refuse to resume a job with another specification.

    Raises:
        JobError: it differs; the message says in what.
    """
    if differing := _differences(was, wanted):
        raise JobError(
            f"the run '{run}' cannot be resumed with another specification ({differing}); repeat "
            "the first one, ask more of it with --extend, or choose another name with --run"
        )


def check_more(
    run: str,
    was: dict[str, Any],
    wanted: dict[str, Any],
    folder: Path,
    examples: Sequence[Example],
) -> None:
    """Refuse what is not more of the same: it would throw away, or mix, what is scored.

    Args:
        examples: that are asked for; none: as before.

    Raises:
        JobError: something is missing or has changed; the message says what.
    """
    problems = []
    if wanted["sampling"]["samples"] < was["sampling"]["samples"]:
        problems.append(
            f"{was['sampling']['samples']} samples are drawn, {wanted['sampling']['samples']} "
            "asked for"
        )
    for name in ("checkpoints", "perturbations"):
        if gone := [each for each in was.get(name, []) if each not in wanted[name]]:
            problems.append(f"{name} lack {gone[0]}")
    if examples:
        given = {(e.id, e.question, e.solution, e.answer) for e in examples}
        for query in read_queries(folder / "queries.parquet"):
            e = query.example
            if not query.perturbation and (e.id, e.question, e.solution, e.answer) not in given:
                problems.append(f"the {query.split} problem '{e.id}' is missing or has changed")
                break
    may_grow = {
        *("plan", "log_log_threshold", "perturb_all", "perturbations", "checkpoints"),
        *("train_data", "test_data", "chunk_examples"),
    }
    fixed_was, fixed = ({k: v for k, v in d.items() if k not in may_grow} for d in (was, wanted))
    fixed_was["sampling"] = {**was["sampling"], "samples": wanted["sampling"]["samples"]}
    if differing := _differences(fixed_was, fixed):
        problems.append(differing)
    if problems:
        raise JobError(
            f"the run '{run}' can only be asked for more of the same ({'; '.join(problems)}); "
            "choose another name with --run for something else"
        )


def _differences(was: dict[str, Any], wanted: dict[str, Any]) -> str:
    # What an older version did not write had the value that is the default now.
    defaults = json.loads(json.dumps(asdict(ScoringSpec("", ""))))
    flat_was, flat_wanted = _flat({**defaults, **was}), _flat(wanted)
    differing = [key for key in flat_wanted if flat_was.get(key) != flat_wanted[key]]
    return "; ".join(f"{k} was {flat_was.get(k)}, is {flat_wanted[k]}" for k in differing)


def _flat(nested: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in nested.items():
        flat |= (
            _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
        )
    return flat


def write_queries(file: Path, queries: Sequence[Query]) -> None:
    """Keep the queries; the file is there whole or not at all."""
    columns = {
        "number": [q.number for q in queries],
        "split": [q.split for q in queries],
        "perturbation": [q.perturbation for q in queries],
        "id": [q.example.id for q in queries],
        "question": [q.example.question for q in queries],
        "solution": [q.example.solution for q in queries],
        "answer": [q.example.answer for q in queries],
    }
    part = file.with_suffix(".tmp")
    pq.write_table(pa.table(columns), part)
    part.replace(file)


def read_queries(file: Path) -> list[Query]:
    """The queries that `write_queries` kept."""
    return [
        Query(
            row["number"],
            row["split"],
            Example(row["id"], row["question"], row["solution"], row["answer"]),
            row.get("perturbation", ""),
        )
        for row in pq.read_table(file).to_pylist()
    ]


ExecutorName = Literal["local", "ray"]


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


def user_perturbation_names(folder: Path) -> set[str]:
    """The names of the user's own perturbations that a job, if there is one, knows already."""
    if not (folder / "job.json").exists():
        return set()
    asked = json.loads((folder / "job.json").read_text()).get("perturbations", [])
    return set(asked) - perturbations.KINDS.keys()


def read_job_spec(store: Store, run: str) -> ScoringSpec:
    """What a job measures.

    Raises:
        JobError: there is no such job.
    """
    return read_spec(json.loads((existing_job_folder(store, run) / "job.json").read_text()))


def read_job(store: Store, run: str) -> tuple[ScoringSpec, Run, list[Query]]:
    """What a job measures, of which checkpoints, with which problems.

    Raises:
        JobError: there is no such job.
        CheckpointError: a checkpoint is no longer there.
    """
    folder = existing_job_folder(store, run)
    job = json.loads((folder / "job.json").read_text())
    found = checkpoints.read_run(store.path / job["run_path"], check=False)
    wanted = [c for c in found.checkpoints if c.step in job["checkpoints"]]
    missing = set(job["checkpoints"]) - {c.step for c in wanted}
    if missing:
        raise CheckpointError(
            f"{found.path} no longer holds checkpoint {min(missing)}; put it back to resume"
        )
    queries = read_queries(folder / "queries.parquet")
    return read_spec(job), replace(found, checkpoints=tuple(wanted)), queries


def read_training_problems(store: Store, run: str) -> tuple[list[Example], PromptTemplate]:
    """The training problems that a job scores, and how it fills them in.

    Raises:
        JobError: there is no such job.
    """
    queries = read_queries(existing_job_folder(store, run) / "queries.parquet")
    return training_problems(queries), read_job_spec(store, run).template


def training_problems(queries: Sequence[Query]) -> list[Example]:
    return [query.example for query in queries if query.split == "train" and not query.perturbation]


def existing_job_folder(store: Store, run: str) -> Path:
    folder = store.job_folder(run)
    if not (folder / "job.json").exists():
        raise JobError(f"the store {store.path} has no scoring job named '{run}'")
    return folder
