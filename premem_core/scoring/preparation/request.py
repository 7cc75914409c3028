"""A person's request to score a run, and the data that it names.

The command `score` and the Score page both make a `ScoreRequest`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from premem_core.errors import UsageError
from premem_core.metrics.sampling_plan import Plan
from premem_core.models import checkpoints
from premem_core.models.encoding.template_choice import Form
from premem_core.models.server.served_models import Server
from premem_core.problems.data_files import Source, Split
from premem_core.problems.examples import Dataset, read_examples
from premem_core.problems.fields import FieldNames, Fields, detect_fields
from premem_core.problems.prompts import Template
from premem_core.records import Run, Sampling, Segment
from premem_core.scoring.job_files import Execution, read_description
from premem_core.scoring.served_run import restrict_to_served, server_of
from premem_core.store.database import Store
from premem_core.store.job_folder import JobFolder


@dataclass(frozen=True, slots=True)
class ScoreRequest:
    """A person's request to score a run. Where a value is None, `prepare` chooses it.

    Args:
        run_folder: the folder that holds the checkpoint-<step> folders.
        train_file, test_file: as `data_files.find_data_files`.
        fields: the fields of the training file, or the names of some of them. The test file's
            fields have the same names where it has them.
        skip_bad: leave out the files' invalid rows.
        train_sample: the number of training problems to score, drawn at random; None for all.
        test_sample: likewise of the test problems; a larger sample contains a smaller one.
        run: the run's name; None for the name of its folder.
        task: the task's name; None for the name of the training file's folder.
        grader: None for the one that fits the answers.
        backend: None for vllm if it is installed, else hf.
        share: the part of the training problems that the plan "last" samples.
        precision, generations: a budget instead of the share and the number of samples, for the
            plan "last": the largest standard error of a checkpoint's accuracy, in points; or the
            largest number of completions in all.
        log_log_threshold: t = log log PPL of the plan; None for the best one of the task's runs.
        perturbations: the names of perturbations of the training queries.
        perturb_all: sample these at every checkpoint, not only at the last one.
        perturb_controls: sample them at the first checkpoint too, and perturbed test queries.
        perturbation_texts: the user's own perturbations, by name: a text that contains {question}.
        perturbation_files: the user's own perturbations that are files, by name.
        template: how an example becomes text; None for `choose_template`, with `form`.
        form: whether the template is a chat template or plain, where `template` is None.
        stop: the texts that end a completion; None for those of the template.
        thinking: the marks of thinking traces, as `choose_marks` reads them; None to find them.
        tokens: keep the log-probability and the rank of each token of the targets.
        longest: texts are cut after this many tokens, as trainers cut them; None to cut none.
        score_base: also score the run's base model.
        held_out_file: problems that the run was not trained on; training problems among them are
            taken out.
        only: the names or steps of the checkpoints to score; all of them if it is empty.
        execution: where the job runs.
    """

    run_folder: Path
    train_file: Source
    test_file: Source | None = None
    fields: Fields | FieldNames = field(default_factory=FieldNames)
    skip_bad: bool = False
    train_sample: int | None = None
    test_sample: int | None = None
    run: str | None = None
    task: str | None = None
    grader: str | None = None
    backend: str | None = None
    template: Template | None = None
    form: Form | None = None
    stop: tuple[str, ...] | None = None
    thinking: str | None = None
    longest: int | None = None
    tokens: bool = True
    sampling: Sampling = field(default_factory=Sampling)
    chunk_examples: int = 128
    plan: Plan = "full"
    share: float = 1.0
    precision: float | None = None
    generations: int | None = None
    log_log_threshold: float | None = None
    segment: Segment = "target"
    perturbations: tuple[str, ...] = ()
    perturb_all: bool = False
    perturb_controls: bool = True
    perturbation_texts: Mapping[str, str] = field(default_factory=dict)
    perturbation_files: Mapping[str, Path] = field(default_factory=dict)
    score_base: bool = False
    held_out_file: Source | None = None
    only: tuple[str | int, ...] = ()
    execution: Execution = field(default_factory=Execution)

    @property
    def run_name(self) -> str:
        """The run's name."""
        return self.run_folder.resolve().name if self.run is None else self.run


def check_growing(request: ScoreRequest) -> None:
    """Check that a request can be made again each time that its run has a further checkpoint.

    Raises:
        UsageError: its budget is a number of generations, of which each checkpoint would get fewer
            with every further one.
    """
    if request.generations is not None:
        raise UsageError(
            "a number of generations in all is for a finished run, because a run that still trains "
            "can have any number of checkpoints; give --precision, or --share and --samples"
        )


@dataclass(frozen=True, slots=True)
class RequestedData:
    """The run and the problems that a request names, as they were read.

    Attributes:
        unseen: problems that the run was not trained on, whose perplexities are measured.
        server: the server that computes, for the backend "server".
    """

    run: Run
    train: Dataset
    test: Dataset | None
    unseen: Dataset | None = None
    server: Server | None = None


def read_requested_data(
    request: ScoreRequest, same_problems: RequestedData | None = None
) -> RequestedData:
    """Read the run's checkpoints, without their weights, and the problems.

    Args:
        same_problems: what was read for another run with the same data files, which are then not
            read again.

    Raises:
        CheckpointError: there is no checkpoint, or one of them cannot be scored.
        DataError: a file cannot be read, or has a bad row and `skip_bad` is not set.
        UsageError: the rule for the answer is invalid.
    """
    run = checkpoints.read_run(
        request.run_folder,
        only=request.only or None,
        steps=request.execution.steps,
        base=request.execution.base_folder,
    )
    if same_problems is not None:
        return replace(same_problems, run=run)
    return read_data(request, run)


def read_data(request: ScoreRequest, run: Run) -> RequestedData:
    """Read the problems of a request for a run.

    Raises:
        DataError, UsageError: as `read_requested_data`.
    """
    fields = request.fields
    if isinstance(fields, FieldNames):
        fields = detect_fields(request.train_file, fields)
    train = read_examples(request.train_file, fields, skip_bad=request.skip_bad)
    test = _read_beside(request, request.test_file, "test", fields)
    unseen = _read_beside(request, request.held_out_file, "train", fields)
    if unseen:
        held_out = {(example.question, example.solution) for example in unseen.examples}
        trained = [e for e in train.examples if (e.question, e.solution) not in held_out]
        if not trained:
            raise UsageError(
                f"{unseen.name} holds every problem of {train.name}, so the run would have no "
                "training problem; give only those that were held back (--held-out)"
            )
        train = replace(train, examples=tuple(trained))
    return RequestedData(run, train, test, unseen)


def with_kept(request: ScoreRequest, data: RequestedData, store: Path) -> RequestedData:
    """The data with the checkpoints that were kept of the run while it was watched.

    Args:
        store: the folder of the store.
    """
    if not store.exists():  # looking for a job would create it
        return data
    execution, kept = request.execution, JobFolder.of(Store(store), request.run_name).kept
    run = checkpoints.with_kept(data.run, kept, steps=execution.steps, base=execution.base_folder)
    return replace(data, run=run)


def with_server(request: ScoreRequest, data: RequestedData, store: Path) -> RequestedData:
    """The data with the server that the request names, and only the checkpoints that it serves.

    Args:
        store: the folder of the store; the checkpoints that the run's job has there are kept.

    Raises:
        EndpointError: the server does not answer.
        UsageError, CheckpointError: as `server_of` and `restrict_to_served`.
    """
    server = server_of(request.execution, data.run)
    registered: list[int] = []
    if store.exists():  # looking for a job would create it
        folder = JobFolder.of(Store(store), request.run_name)
        registered = read_description(folder)["checkpoints"] if folder.holds_job else []
    return replace(data, run=restrict_to_served(data.run, server, registered), server=server)


def _read_beside(
    request: ScoreRequest, file: Source | None, split: Split, train: Fields
) -> Dataset | None:
    """The problems of another file, whose fields have the names of the training file's."""
    if not file:
        return None
    names = FieldNames(train.question, train.solution, str(train.answer), train.turns)
    fields = detect_fields(file, names, split)
    return read_examples(file, fields, skip_bad=request.skip_bad, split=split)
