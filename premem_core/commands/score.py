"""score: perplexities, samples and grades of every checkpoint of a run."""

from functools import partial

from premem_core.commands.jobs import run_job
from premem_core.commands.options import plan_threshold, say, takes_options
from premem_core.commands.score_options import ScoreOptions
from premem_core.store.database import Store


@takes_options(ScoreOptions)
def score(options: ScoreOptions) -> None:
    r"""Score every checkpoint of a run: measure perplexities, draw samples and grade them.

    Example: python -m premem_core score runs/lr2e-5 --train train.jsonl --test test.jsonl
    """
    from premem_core.scoring.estimate import estimate_job
    from premem_core.scoring.executors import local
    from premem_core.scoring.prepare import prepare

    job = prepare(options.request(), find_threshold=partial(plan_threshold, options.store))
    for line in job.summary():
        say(line)
    if options.estimate:
        devices = local.devices(options.workers, options.tensor_parallel)
        say("scoring a few problems to see how long it takes ...")
        found = estimate_job(job.spec, job.data.run, job.train, job.test, options.store, devices)
        say(found.in_words())
    if options.dry_run or options.estimate:
        return
    store = Store(options.store)
    job.create(store, resume=options.resume, extend=options.extend)
    run_job(store, job.spec.run)
