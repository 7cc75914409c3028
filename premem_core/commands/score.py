"""score: perplexities, samples and grades of every checkpoint of a run."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from premem_core.commands.job_options import JobOptions
from premem_core.commands.jobs import finish_job
from premem_core.commands.options import JsonOption, plan_threshold, print_json, say, takes_options
from premem_core.errors import CheckpointError, PrememError, UsageError
from premem_core.grading.graders import make_grader
from premem_core.store.database import Store
from premem_core.store.sample_imports import imported_in_words, imports_of

if TYPE_CHECKING:
    from premem_core.models.encoding.inspection import Inspection, SeenExample
    from premem_core.scoring.preparation.prepare import PreparedJob
    from premem_core.scoring.preparation.request import RequestedData, ScoreRequest

NAMED = 5  # problems that are left out, by name


@dataclass(frozen=True, kw_only=True)
class ScoreOptions(JobOptions):
    """The options of the command `score` alone."""

    checkpoints: Annotated[
        str | None,
        typer.Option(help="Only these checkpoints: names or steps, as 100,200,final."),
    ] = None
    all_runs: Annotated[
        bool,
        typer.Option(
            help="Score every run below the folder, one after another, each named by its path "
            "from there."
        ),
    ] = False
    resume: Annotated[bool, typer.Option(help="Continue a job that was stopped.")] = False
    extend: Annotated[
        bool,
        typer.Option(help="Add samples, checkpoints, problems or perturbations to a job."),
    ] = False
    mix_settings: Annotated[
        bool,
        typer.Option(
            help="Draw with other settings than those of the completions imported into the run."
        ),
    ] = False
    preview: Annotated[
        bool,
        typer.Option(
            help="Show the first problems token by token, as the model sees them, and stop."
        ),
    ] = False
    json: JsonOption = False
    dry_run: Annotated[bool, typer.Option(help="Show what would be done, and stop.")] = False
    estimate: Annotated[
        bool,
        typer.Option(help="Score a few problems, estimate the time and disk space, and stop."),
    ] = False

    def request(self) -> "ScoreRequest":
        """The request to score that these options describe.

        Raises:
            UsageError: as `JobOptions.request`.
        """
        only = tuple(filter(None, (self.checkpoints or "").split(",")))
        return replace(JobOptions.request(self), only=only)


@takes_options(ScoreOptions)
def score(options: ScoreOptions) -> None:
    r"""Score every checkpoint of a run: measure perplexities, draw samples and grade them.

    Example: python -m premem_core score runs/lr2e-5 --train train.jsonl --test test.jsonl
    """
    from premem_core.models.checkpoints import find_runs, run_names
    from premem_core.scoring.preparation.request import read_requested_data

    request = options.request()
    if request.grader:  # the person who gives the command allows the code of a grader
        make_grader(request.grader, allow_code=True).close()
    runs = find_runs(options.run_dir) if options.all_runs else []
    if len(runs) > 1:
        failed = bool(_score_all(options, request, run_names(options.run_dir, runs)))
    else:
        request = replace(request, run_folder=runs[0]) if runs else request
        failed = _score_run(options, request, read_requested_data(request)) != "done"
    if failed:
        raise typer.Exit(1)


def _score_all(options: ScoreOptions, request: "ScoreRequest", runs: dict[str, Path]) -> list[str]:
    """Score several runs, one after another; return those that failed, which stop no other.

    Raises:
        DataError, UsageError: the data, which they share, cannot be read; or they get one name.
    """
    if request.run:
        raise UsageError(
            f"--run {request.run!r} is one name, and {options.run_dir} holds {len(runs)} runs: "
            f"{', '.join(runs)}; leave --run out, or give the folder of one run"
        )
    from premem_core.scoring.preparation.request import read_requested_data

    failed, data, shown = [], None, dict[str, Any]()
    for number, (name, folder) in enumerate(runs.items(), start=1):
        say(f"run {number} of {len(runs)}: {name}")
        one = replace(request, run_folder=folder, run=name)
        try:
            data = read_requested_data(one, data)
        except CheckpointError as error:
            say(f"error: {name}: {error}")
            failed.append(name)
            continue
        ended = _ended(options, one, data, partial(shown.__setitem__, name))
        failed += [] if ended == "done" else [name]
        if ended == "cancelled":
            say(f"stopped at {name}; the same command with --resume goes on")
            return failed
    if shown:
        print_json({"runs": shown})
    if failed:
        say(f"{len(failed)} of {len(runs)} runs failed: {', '.join(failed)}")
    return failed


def _ended(
    options: ScoreOptions,
    request: "ScoreRequest",
    data: "RequestedData",
    show: Callable[[Any], None],
) -> str:
    """The state in which one of several runs ends; what is wrong with it is said."""
    try:
        return _score_run(options, request, data, show)
    except PrememError as error:
        say(f"error: {request.run}: {error}")
        return "failed"


def _score_run(
    options: ScoreOptions,
    request: "ScoreRequest",
    data: "RequestedData",
    show: Callable[[Any], None] = print_json,
) -> str:
    """Score one run, or only show what would be done; return the state in which its job ends.

    Args:
        show: called with what the model sees, if it is wanted as JSON.
    """
    from premem_core.scoring.preparation.request import with_kept, with_server

    data = with_kept(request, data, options.store)
    if request.backend == "server":
        data = with_server(request, data, options.store)
    job = _prepared(options, request, data)
    inspection = job.inspect()
    if options.preview and options.json:
        show(inspection.as_json())
        return "done"
    for line in [*job.summary(), *inspected(inspection, None if options.preview else 1)]:
        say(line)
    job = job.without(inspection.left_out)
    if options.estimate:
        _estimate(options, job)
    if options.preview or options.dry_run or options.estimate:
        return "done"
    store = Store(options.store)
    for line in imported_in_words(imports_of(store, job.spec.run)):
        say(line)
    job.create(
        store,
        resume=options.resume,
        extend=options.extend,
        mix_settings=options.mix_settings,
    )
    return finish_job(store, job.spec.run)


def _estimate(options: ScoreOptions, job: "PreparedJob") -> None:
    from premem_core.scoring.executors import local
    from premem_core.scoring.preparation.estimate import estimate_job

    devices = local.devices(options.workers, options.tensor_parallel, job.spec.backend)
    say("scoring a few problems to see how long it takes ...")
    found = estimate_job(
        job.spec, job.data.run, job.train, job.test, options.store, devices, job.data.server
    )
    say(found.in_words())


def _prepared(
    options: ScoreOptions, request: "ScoreRequest", data: "RequestedData"
) -> "PreparedJob":
    """The job of a run that the options describe.

    Raises:
        UsageError: a plain and a chat prompt are both possible, and neither was chosen.
    """
    from premem_core.scoring.preparation.prepare import prepare

    _choose_form(request, data)
    return prepare(request, data, partial(plan_threshold, options.store))


def _choose_form(request: "ScoreRequest", data: "RequestedData") -> None:
    """Compare the templates where both are possible and the person chose none."""
    from premem_core.models.encoding import template_choice
    from premem_core.scoring.served_run import last_served

    last = last_served(data.run, data.server)
    if request.template or request.form or not template_choice.is_ambiguous(data.train, last):
        return
    trained_plain = template_choice.is_prompt_completion(data.train)
    compared = template_choice.compare_templates(
        last, data.train.examples, is_typed=trained_plain, server=data.server
    )
    for line in template_choice.compared_in_words(compared):
        say(line)
    if trained_plain and compared[0].option == "--plain":
        return
    raise UsageError(
        "the checkpoint has a chat template and the rows are no conversations, so a plain and a "
        "chat prompt are both possible; choose --chat or --plain"
    )


def inspected(inspection: "Inspection", shown: int | None = None) -> list[str]:
    """What the model would see, in lines.

    Args:
        shown: the number of problems shown; None for all that were inspected.
    """
    lines = []
    for example in inspection.examples[:shown]:
        lines += [f"problem '{example.id}' as the model sees it:", *_seen(example)]
    lines.append(f"a completion ends at: {', '.join(map(repr, inspection.stops)) or 'nothing'}")
    lines += [f"warning: {sentence}" for sentence in inspection.warnings]
    if left := inspection.left_out:
        more = f" and {len(left) - NAMED} more" if len(left) > NAMED else ""
        named = ", ".join(f"'{one.id}' ({one.split}: {one.reason})" for one in left[:NAMED])
        lines.append(f"problems left out: {len(left)}: {named}{more}")
    return lines


def _seen(example: "SeenExample") -> list[str]:
    """The tokens of an example, one line for each run of tokens of one part."""
    lines: list[str] = []
    before = ""
    for token in example.tokens:
        shown = repr(token.text)[1:-1].replace("|", "¦")
        if token.part != before:
            lines.append(f"  {token.part:8}")
            before = token.part
        lines[-1] += f"|{shown}"
    return lines
