"""score: perplexities, samples and grades of every checkpoint of a run."""

from functools import partial
from pathlib import Path

from premem_core.analysis import curves, run_scores
from premem_core.commands.jobs import run_job, say_estimate
from premem_core.commands.options import existing_store, say, takes_options
from premem_core.commands.score_options import ScoreOptions
from premem_core.errors import PrememError
from premem_core.store.database import Store


@takes_options(ScoreOptions)
def score(options: ScoreOptions) -> None:
    r"""Score every checkpoint of a run: measure perplexities, draw samples and grade them.

    Example: python -m premem_core score runs/lr2e-5 --train train.jsonl --test test.jsonl
    """
    from premem_core.scoring.estimate import estimate_job
    from premem_core.scoring.executors import local
    from premem_core.scoring.prepare import prepare

    job = prepare(
        options.request(), find_threshold=partial(_task_threshold, store_folder=options.store)
    )
    for line in job.summary():
        say(line)
    if options.estimate:
        devices = local.devices(options.workers, options.tensor_parallel)
        say("scoring a few problems to see how long it takes ...")
        say_estimate(
            estimate_job(job.spec, job.data.run, job.train, job.test, options.store, devices)
        )
    if options.dry_run or options.estimate:
        return
    store = Store(options.store)
    job.create(store, resume=options.resume, extend=options.extend)
    run_job(store, job.spec.run)


def _task_threshold(task: str, store_folder: Path) -> float | None:
    """The best threshold over the task's scored runs; None if there is none."""
    try:
        fit = curves.best_threshold(run_scores.read_task(existing_store(store_folder), task))
    except PrememError:
        return None
    say(f"threshold of the plan: t = {fit.log_log_threshold:.3f}, the optimum over task '{task}'")
    return fit.log_log_threshold
