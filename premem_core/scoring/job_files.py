"""The content of a scoring job's files: the specification, the problems and the execution."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from hashlib import sha256
from io import BytesIO
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq

from premem_core.errors import CheckpointError, JobError
from premem_core.files import replace_file, write_json
from premem_core.models import checkpoints
from premem_core.models.on_disk.kept_checkpoints import kept_names
from premem_core.problems import perturbations
from premem_core.problems.conversations import conversation_json, read_conversation
from premem_core.problems.prompts import Template
from premem_core.records import Checkpoint, Example, Run
from premem_core.scoring.spec import Query, ScoringSpec, read_spec
from premem_core.store.database import Store
from premem_core.store.job_folder import JobFolder

ExecutorName = Literal["local", "ray"]


@dataclass(frozen=True, slots=True)
class Execution:
    """Where a job runs. It may change when the job is resumed.

    Args:
        executor: "local" for this machine, or "ray".
        workers: the largest number of workers; None for one per GPU (or group of GPUs), or one on
            a machine without GPUs.
        tensor_parallel: GPUs per worker.
        address: of the Ray cluster; None for the cluster of this machine, or else a new one here.
        shards: an fsspec prefix, for Ray workers that cannot access the store's folder.
        weights: after scoring, also measure the checkpoints' weights (`measure_weights`).
        base: the folder of the run's base model, for `weights`, where the base model is scored,
            and for adapters whose base model is not where they name it.
        steps: the steps of checkpoints whose folders do not tell them, by folder name.
        endpoint: the URL of the running server, for the backend "server".
        served: names of its models by the folder's name or the step of the checkpoint that they
            hold, where they do not say it themselves.
        key_variable: the environment variable that holds the server's key.
    """

    executor: ExecutorName = "local"
    workers: int | None = None
    tensor_parallel: int = 1
    address: str | None = None
    shards: str | None = None
    weights: bool = False
    base: str | None = None
    steps: Mapping[str, int] = field(default_factory=dict)
    endpoint: str | None = None
    served: Mapping[str, str] = field(default_factory=dict)
    key_variable: str | None = None

    @property
    def base_folder(self) -> Path | None:
        """`base` as a path."""
        return Path(self.base) if self.base else None


def existing_job_folder(store: Store, run: str) -> JobFolder:
    """The folder of the job that scores a run.

    Raises:
        JobError: there is no such job.
    """
    folder = JobFolder.of(store, run)
    if not folder.holds_job:
        raise JobError(f"the store {store.path} has no scoring job named '{run}'")
    return folder


def describe_job(
    store: Store,
    spec: ScoringSpec,
    run: Run,
    task: str,
    train: Sequence[Example],
    test: Sequence[Example],
    unseen: Sequence[Example] = (),
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
    if unseen:
        described["unseen_data"] = _digest(unseen)
    if run.rewarded:
        described["rewarded"] = True
    return as_json(described)


def as_json(content: dict[str, Any]) -> dict[str, Any]:
    """The content as it is after it has been written as JSON and read again."""
    plain: dict[str, Any] = json.loads(json.dumps(content))
    return plain


def _digest(examples: Sequence[Example]) -> str:
    content = json.dumps(
        [
            [e.id, e.question, e.solution, e.answer]
            + ([conversation_json(e.conversation)] if e.conversation else [])
            for e in examples
        ]
    )
    return f"{len(examples)} examples, sha256 {sha256(content.encode()).hexdigest()[:16]}"


def write_description(folder: JobFolder, description: dict[str, Any]) -> None:
    """Write a job's description (`describe_job`)."""
    write_json(folder.description, description)


def read_description(folder: JobFolder) -> dict[str, Any]:
    """The description that `write_description` wrote."""
    description: dict[str, Any] = json.loads(folder.description.read_text())
    return description


def write_execution(folder: JobFolder, execution: Execution) -> None:
    """Write where a job runs."""
    write_json(folder.execution, asdict(execution))


def read_execution(folder: JobFolder) -> Execution:
    """Read where a job runs."""
    return Execution(**json.loads(folder.execution.read_text()))


def write_queries(folder: JobFolder, queries: Sequence[Query]) -> None:
    """Write a job's queries; the file appears when it is complete."""
    columns = {
        "number": [q.number for q in queries],
        "split": [q.split for q in queries],
        "perturbation": [q.perturbation for q in queries],
        "id": [q.example.id for q in queries],
        "question": [q.example.question for q in queries],
        "solution": [q.example.solution for q in queries],
        "answer": [q.example.answer for q in queries],
        "conversation": pa.array(
            [conversation_json(q.example.conversation) for q in queries], pa.string()
        ),
    }
    content = BytesIO()
    pq.write_table(pa.table(columns), content)
    replace_file(folder.queries, content.getvalue())


def read_queries(folder: JobFolder) -> list[Query]:
    """The queries that `write_queries` wrote."""
    return [
        Query(
            row["number"],
            row["split"],
            Example(
                row["id"],
                row["question"],
                row["solution"],
                row["answer"],
                conversation=read_conversation(row.get("conversation")),
            ),
            row.get("perturbation", ""),
        )
        for row in pq.read_table(folder.queries).to_pylist()
    ]


def user_perturbation_names(folder: JobFolder) -> set[str]:
    """The names of the user's own perturbations in a job; none if the job does not exist."""
    if not folder.holds_job:
        return set()
    names = read_description(folder).get("perturbations", [])
    return set(names) - perturbations.KINDS.keys()


def read_job_spec(store: Store, run: str) -> ScoringSpec:
    """The specification of a job.

    Raises:
        JobError: there is no such job.
    """
    return read_spec(read_description(existing_job_folder(store, run)))


def read_job(store: Store, run: str) -> tuple[ScoringSpec, Run, list[Query]]:
    """The specification of a job, its run with the checkpoints to score, and its queries.

    Raises:
        JobError: there is no such job.
        CheckpointError: a checkpoint does not exist any more.
    """
    folder = existing_job_folder(store, run)
    job = read_description(folder)
    found = _read_run(store, folder)
    wanted = [c for c in found.checkpoints if c.step in job["checkpoints"]]
    missing = set(job["checkpoints"]) - {c.step for c in wanted}
    if missing:
        raise CheckpointError(
            f"{found.path} no longer holds checkpoint {min(missing)}; put it back to resume"
        )
    return read_spec(job), replace(found, checkpoints=tuple(wanted)), read_queries(folder)


def read_checkpoint(store: Store, run: str, step: int, base: Path | None = None) -> Checkpoint:
    """One checkpoint of a job's run, an adapter with the base model that the job scored it over.

    Args:
        base: the folder of an adapter's base model, instead of that of the job.

    Raises:
        JobError: there is no such job.
        CheckpointError: the checkpoint does not exist any more.
    """
    found = _read_run(store, existing_job_folder(store, run), base)
    for checkpoint in found.checkpoints:
        if checkpoint.step == step:
            return checkpoint
    raise CheckpointError(
        f"{found.path} no longer holds checkpoint {step}; put it back to measure it"
    )


def find_base(spec: ScoringSpec, run: Run, execution: Execution) -> Checkpoint | None:
    """The base model that a job scores, as a checkpoint of step 0; None if it scores none.

    Raises:
        CheckpointError: it is not found, or cannot be used.
    """
    given = execution.base_folder
    return checkpoints.base_checkpoint(run, given) if spec.score_base else None


def _read_run(store: Store, folder: JobFolder, base: Path | None = None) -> Run:
    """The run of a job, its checkpoints unchecked, over the base model that was given for it."""
    execution = read_execution(folder)
    given = base or execution.base_folder
    path, steps = store.path / read_description(folder)["run_path"], execution.steps
    try:
        run = checkpoints.read_run(path, steps=steps, base=given, check=False)
    except (CheckpointError, OSError):  # the trainer deletes a folder that is being read
        if not kept_names(folder.kept):
            raise
        kept = checkpoints.read_run(folder.kept, steps=steps, base=given, check=False)
        return replace(kept, path=path)
    return checkpoints.with_kept(run, folder.kept, steps=steps, base=given)


def read_training_problems(store: Store, run: str) -> tuple[list[Example], Template]:
    """The training problems that a job scores, and its prompt template.

    Raises:
        JobError: there is no such job.
    """
    queries = read_queries(existing_job_folder(store, run))
    return training_problems(queries), read_job_spec(store, run).template


def training_problems(queries: Sequence[Query]) -> list[Example]:
    """The training problems among a job's queries, without their perturbed forms."""
    return [query.example for query in queries if query.split == "train" and not query.perturbation]


def test_problems(queries: Sequence[Query]) -> list[Example]:
    """The test problems among a job's queries, without their perturbed forms."""
    return [query.example for query in queries if query.split == "test" and not query.perturbation]
