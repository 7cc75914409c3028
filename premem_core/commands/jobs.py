"""The commands under `jobs`: list, run, estimate, extend and cancel scoring jobs."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from premem_core.analysis import curves, run_scores
from premem_core.analysis.base_model import base_in_words, read_base_model
from premem_core.commands.options import (
    JsonOption,
    StoreOption,
    existing_store,
    plan_threshold,
    print_json,
    say,
    task_of,
)
from premem_core.metrics.sampling_plan import Plan
from premem_core.scoring.progress import Progress, checkpoint_name
from premem_core.store.database import Store

if TYPE_CHECKING:
    from premem_core.scoring.spec import ScoringSpec

jobs_app = typer.Typer(no_args_is_help=True, help="List, run, extend and cancel scoring jobs.")


@jobs_app.command("list")
def jobs_list(store: StoreOption = Path("store"), as_json: JsonOption = False) -> None:
    """List the scoring jobs of a store with their states and progress."""
    from dataclasses import asdict

    from premem_core.scoring import jobs

    found = jobs.all_job_progress(existing_store(store))
    if as_json:
        print_json([asdict(job) for job in found])
        return
    for job in found:
        done = f"{job.completions_done}/{job.completions_total}"
        typer.echo(f"{job.run}\t{job.state}\t{done}\t{job.message}")


@jobs_app.command("run")
def jobs_run(run: str, store: StoreOption = Path("store")) -> None:
    """Do the remaining work of a job in this process; the dashboard starts jobs this way."""
    run_job(existing_store(store), run)


@jobs_app.command("estimate")
def jobs_estimate(
    run: str, store: StoreOption = Path("store"), as_json: JsonOption = False
) -> None:
    """Estimate the time and disk space of a job from a few of its problems; keep no results."""
    from dataclasses import asdict

    from premem_core.scoring import job_files
    from premem_core.scoring.executors import local
    from premem_core.scoring.preparation.estimate import estimate_job
    from premem_core.scoring.served_run import server_of

    home = existing_store(store)
    spec, checkpoints_of_run, queries = job_files.read_job(home, run)
    server = None
    if spec.backend == "server":
        execution = job_files.read_execution(job_files.existing_job_folder(home, run))
        server = server_of(execution, checkpoints_of_run)
    found = estimate_job(
        spec,
        checkpoints_of_run,
        job_files.read_training_problems(home, run)[0],
        job_files.test_problems(queries),
        store,
        local.devices(None, backend=spec.backend),
        server,
    )
    if as_json:
        print_json(asdict(found))
    else:
        say(found.in_words())


@jobs_app.command("inspect")
def jobs_inspect(run: str, store: StoreOption = Path("store"), as_json: JsonOption = False) -> None:
    """Show the first problems of a job as the model sees them, token by token."""
    from premem_core.commands.score import inspected
    from premem_core.scoring import job_files
    from premem_core.scoring.preparation.prepare import inspect_job

    spec, checkpoints_of_run, queries = job_files.read_job(existing_store(store), run)
    test = job_files.test_problems(queries)
    found = inspect_job(spec, checkpoints_of_run, job_files.training_problems(queries), test)
    if as_json:
        print_json(found.as_json())
        return
    for line in inspected(found):
        say(line)


@jobs_app.command("templates")
def jobs_templates(
    run: str, store: StoreOption = Path("store"), as_json: JsonOption = False
) -> None:
    """Compare the NLL of a job's problems under a plain and a chat template."""
    from dataclasses import asdict

    from premem_core.models.encoding import template_choice
    from premem_core.scoring import job_files

    _, checkpoints_of_run, queries = job_files.read_job(existing_store(store), run)
    compared = template_choice.compare_templates(
        checkpoints_of_run.checkpoints[-1], job_files.training_problems(queries)
    )
    if as_json:
        print_json({"compared": [asdict(one) for one in compared]})
        return
    for line in template_choice.compared_in_words(compared):
        say(line)


@jobs_app.command("extend")
def jobs_extend(
    run: str,
    store: StoreOption = Path("store"),
    samples: Annotated[
        int | None, typer.Option(min=1, help="Samples per problem in total.")
    ] = None,
    plan: Annotated[Plan | None, typer.Option(help="The plan: full, lazy, final or last.")] = None,
    share: Annotated[
        float | None,
        typer.Option(min=0.001, max=1, help="The part of the problems that the plan last samples."),
    ] = None,
    log_log_threshold: Annotated[
        float | None, typer.Option(help="t = log log PPL, the threshold of the plan.")
    ] = None,
    perturb: Annotated[list[str] | None, typer.Option(help="Perturbations to add.")] = None,
    perturb_controls: Annotated[
        bool,
        typer.Option(
            "--perturb-controls",
            help="Also sample the controls of the perturbations, but of none of your own.",
        ),
    ] = False,
    score_base: Annotated[
        bool, typer.Option("--score-base", help="Also score the run's base model, as step 0.")
    ] = False,
    base: Annotated[
        Path | None, typer.Option(help="The folder of the run's base model, for --score-base.")
    ] = None,
) -> None:
    """Add samples, perturbations or the base model to a job, or change its plan, and run it.

    Existing scores are kept. To add checkpoints or problems, use `score --extend`.

    Example: python -m premem_core jobs extend lr2e-5 --samples 10
    """
    from premem_core.scoring import job_files, jobs

    home = existing_store(store)
    spec = job_files.read_job_spec(home, run)
    if log_log_threshold is None and spec.log_log_threshold is None and plan not in (None, "full"):
        log_log_threshold = plan_threshold(
            store, task_of(home, run), spec.segment, plan or spec.plan
        )
    changes = {
        "samples": samples,
        "plan": plan,
        "share": share,
        "log_log_threshold": log_log_threshold,
        "score_base": score_base or None,
        "perturb_controls": perturb_controls or None,
    }
    jobs.extend_job(
        home,
        run,
        base=base,
        perturbations=tuple(dict.fromkeys((*spec.perturbations, *(perturb or ())))),
        **{name: value for name, value in changes.items() if value is not None},
    )
    run_job(home, run)


@jobs_app.command("cancel")
def jobs_cancel(run: str, store: StoreOption = Path("store")) -> None:
    """Stop a running or waiting job; its finished results are kept."""
    from premem_core.scoring import jobs

    jobs.cancel_job(existing_store(store), run)


def run_job(store: Store, run: str) -> None:
    """Do the remaining work of a job, print its progress, and exit with 0 if it is done, else 1."""
    raise typer.Exit(0 if finish_job(store, run) == "done" else 1)


def finish_job(store: Store, run: str) -> str:
    """Do the remaining work of a job, and print its progress; return the state in which it ends."""
    from premem_core.scoring import job_files, job_process

    end = job_process.run_job(store, run, print_progress)
    say(f"{end.state}{': ' + end.message if end.message else ''}")
    spec = job_files.read_job_spec(store, run)
    if end.completions_saved:
        full = end.completions_done + end.completions_saved
        say(
            f"{end.completions_done:,} completions drawn in all; every sample of every problem "
            f"would be {full:,} (plan {spec.plan}, t = {spec.log_log_threshold:.3f})"
        )
    if spec.plan == "last" and end.state == "done":
        say(_precision_in_words(store, spec))
    if base := read_base_model(store, run):
        for sentence in base_in_words(base):
            say(sentence)
    return end.state


def _precision_in_words(store: Store, spec: "ScoringSpec") -> str:
    """How precise the accuracies of the run's checkpoints became, as a sentence."""
    runs = run_scores.read_task(store, task_of(store, spec.run), spec.segment)
    scores = run_scores.find_run(runs, spec.run)
    assert scores is not None  # its job has just ended
    assert spec.log_log_threshold is not None
    line = curves.curve(scores, spec.log_log_threshold, "lu")
    largest = 100 * float(line.sampling_error.max())
    return (
        f"pre-memorization accuracy (lu estimator) at checkpoint {line.scores.steps[-1]}: "
        f"{line.premem[-1]:.1%}; the standard error of a checkpoint from its samples is at most "
        f"{largest:.2f} points"
    )


def print_progress(progress: Progress) -> None:
    """Print one line about the progress of a job."""
    share = progress.completions_done / max(1, progress.completions_total)
    left = progress.seconds_left
    rest = f", {left / 60:.1f} min left" if left is not None else ""
    active = [
        f"{checkpoint_name(checkpoint.step)}: {checkpoint.state}"
        for checkpoint in progress.checkpoints
        if checkpoint.state not in ("waiting", "scored", "failed")
    ]
    where = "; ".join(active) or progress.message or progress.state
    rate = f"{progress.completions_per_second:.0f}/s"
    say(f"{share:6.1%}  {where}  {progress.completions_done:,} completions, {rate}{rest}")
