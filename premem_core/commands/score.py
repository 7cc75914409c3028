"""score, and jobs list, run, extend, cancel."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from premem_core.analysis import curves, run_scores
from premem_core.commands.jobs import run_job, say_estimate
from premem_core.commands.options import StoreOption, existing_store, say
from premem_core.errors import PrememError, UsageError
from premem_core.metrics.sampling_plan import Plan
from premem_core.scoring.job_files import ExecutorName
from premem_core.store.database import Store

if TYPE_CHECKING:
    from premem_core.records import Example

AnswerOption = Annotated[
    str | None,
    typer.Option(
        "--answer", help=r"Where the final answer is: field:NAME, hash (#### x), boxed, regex:…"
    ),
]


def score(
    run_dir: Annotated[Path, typer.Argument(help="A run's folder with checkpoint-<step> in it.")],
    train: Annotated[Path, typer.Option(help="The training problems: JSONL, CSV or Parquet.")],
    store: StoreOption = Path("store"),
    test: Annotated[Path | None, typer.Option(help="The test problems.")] = None,
    run: Annotated[str | None, typer.Option(help="The run's name; default: its folder's.")] = None,
    task: Annotated[
        str | None,
        typer.Option(help="Runs of one task are fitted together; default: the data's folder."),
    ] = None,
    backend: Annotated[
        str | None, typer.Option(help="vllm, or hf (transformers); default: vllm if installed.")
    ] = None,
    grader: Annotated[
        str | None,
        typer.Option(help="gsm8k, math or paper; default: math where the answer is boxed."),
    ] = None,
    plan: Annotated[
        Plan,
        typer.Option(
            help="full; lazy: only what PM needs at one threshold; final: of the last checkpoint."
        ),
    ] = "full",
    log_log_threshold: Annotated[
        float | None,
        typer.Option(
            help="t = log log PPL of the plan; default: the optimum over the task's scored runs."
        ),
    ] = None,
    perturb: Annotated[
        list[str] | None,
        typer.Option(
            help="Sample perturbed training queries too: first, we-know-that, rename, swap, "
            "reorder, insert, redraw."
        ),
    ] = None,
    perturb_template: Annotated[
        list[str] | None,
        typer.Option(help=r"... in a text of your own: polite='Please solve: {question}'."),
    ] = None,
    perturb_file: Annotated[
        list[str] | None,
        typer.Option(
            help="... from a file: hand=FILE, with question, id or original, and answer if another."
        ),
    ] = None,
    perturb_all: Annotated[
        bool, typer.Option(help="... at every checkpoint; default: at the last one.")
    ] = False,
    samples: Annotated[int, typer.Option(min=1, help="Completions per problem.")] = 5,
    temperature: Annotated[float, typer.Option(min=0)] = 0.8,
    top_p: Annotated[float, typer.Option(min=0.01, max=1)] = 0.95,
    max_new_tokens: Annotated[int, typer.Option(min=1)] = 512,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    question: Annotated[str | None, typer.Option(help="Field of the question.")] = None,
    solution: Annotated[str | None, typer.Option(help="Field of the solution.")] = None,
    answer: AnswerOption = None,
    prompt_template: Annotated[str, typer.Option()] = r"{question}\nAnswer:",
    target_template: Annotated[str, typer.Option()] = r" {solution}\nDone.",
    stop: Annotated[str, typer.Option(help="Text that ends a completion.")] = r"\nDone.",
    train_sample: Annotated[
        int | None, typer.Option(min=1, help="Score this many random training problems only.")
    ] = None,
    chunk_examples: Annotated[int, typer.Option(min=1, help="Problems per unit of work.")] = 128,
    skip_bad: Annotated[bool, typer.Option(help="Leave bad rows out, and count them.")] = False,
    resume: Annotated[bool, typer.Option(help="Continue a job that was stopped.")] = False,
    extend: Annotated[
        bool,
        typer.Option(help="Ask more of a job: samples, checkpoints, problems, perturbations."),
    ] = False,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Checkpoints at once; default: one per GPU.")
    ] = None,
    tensor_parallel: Annotated[int, typer.Option(min=1, help="GPUs per worker.")] = 1,
    executor: Annotated[ExecutorName, typer.Option(help="This machine, or Ray.")] = "local",
    address: Annotated[str | None, typer.Option(help="Of the Ray cluster.")] = None,
    shards: Annotated[
        str | None,
        typer.Option(help="An fsspec prefix, for Ray workers that do not see the store's folder."),
    ] = None,
    measure_weights: Annotated[
        bool,
        typer.Option(
            "--weights", help="Then measure distance from initialization and gradient variance."
        ),
    ] = False,
    base: Annotated[
        Path | None,
        typer.Option(help="For --weights: folder of the model that the run began with."),
    ] = None,
    dry_run: Annotated[bool, typer.Option(help="Show what would be done, and stop.")] = False,
    estimate: Annotated[
        bool, typer.Option(help="Score a few problems, say how long it would take, and stop.")
    ] = False,
) -> None:
    r"""Score every checkpoint of a run: perplexities, samples, grades.

    Example: python -m premem_core score runs/lr2e-5 --train train.jsonl --test test.jsonl
    """
    from premem_core.models import checkpoints, load_backend
    from premem_core.problems.examples import draw, read_examples
    from premem_core.problems.fields import choose_fields, likely_grader
    from premem_core.problems.prompts import PromptTemplate
    from premem_core.records import Sampling
    from premem_core.scoring import job_files, jobs, work_left
    from premem_core.scoring.estimate import estimate_job
    from premem_core.scoring.executors import local
    from premem_core.scoring.spec import ScoringSpec, check_spec

    checkpoints_of_run = checkpoints.read_run(run_dir)
    fields = choose_fields(train, question, solution, answer)
    train_data = read_examples(train, fields, skip_bad=skip_bad)
    test_data = read_examples(test, fields, skip_bad=skip_bad) if test else None
    trains = draw(train_data.examples, train_sample, seed)
    tests = test_data.examples if test_data else ()
    template = PromptTemplate(
        _unescaped(prompt_template),
        _unescaped(target_template),
        (_unescaped(stop),) if stop else (),
    )
    own = _own_perturbations(trains, perturb_template or (), perturb_file or ())
    task = task or train.resolve().parent.name
    if plan != "full" and log_log_threshold is None:
        log_log_threshold = _task_threshold(store, task)
    spec = ScoringSpec(
        run=run or run_dir.resolve().name,
        grader=grader or likely_grader(fields),
        backend=backend or load_backend.default_backend(),
        template=template,
        sampling=Sampling(samples, temperature, top_p, max_new_tokens, seed),
        chunk_examples=chunk_examples,
        plan=plan,
        log_log_threshold=log_log_threshold,
        perturbations=tuple(dict.fromkeys((*(perturb or ()), *own))),
        perturb_all=perturb_all,
    )
    check_spec(spec, own)
    execution = job_files.Execution(
        executor,
        workers,
        tensor_parallel,
        address,
        shards,
        measure_weights,
        str(base.resolve()) if base else None,
    )
    prompt, target = template.fill(train_data.examples[0])
    say(f"run {spec.run}: {len(checkpoints_of_run.checkpoints)} checkpoints in {run_dir}")
    for name, data in (("train", train_data), ("test", test_data)):
        if data:
            skipped = f", {len(data.skipped)} bad rows left out" if data.skipped else ""
            say(f"{name}: {len(data.examples)} problems from {data.path}{skipped}")
    say(f"the first prompt and target, as the model sees them:\n{prompt!r}\n{target!r}")
    if len(trains) < len(train_data.examples):
        say(f"scored of the train problems: {len(trains)}, drawn at random")
    steps = [checkpoint.step for checkpoint in checkpoints_of_run.checkpoints]
    total = work_left.most_completions(spec, steps, trains, tests)
    say(f"grader: {spec.grader}; backend: {spec.backend}")
    say(f"completions to draw: {'at most ' if plan != 'full' else ''}{total:,}")
    if plan != "full":
        of_train = work_left.most_completions(replace(spec, perturbations=()), steps, trains, ())
        say(
            f"plan {plan}, t = {log_log_threshold:.3f}: up to {of_train:,} of them may prove not "
            "needed; the perplexities, measured first, will tell"
        )
    if estimate:
        devices = local.devices(workers, tensor_parallel)
        say("scoring a few problems to see how long it takes ...")
        say_estimate(estimate_job(spec, checkpoints_of_run, trains, tests, store, devices))
    if dry_run or estimate:
        return
    home = Store(store)
    jobs.create_job(
        home,
        spec,
        checkpoints_of_run,
        task,
        trains,
        tests,
        trained_on=len(train_data.examples),
        resume=resume,
        extend=extend,
        execution=execution,
        own=own,
    )
    run_job(home, spec.run)


def _own_perturbations(
    examples: "Sequence[Example]", templates: Sequence[str], files: Sequence[str]
) -> "dict[str, Sequence[Example]]":
    """The examples under each of the user's own perturbations, given as NAME=TEXT and NAME=FILE."""
    from premem_core.problems import user_perturbations

    def from_text(text: str) -> "Sequence[Example]":
        return user_perturbations.from_template(_unescaped(text), examples)

    def from_file(path: str) -> "Sequence[Example]":
        return user_perturbations.read_perturbed(Path(path), examples)

    own: dict[str, Sequence[Example]] = {}
    for option, given, read in (("template", templates, from_text), ("file", files, from_file)):
        for each in given:
            name, equals, value = each.partition("=")
            if not equals or name in own:
                raise UsageError(
                    f"--perturb-{option} {each!r}: give each a name of its own, as NAME={option}"
                )
            own[name] = read(value)
    return own


def _task_threshold(store: Path, task: str) -> float | None:
    """The optimum over the task's runs that are scored; None where there is none."""
    try:
        fit = curves.best_threshold(run_scores.read_task(existing_store(store), task))
    except PrememError:
        return None
    say(f"threshold of the plan: t = {fit.log_log_threshold:.3f}, the optimum over task '{task}'")
    return fit.log_log_threshold


def _unescaped(text: str) -> str:
    r"""A shell cannot easily give a line break: \n stands for one."""
    return text.replace("\\n", "\n")
