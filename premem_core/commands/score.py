"""score: perplexities, samples and grades of every checkpoint of a run."""

from functools import partial
from typing import TYPE_CHECKING

from premem_core.commands.jobs import run_job
from premem_core.commands.options import plan_threshold, print_json, say, takes_options
from premem_core.commands.score_options import ScoreOptions
from premem_core.errors import UsageError
from premem_core.grading.graders import make_grader
from premem_core.store.database import Store

if TYPE_CHECKING:
    from premem_core.models.encoding.inspection import Inspection, SeenExample
    from premem_core.scoring.prepare import PreparedJob, RequestedData, ScoreRequest

NAMED = 5  # problems that are left out, by name


@takes_options(ScoreOptions)
def score(options: ScoreOptions) -> None:
    r"""Score every checkpoint of a run: measure perplexities, draw samples and grade them.

    Example: python -m premem_core score runs/lr2e-5 --train train.jsonl --test test.jsonl
    """
    from premem_core.scoring.estimate import estimate_job
    from premem_core.scoring.executors import local

    job = _prepared(options)
    inspection = job.inspect()
    if options.preview and options.json:
        print_json(inspection.as_json())
        return
    for line in [*job.summary(), *inspected(inspection, None if options.preview else 1)]:
        say(line)
    job = job.without(inspection.left_out)
    if options.estimate:
        devices = local.devices(options.workers, options.tensor_parallel)
        say("scoring a few problems to see how long it takes ...")
        found = estimate_job(job.spec, job.data.run, job.train, job.test, options.store, devices)
        say(found.in_words())
    if options.preview or options.dry_run or options.estimate:
        return
    store = Store(options.store)
    job.create(store, resume=options.resume, extend=options.extend)
    run_job(store, job.spec.run)


def _prepared(options: ScoreOptions) -> "PreparedJob":
    """The job that the options describe.

    Raises:
        UsageError: a plain and a chat prompt are both possible, and neither was chosen.
    """
    from premem_core.scoring.prepare import prepare, read_requested_data

    request = options.request()
    if request.grader:  # the person who gives the command allows the code of a grader
        make_grader(request.grader, allow_code=True).close()
    data = read_requested_data(request)
    _choose_form(request, data)
    return prepare(request, data, partial(plan_threshold, options.store))


def _choose_form(request: "ScoreRequest", data: "RequestedData") -> None:
    """Compare the templates where both are possible and the person chose none."""
    from premem_core.models.encoding import template_choice

    last = data.run.checkpoints[-1]
    if request.template or request.form or not template_choice.is_ambiguous(data.train, last):
        return
    trained_plain = template_choice.is_prompt_completion(data.train)
    compared = template_choice.compare_templates(last, data.train.examples, is_typed=trained_plain)
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
