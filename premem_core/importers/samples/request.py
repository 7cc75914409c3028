"""A person's request to import completions, and the run that it is for."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from premem_core.errors import StoreError, UsageError
from premem_core.grading.graders import canonical_grader
from premem_core.importers.samples.files import SampleFormat
from premem_core.problems.data_files import Split
from premem_core.records import Example, KnownSampling, RunRecord
from premem_core.store.database import Store
from premem_core.store.examples import example_of, read_task_examples
from premem_core.store.runs import read_runs


@dataclass(frozen=True, slots=True)
class SampleRequest:
    """A person's request to import completions.

    Args:
        files: files, or folders of files.
        run: its name in the store.
        split: which problems the completions answer.
        train, test: the problems; empty for those that the store has.
        task: None for the task of the run.
        format: None to find it from each file.
        steps: of files that tell the step of each row, only these; of others, the step.
        grader: the grader for a new run; None for that of the run.
        sampling: settings that the person knows and the files do not tell.
        mix_settings: accept completions with other settings beside those of the run.
        skip_bad: leave out rows that cannot be used.
    """

    files: Sequence[Path]
    run: str
    split: Split
    train: Sequence[Example] = ()
    test: Sequence[Example] = ()
    task: str | None = None
    format: SampleFormat | None = None
    steps: Sequence[int] = ()
    grader: str | None = None
    sampling: KnownSampling = field(default_factory=KnownSampling)
    mix_settings: bool = False
    skip_bad: bool = False


def run_of_request(store: Store | None, request: SampleRequest) -> RunRecord:
    """The run as the store has it, or a new one."""
    runs = None if store is None else read_runs(store).set_index("run")
    if runs is None or request.run not in runs.index:
        if not request.train:
            raise UsageError(
                f"the store has no run {request.run!r}; give the problems that a new run was "
                "trained on (--train)"
            )
        if request.task is None:
            raise UsageError(f"the run {request.run!r} is new; name its task (--task)")
        n = len(request.train)
        return RunRecord(request.run, request.task, "imported", None, None, None, n)
    row = runs.loc[request.run].to_dict()
    if row["source"] == "published":
        raise StoreError(
            f"the run {request.run!r} was imported as score arrays, which completions cannot be "
            "added to; give another name (--run)"
        )
    if request.task not in (None, row["task"]):
        raise UsageError(
            f"the run {request.run!r} is of the task {row['task']!r}, not {request.task!r}; leave "
            "--task out"
        )
    if row["grader"] != row["scored_by"]:
        raise UsageError(
            f"the run {request.run!r} has the grades of {row['grader']!r} instead of "
            f"{row['scored_by']!r}, which graded it first; regrade it with that one, import, and "
            "regrade again"
        )
    n = int(row["train_examples"])
    return RunRecord(
        request.run, str(row["task"]), str(row["source"]), None, None, None, n, str(row["grader"])
    )


def grader_of_request(record: RunRecord, request: SampleRequest) -> str:
    if record.grader is None:
        assert request.grader is not None
        return canonical_grader(request.grader)
    if request.grader is not None and canonical_grader(request.grader) != record.grader:
        raise UsageError(
            f"the run {record.run!r} is graded by {record.grader!r}, not {request.grader!r}; leave "
            "--grader out, and regrade the run afterwards"
        )
    return record.grader


def examples_of_request(
    store: Store | None, request: SampleRequest, task: str
) -> Sequence[Example]:
    """The problems of the split: those given, or those of the store."""
    given = request.train if request.split == "train" else request.test
    if given or store is None:
        found = given
    else:
        rows = read_task_examples(store, task, request.split).to_dict("records")
        found = [example_of(row) for row in rows]
    if not any(example.question for example in found):
        raise UsageError(
            f"the {request.split} problems of the task {task!r} are not known; give them "
            f"(--{request.split})"
        )
    return found
