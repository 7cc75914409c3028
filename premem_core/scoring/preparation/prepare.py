"""Preparation of a scoring job: a person's request becomes a job that can be created.

The command `score` and the Score page both prepare a `ScoreRequest`, show what would be done, and
create the job.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from premem_core.errors import UsageError
from premem_core.grading.grader_texts import grader_label, with_settings
from premem_core.grading.graders import canonical_grader
from premem_core.grading.reference_check import (
    check_references,
    guess_grader,
    require_readable,
)
from premem_core.metrics import budget
from premem_core.metrics.budget import Design
from premem_core.metrics.sampling_plan import Plan
from premem_core.models import load_backend
from premem_core.models.checkpoints import base_checkpoint
from premem_core.models.encoding.inspection import (
    Inspection,
    LeftOut,
    inspect_checkpoint,
    read_inspection,
)
from premem_core.models.encoding.template_choice import (
    as_trained,
    choose_marks,
    choose_template,
)
from premem_core.problems import user_perturbations
from premem_core.problems.answer_rule import AnswerRule
from premem_core.problems.data_files import Source, find_data_files
from premem_core.problems.examples import Dataset, draw, draw_first
from premem_core.problems.prompts import template_in_words
from premem_core.records import Checkpoint, Example, Run, Segment
from premem_core.scoring import jobs, work_left
from premem_core.scoring.job_files import Execution
from premem_core.scoring.perturbed_queries import UserPerturbations
from premem_core.scoring.preparation.request import (
    RequestedData,
    ScoreRequest,
    read_requested_data,
)
from premem_core.scoring.preparation.scratch_job import ask_about
from premem_core.scoring.served_run import served_in_words
from premem_core.scoring.spec import ScoringSpec, Split, check_spec
from premem_core.store.database import Store
from premem_core.store.job_folder import JobFolder


@dataclass(frozen=True)
class PreparedJob:
    """A job that can be created, and what it would do.

    Args:
        train, test: the problems to score.
        base: the base model, as a checkpoint of step 0, if it is to be scored.
    """

    data: RequestedData
    spec: ScoringSpec
    task: str
    train: tuple[Example, ...]
    test: tuple[Example, ...]
    user_perturbations: UserPerturbations
    execution: Execution
    base: Checkpoint | None = None

    @property
    def unseen(self) -> tuple[Example, ...]:
        """Problems that the run was not trained on, whose perplexities are measured."""
        return self.data.unseen.examples if self.data.unseen else ()

    @property
    def steps(self) -> list[int]:
        """The checkpoints' steps, in training order."""
        return [checkpoint.step for checkpoint in self.data.run.checkpoints]

    @cached_property
    def completions(self) -> int:
        """The number of completions to draw; an upper bound unless the plan is full."""
        return work_left.most_completions(self.spec, self.steps, self.train, self.test)

    @property
    def perplexities(self) -> int:
        """The number of perplexities to measure."""
        models = len({*self.steps, *([self.base.step] if self.base else [])})
        return models * (work_left.targets(self.spec, self.train, self.test) + len(self.unseen))

    @property
    def design(self) -> Design | None:
        """What the plan "last" samples of a checkpoint; None for the other plans."""
        spec, n = self.spec, len(self.train)
        if spec.plan != "last" or not n:
            return None
        return Design(n, spec.share_of_examples.size(n), spec.sampling.samples)

    @property
    def avoidable(self) -> int:
        """The number of completions that may not be needed once perplexities are measured."""
        if self.spec.plan == "full":
            return 0
        rows = self.design.rows if self.design else len(self.train)
        return len(self.steps) * rows * self.spec.sampling.samples

    def inspect(self) -> Inspection:
        """What the model would see at the last checkpoint; its tokenizer is loaded.

        Raises:
            CheckpointError, DataError: as `inspect_checkpoint`.
        """
        positions = self.data.server.positions if self.data.server else None
        return inspect_job(self.spec, self.data.run, self.train, self.test, positions)

    def inspect_apart(self) -> Inspection:
        """The same, in a separate process.

        Raises:
            JobError: the checkpoint or the problems cannot be used; the message says why.
        """
        return read_inspection(ask_about(self, "inspect"))

    def without(self, left_out: Sequence[LeftOut]) -> "PreparedJob":
        """The job without the problems that cannot be scored."""
        gone = {(left.split, left.id) for left in left_out}
        return replace(
            self,
            train=tuple(e for e in self.train if ("train", e.id) not in gone),
            test=tuple(e for e in self.test if ("test", e.id) not in gone),
            user_perturbations={
                (split, name): [e for e in members if (split, e.id) not in gone]
                for (split, name), members in self.user_perturbations.items()
            },
        )

    def summary(self) -> list[str]:
        """Sentences that say what the job would do."""
        run, spec = self.data.run, self.spec
        lines = [f"run {spec.run}: {len(run.checkpoints)} checkpoints in {run.path}"]
        lines += [f"left out: {skipped.path.name}, {skipped.reason}" for skipped in run.skipped]
        lines += [f"note: {note}" for note in run.notes]
        lines += [f"base model, scored as step 0: {self.base.path}"] if self.base else []
        lines += served_in_words(run, self.data.server) if self.data.server else []
        lines += [_problems("train", self.data.train)]
        lines += [_problems("test", self.data.test)] if self.data.test else []
        lines += [_problems("held out", self.data.unseen)] if self.data.unseen else []
        lines.append(self.data.train.fields_in_words())
        lines.append(f"template: {template_in_words(spec.template)}")
        if spec.thinking:
            lines.append(f"thinking traces between {spec.thinking}")
        if len(self.train) < len(self.data.train.examples):
            lines.append(f"train problems to score: {len(self.train)}, drawn at random")
        if self.data.test and len(self.test) < len(self.data.test.examples):
            lines.append(f"test problems to score: {len(self.test)}, drawn at random")
        lines.append(f"grader: {spec.grader}; backend: {spec.backend}")
        at_most = "" if spec.plan == "full" else "at most "
        lines.append(f"completions in all: {at_most}{self.completions:,}")
        if spec.plan != "full":
            lines.append(
                f"plan {spec.plan}, t = {spec.log_log_threshold:.3f}: {self.avoidable_in_words()}"
            )
        if self.design:
            lines.append(f"precision: {self.design.in_words()}")
        return lines

    def avoidable_in_words(self) -> str:
        """How many completions the plan may leave out, as a sentence."""
        return (
            f"Up to {self.avoidable:,} of the completions may not be needed, which is known once "
            "the perplexities are measured."
        )

    def create(
        self,
        store: Store,
        *,
        resume: bool = False,
        extend: bool = False,
        mix_settings: bool = False,
    ) -> JobFolder:
        """Create the job in a store, or resume or extend the one that is there.

        Raises:
            JobError, StoreError, CheckpointError: as `create_job` does.
        """
        return jobs.create_job(
            store,
            self.spec,
            self.data.run,
            self.task,
            self.train,
            self.test,
            trained_on=len(self.data.train.examples),
            resume=resume,
            extend=extend,
            mix_settings=mix_settings,
            execution=self.execution,
            user_perturbations=self.user_perturbations,
            unseen=self.unseen,
        )


def default_task(source: Source) -> str:
    """The name of the folder that holds the data."""
    return find_data_files(source)[0].resolve().parent.name


def prepare(
    request: ScoreRequest,
    data: RequestedData | None = None,
    find_threshold: Callable[[str, Segment, Plan], float | None] = lambda task, segment, plan: None,
) -> PreparedJob:
    """Read the data of a request, choose its missing values, and check all of them.

    Neither a store nor a job is created.

    Args:
        data: the result of `read_requested_data`; None to read the data here.
        find_threshold: function that returns a task's best threshold for a segment and a plan;
            None if there is none. It is called if the plan needs a threshold and the request has
            none.

    Raises:
        CheckpointError, DataError, UsageError: as `read_requested_data` does.
        CheckpointError: the base model is to be scored, and cannot be used.
        UsageError: the text or the file of a perturbation cannot be used; or as `check_spec` does.
        JobError: as `check_spec` does.
    """
    data = read_requested_data(request) if data is None else data
    seed = request.sampling.seed
    train = draw(data.train.examples, request.train_sample, seed)
    task = default_task(request.train_file) if request.task is None else request.task
    threshold = request.log_log_threshold
    if request.plan != "full" and threshold is None:
        threshold = find_threshold(task, request.segment, request.plan)
    last = data.run.checkpoints[-1]
    template = request.template or choose_template(data.train, last, request.form)
    template = as_trained(template, data.train, last)
    if request.stop is not None:
        template = replace(template, stop=request.stop)
    marks = choose_marks(data.train, last, template, request.thinking)
    test = draw_first(data.test.examples, request.test_sample, seed) if data.test else ()
    perturbed = _user_perturbations(request, train, test)
    names = tuple(dict.fromkeys([*request.perturbations, *(name for _, name in perturbed)]))
    given = request.execution.base_folder
    base = base_checkpoint(data.run, given) if request.score_base else None
    models = {*data.run.checkpoints, *([base] if base else [])}
    request = within_budget(request, len(train), len(models), len(test))
    spec = ScoringSpec(
        run=request.run_name,
        grader=choose_grader(request, data.train),
        backend=request.backend or load_backend.default_backend(),
        template=template,
        thinking=str(marks) if marks else None,
        longest=request.longest,
        tokens=request.tokens,
        held_out=_can_hold_out(train, test),
        sampling=request.sampling,
        chunk_examples=request.chunk_examples,
        plan=request.plan,
        log_log_threshold=threshold,
        share=request.share,
        segment=request.segment,
        perturbations=names,
        perturb_all=request.perturb_all,
        perturb_controls=request.perturb_controls,
        score_base=request.score_base,
    )
    check_spec(spec, {name for _, name in perturbed})
    return PreparedJob(data, spec, task, train, test, perturbed, request.execution, base)


def within_budget(request: ScoreRequest, train: int, checkpoints: int, test: int) -> ScoreRequest:
    """The request with the share and the number of samples that its budget allows.

    Args:
        train, checkpoints, test: how many training problems, checkpoints and test problems there
            are; the base model counts as a checkpoint if it is scored.

    Raises:
        UsageError: the plan takes no budget, both kinds of budget are given, or it is too small.
    """
    if request.precision is None and request.generations is None:
        return request
    if request.plan != "last":
        raise UsageError(
            f"a precision or a number of generations is for the plan last, not for {request.plan}; "
            "give --plan last, or the number of samples instead"
        )
    if request.precision is not None and request.generations is not None:
        raise UsageError("precision and generations are two budgets; give only one of them")
    if request.precision is not None:
        design = budget.for_precision(request.precision / 100, train)
    else:
        design = budget.for_generations(request.generations or 0, train, checkpoints, test)
    sampling = replace(request.sampling, samples=design.samples)
    return replace(request, share=design.fraction, sampling=sampling)


def choose_grader(request: ScoreRequest, train: Dataset) -> str:
    """The grader's text: the one asked for, or the one that reads the training solutions.

    A pattern that finds the references' answers reads completions too, and so do marks of thinking
    that a person gave.

    Raises:
        UsageError: there is no such grader, or the marks cannot be read.
    """
    rule = grading_rule(train)
    grader = request.grader or guess_grader(train.examples, rule)
    marks = request.thinking if request.thinking not in (None, "none") else None
    return canonical_grader(with_settings(grader, rule=rule, marks=marks))


def grading_rule(train: Dataset) -> AnswerRule | None:
    """The rule by which a grader reads completions too: a pattern that finds the references."""
    return train.fields.answer if train.fields.answer.kind == "regex" else None


def inspect_job(
    spec: ScoringSpec,
    run: Run,
    train: Sequence[Example],
    test: Sequence[Example],
    positions: int | None = None,
) -> Inspection:
    """What the model would see of a job's problems at the last checkpoint.

    The grader is checked on the training solutions, which it must be able to read.

    Args:
        positions: as for `inspect_checkpoint`.

    Raises:
        CheckpointError, DataError: as `inspect_checkpoint`.
        DataError: the grader cannot read the training solutions.
    """
    check = check_references(spec.grader, train)
    require_readable(check)
    found = inspect_checkpoint(
        run.checkpoints[-1],
        spec.template,
        spec.marks,
        spec.longest,
        train,
        test,
        spare=0 if spec.backend == "hf" else 1,  # others generate a token after each target
        positions=positions,
    )
    if check.failed:
        first = check.example.id if check.example else ""
        sentence = (
            f"the grader {grader_label(spec.grader)} takes {check.failed:,} of {check.n:,} "
            f"training solutions for wrong, the first that of '{first}'"
        )
        found = replace(found, warnings=(sentence, *found.warnings))
    return found


def _user_perturbations(
    request: ScoreRequest, train: Sequence[Example], test: Sequence[Example]
) -> UserPerturbations:
    """The problems under each perturbation of the user's own; a file is of training problems."""
    found: dict[tuple[Split, str], Sequence[Example]] = {}
    for name, text in request.perturbation_texts.items():
        found["train", name] = user_perturbations.from_template(text, train)
        if request.perturb_controls:
            found["test", name] = user_perturbations.from_template(text, test)
    for name, file in request.perturbation_files.items():
        found["train", name] = user_perturbations.read_perturbed(file, train)
    return found


def _can_hold_out(train: Sequence[Example], test: Sequence[Example]) -> bool:
    """Whether the test problems have solutions like the training ones, not only final answers."""
    return bool(test) and (_has_solutions(test) or not _has_solutions(train))


def _has_solutions(examples: Sequence[Example]) -> bool:
    """Whether most examples have more than a final answer."""
    return 2 * sum(e.solution.strip() != e.answer.strip() for e in examples) > len(examples)


def _problems(split: str, data: Dataset) -> str:
    skipped = f", {len(data.skipped)} bad rows left out" if data.skipped else ""
    return f"{split}: {len(data.examples)} problems from {data.name}{skipped}"
