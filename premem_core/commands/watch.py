"""watch: score each checkpoint of a run while it still trains."""

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

from premem_core.analysis import curves, run_scores
from premem_core.commands.job_options import JobOptions
from premem_core.commands.jobs import print_progress
from premem_core.commands.options import plan_threshold, say, takes_options
from premem_core.grading.graders import make_grader
from premem_core.store.database import Store

if TYPE_CHECKING:
    from premem_core.scoring.preparation.prepare import PreparedJob


@dataclass(frozen=True, kw_only=True)
class WatchOptions(JobOptions):
    """The options of the command `watch`: those of a job, and when it ends."""

    idle: Annotated[
        float,
        typer.Option(min=0, help="End after this many minutes without a new checkpoint."),
    ] = 60.0
    pid: Annotated[
        int | None, typer.Option(help="The trainer's process; end when it has ended.")
    ] = None
    keep_weights: Annotated[
        bool,
        typer.Option(
            "--keep-weights",
            help="Keep the weights of scored checkpoints that the trainer deletes; default: only "
            "until they are scored.",
        ),
    ] = False


@takes_options(WatchOptions)
def watch(options: WatchOptions) -> None:
    """Score each checkpoint of a run as soon as it is whole, while the run still trains.

    It ends when the trainer has done all its steps, its process has ended, or no new checkpoint
    came for a while. Started again, it goes on where it was.

    Example: python -m premem_core watch runs/lr2e-5 --train train.jsonl --precision 2
    """
    from premem_core.scoring.watching.watch import Patience, Watch

    request = options.request()
    if request.grader:  # the person who gives the command allows the code of a grader
        make_grader(request.grader, allow_code=True).close()
    store = Store(options.store)
    watched = Watch(
        store,
        request,
        say,
        print_progress,
        partial(_say_results, store),
        partial(plan_threshold, options.store),
        options.keep_weights,
    ).watch(Patience(60 * options.idle, options.pid))
    for sentence in watched.lost:
        say(f"not scored: {sentence}")
    ended = "ended" if watched.state == "waiting" else watched.state
    say(f"{ended}{': ' + watched.message if watched.message else ''}")
    if watched.state != "done" or watched.lost:
        raise typer.Exit(1)


def _say_results(store: Store, job: "PreparedJob") -> None:
    """Print what is known of each checkpoint so far, where the plan has a threshold."""
    t = job.spec.log_log_threshold
    runs = run_scores.read_task(store, job.task, job.spec.segment)
    scores = run_scores.find_run(runs, job.spec.run)
    if t is None or scores is None:
        return
    line = curves.curve(scores, t, run_scores.default_estimator([scores]))
    for c, step in enumerate(line.scores.steps.tolist()):
        premem = (
            f"{line.premem[c]:.1%} (± {100 * line.premem_half[c]:.1f} points at 90 %, "
            f"{line.estimator} estimator)"
        )
        if line.unknown[c]:
            premem = "not known, because the plan left out samples that it needs"
        say(
            f"checkpoint {step}: pre-memorization accuracy {premem}; memorized "
            f"{line.memorized[c]:.1%}"
        )
