"""The command line: `python -m premem_core <command> --help`.

Exit codes: 0 done, 1 failed, 2 wrong usage. A user's mistake is one sentence on stderr.
"""

import json
import math
import sys
import time
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from premem_core import curves, fits
from premem_core.errors import PrememError, UsageError
from premem_core.estimators import Estimator
from premem_core.jobs import Cancelled, Progress
from premem_core.sampling_plan import Plan
from premem_core.store import Store

if TYPE_CHECKING:
    from premem_core.calibration import Estimate

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Pre-memorization train accuracy of a fine-tuning run (arXiv 2411.07681).",
)
jobs_app = typer.Typer(no_args_is_help=True, help="List, run, watch and cancel scoring jobs.")
app.add_typer(jobs_app, name="jobs")

StoreOption = Annotated[Path, typer.Option("--store", help="The store's folder.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]
EstimatorOption = Annotated[
    Estimator,
    typer.Option(help="plain: the paper's formula; jackknife: less biased by few samples."),
]
AnswerOption = Annotated[
    str | None,
    typer.Option(
        "--answer", help=r"Where the final answer is: field:NAME, hash (#### x), boxed, regex:…"
    ),
]


@app.command()
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
        typer.Option(help="Sample perturbed training queries too: first, we-know-that."),
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
    executor: Annotated[str, typer.Option(help="local (this machine) or ray.")] = "local",
    address: Annotated[str | None, typer.Option(help="Of the Ray cluster.")] = None,
    shards: Annotated[
        str | None,
        typer.Option(help="An fsspec prefix, for Ray workers that do not see the store's folder."),
    ] = None,
    dry_run: Annotated[bool, typer.Option(help="Show what would be done, and stop.")] = False,
    estimate: Annotated[
        bool, typer.Option(help="Score a few problems, say how long it would take, and stop.")
    ] = False,
) -> None:
    r"""Score every checkpoint of a run: perplexities, samples, grades.

    Example: python -m premem_core score runs/lr2e-5 --train train.jsonl --test test.jsonl
    """
    from premem_core import (
        backends,
        calibration,
        checkpoints,
        datasets,
        jobs,
        processes,
        scoring,
    )
    from premem_core.scoring import ScoringSpec
    from premem_core.types import PromptTemplate, Sampling

    checkpoints_of_run = checkpoints.read_run(run_dir)
    fields = datasets.choose_fields(train, question, solution, answer)
    train_data = datasets.read_examples(train, fields, skip_bad=skip_bad)
    test_data = datasets.read_examples(test, fields, skip_bad=skip_bad) if test else None
    trains = datasets.draw(train_data.examples, train_sample, seed)
    tests = test_data.examples if test_data else ()
    template = PromptTemplate(
        _unescaped(prompt_template),
        _unescaped(target_template),
        (_unescaped(stop),) if stop else (),
    )
    task = task or train.resolve().parent.name
    if plan != "full" and log_log_threshold is None:
        log_log_threshold = _calibrated_threshold(store, task)
    spec = ScoringSpec(
        run=run or run_dir.resolve().name,
        grader=grader or datasets.likely_grader(fields),
        backend=backend or backends.default(),
        template=template,
        sampling=Sampling(samples, temperature, top_p, max_new_tokens, seed),
        chunk_examples=chunk_examples,
        plan=plan,
        log_log_threshold=log_log_threshold,
        perturbations=tuple(perturb or ()),
        perturb_all=perturb_all,
    )
    jobs.check_spec(spec)
    execution = jobs.Execution(executor, workers, tensor_parallel, address, shards)
    prompt, target = template.fill(train_data.examples[0])
    _say(f"run {spec.run}: {len(checkpoints_of_run.checkpoints)} checkpoints in {run_dir}")
    for name, data in (("train", train_data), ("test", test_data)):
        if data:
            skipped = f", {len(data.skipped)} bad rows left out" if data.skipped else ""
            _say(f"{name}: {len(data.examples)} problems from {data.path}{skipped}")
    _say(f"the first prompt and target, as the model sees them:\n{prompt!r}\n{target!r}")
    if len(trains) < len(train_data.examples):
        _say(f"scored of the train problems: {len(trains)}, drawn at random")
    steps = [checkpoint.step for checkpoint in checkpoints_of_run.checkpoints]
    total = scoring.at_most(spec, steps, trains, tests)
    _say(f"grader: {spec.grader}; backend: {spec.backend}")
    _say(f"completions to draw: {'at most ' if plan != 'full' else ''}{total:,}")
    if plan != "full":
        of_train = scoring.at_most(replace(spec, perturbations=()), steps, trains, ())
        _say(
            f"plan {plan}, t = {log_log_threshold:.3f}: up to {of_train:,} of them may prove not "
            "needed; the perplexities, measured first, will tell"
        )
    if estimate:
        devices = processes.devices(workers, tensor_parallel)
        _say("scoring a few problems to see how long it takes ...")
        _say_estimate(calibration.estimate(spec, checkpoints_of_run, trains, tests, store, devices))
    if dry_run or estimate:
        return
    home = Store(store)
    jobs.create(
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
    )
    _run_job(home, spec.run)


@app.command()
def fit(
    task: Annotated[str, typer.Option(help="The task whose runs are fitted together.")],
    store: StoreOption = Path("store"),
    log_log_threshold: Annotated[
        float | None, typer.Option(help="t = log log PPL; default: the optimum of identity R².")
    ] = None,
    estimator: EstimatorOption = "plain",
    as_json: JsonOption = False,
) -> None:
    """How well pre-memorization accuracy predicts test accuracy over a task's checkpoints.

    Example: python -m premem_core fit --store store --task gsm8k --log-log-threshold -2.3 --json
    """
    _print_fit(_existing(store), task, log_log_threshold, estimator, as_json)


@app.command()
def replay(
    task: Annotated[str, typer.Option(help="The task whose runs are replayed.")],
    store: StoreOption = Path("store"),
    samples: Annotated[int, typer.Option(min=1, help="K, drawn at random of each example's.")] = 5,
    plan: Annotated[
        Plan,
        typer.Option(help="lazy: what PM of every checkpoint needs; final: of the last; or full."),
    ] = "full",
    estimator: EstimatorOption = "plain",
    log_log_threshold: Annotated[
        float | None, typer.Option(help="t = log log PPL; default: the optimum of identity R².")
    ] = None,
    repeats: Annotated[int, typer.Option(min=1, help="How often the samples are drawn.")] = 20,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    as_json: JsonOption = False,
) -> None:
    """What a sampling plan and an estimator would have cost and said on data that is scored.

    Example: python -m premem_core replay --task gsm8k --log-log-threshold -2.3 --plan lazy
    """
    from premem_core.replay import PAPER_SAMPLES, replay

    runs = curves.read_task(_existing(store), task)
    threshold = log_log_threshold
    if threshold is None:
        threshold = curves.best_threshold(runs, estimator).log_log_threshold
    done = replay(runs, samples, plan, estimator, threshold, repeats, seed)
    if as_json:
        _print_json(
            {
                "generations_fraction": done.generations_fraction,
                "identity_r2": done.identity_r2,
                "identity_r2_sd": done.identity_r2_sd,
                "max_abs_difference_to_full": done.max_abs_difference_to_full,
                "bias_to_all_samples": done.bias_to_all_samples,
            }
        )
        return
    own = f", {done.own_fraction:.1%} of its with {samples}" if samples != PAPER_SAMPLES else ""
    typer.echo(
        f"{plan} plan, {samples} samples, {estimator} estimator, t = {threshold:.3f}, "
        f"{repeats} repeats\n"
        f"train generations: {done.generations_fraction:.1%} of the full plan's with "
        f"{PAPER_SAMPLES} samples{own}\n"
        f"identity R² {done.identity_r2:.3f}, standard deviation {done.identity_r2_sd:.3f} over "
        f"repeats, on {done.checkpoints} checkpoints\n"
        f"largest difference to the full plan's PM from the same samples: "
        f"{done.max_abs_difference_to_full:.3g} of one example, "
        f"{done.max_mean_difference_to_full:.2g} of a checkpoint's mean"
    )
    if not math.isnan(done.bias_to_all_samples):
        typer.echo(
            "bias of mean PM against all samples, where there are more: "
            f"{done.bias_to_all_samples:.4f} (root mean square over checkpoints)"
        )


@app.command()
def finetune(
    base: Annotated[Path, typer.Argument(help="Folder of the base model, in safetensors.")],
    train: Annotated[Path, typer.Option(help="The training problems: JSONL, CSV or Parquet.")],
    out: Annotated[Path, typer.Option(help="The run's folder: checkpoint-<step> go there.")],
    learning_rate: Annotated[float, typer.Option(help="The peak, after warm-up.")] = 2e-5,
    epochs: Annotated[int, typer.Option()] = 6,
    batch_size: Annotated[int, typer.Option(help="Examples in one forward pass.")] = 8,
    gradient_accumulation: Annotated[int, typer.Option(help="Passes per update.")] = 16,
    checkpoint_every: Annotated[int, typer.Option(help="Epochs between checkpoints.")] = 1,
    lora_rank: Annotated[int | None, typer.Option(help="Train a LoRA adapter instead.")] = None,
    warmup_steps: Annotated[int, typer.Option()] = 20,
    seed: Annotated[int, typer.Option()] = 0,
    skip_bad: Annotated[bool, typer.Option(help="Leave bad rows out, and count them.")] = False,
) -> None:
    """Fine-tune with the paper's recipe: a checkpoint per epoch, ready to be scored.

    Example: python -m premem_core finetune base --train train.jsonl --out runs/lr2e-5
    """
    from premem_core import datasets, training

    training.finetune(
        base,
        datasets.read_examples(train, skip_bad=skip_bad).examples,
        out,
        learning_rate=learning_rate,
        epochs=epochs,
        batch_size=batch_size,
        gradient_accumulation=gradient_accumulation,
        checkpoint_every=checkpoint_every,
        lora_rank=lora_rank,
        warmup_steps=warmup_steps,
        seed=seed,
        progress=_say,
    )
    _say(f"checkpoints are in {out}")


@app.command()
def demo(
    store: StoreOption = Path("store"),
    rebuild: Annotated[
        bool, typer.Option(help="Make the study from nothing: train, sample, score.")
    ] = False,
    ship: Annotated[
        Path | None, typer.Option(help="With --rebuild: copy what is shipped to this folder.")
    ] = None,
) -> None:
    """Put the shipped demo study into a new store, or make it anew (20 minutes on two cores).

    Example: python -m premem_core demo --store store
    """
    from premem_core import demo

    if not rebuild:
        demo.install(store)
        return
    started = time.monotonic()
    home = Store(store)
    demo.rebuild(home, _say)
    _say(f"the whole study took {(time.monotonic() - started) / 60:.1f} minutes")
    _print_fit(home, demo.TASK, None, "plain", as_json=False)
    if ship:
        demo.ship(home, ship)


@app.command("import-published")
def import_published(
    source: Annotated[Path, typer.Argument(help="A folder or a zip with the published runs.")],
    store: StoreOption = Path("store"),
    task: Annotated[str | None, typer.Option(help="Default: the task in the runs' names.")] = None,
    train: Annotated[Path | None, typer.Option(help="The train problems, in row order.")] = None,
    test: Annotated[Path | None, typer.Option(help="The test problems, in row order.")] = None,
    fewest_samples: Annotated[
        bool, typer.Option(help="The paper's choice: the smallest array of each checkpoint.")
    ] = False,
) -> None:
    """Import score arrays in the layout of github.com/katiekang1998/reasoning_generalization.

    Example: python -m premem_core import-published kang2024 --store store
    """
    from premem_core import datasets, published

    texts = {
        split: datasets.read_examples(file).examples if file else None
        for split, file in (("train", train), ("test", test))
    }
    published.read_published(source)  # before a store is made for nothing
    home = Store(store)
    names = published.import_published(
        home,
        source,
        task=task,
        train=texts["train"],
        test=texts["test"],
        fewest_samples=fewest_samples,
    )
    _say(f"{len(names)} runs imported into {store}")


@app.command()
def grade(
    grader: Annotated[str, typer.Option(help="gsm8k, math or paper.")] = "gsm8k",
    as_json: JsonOption = False,
) -> None:
    """Grade completions: one JSON object per line in, one per line out.

    Example: echo '{"completion": "#### 18", "reference": "18"}' | python -m premem_core grade
    """
    from premem_core.grading import make_grader

    pairs = []
    for number, line in enumerate(sys.stdin, start=1):
        try:
            row = json.loads(line)
            pairs.append((str(row["completion"]), str(row["reference"])))
        except (ValueError, KeyError, TypeError) as error:
            raise PrememError(
                f"line {number} of the input is not an object with completion and reference "
                f"({error!r}); give one JSON object per line"
            ) from error
    with make_grader(grader) as g:
        for graded in g.grade([c for c, _ in pairs], [r for _, r in pairs]):
            row = {"grade": graded.grade.name, "extracted": graded.extracted}
            typer.echo(json.dumps(row) if as_json else f"{row['grade']}\t{row['extracted'] or ''}")


@app.command()
def regrade(
    run: Annotated[str, typer.Option(help="The run, as it is named in the store.")],
    grader: Annotated[
        str, typer.Option(help="gsm8k, math or paper; 'as scored' undoes it in an old store.")
    ],
    store: StoreOption = Path("store"),
    keep_scores: Annotated[
        bool, typer.Option(help="Only grade: the run's accuracies stay as they are.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Grade a scored run's completions by another grader, which its accuracies then follow.

    Nothing is sampled and no grade is lost: the same command with the former grader undoes it.

    Example: python -m premem_core regrade --store store --run lr2e-5 --grader math
    """
    from premem_core import regrading

    home = _existing(store)
    if keep_scores:
        _say(f"{regrading.grade(home, run, grader, _print_graded):,} completions graded")
        return
    done = regrading.regrade(home, run, grader, _print_graded)
    change = done.change
    if as_json:
        _print_json(
            {
                "run": run,
                "grader": grader,
                "grader_before": change.one,
                "completions": change.completions,
                "newly_graded": done.newly_graded,
                "changed": change.disagreements,
                "accuracy": change.accuracies.rename(
                    columns={"one": "before", "other": "after"}
                ).to_dict("records"),
            }
        )
        return
    typer.echo(
        f"{done.newly_graded:,} completions graded by {grader}; {change.disagreements:,} of "
        f"{change.completions:,} grades differ from those of {change.one}"
    )
    for row in change.accuracies.to_dict("records"):
        name = f"{row['split']} {row['perturbation']}".strip()
        typer.echo(f"{name}: {row['one']:.2%} correct before, {row['other']:.2%} after")


@app.command()
def disagreements(
    run: Annotated[str, typer.Option(help="The run, as it is named in the store.")],
    grader: Annotated[str, typer.Option(help="One grader: gsm8k, math or paper.")],
    against: Annotated[str, typer.Option(help="The other grader.")],
    store: StoreOption = Path("store"),
    out: Annotated[
        Path | None, typer.Option(help="Write them all, texts included, as CSV.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Where two graders disagree about a run's completions; what is not graded yet is graded.

    Example: python -m premem_core disagreements --run lr2e-5 --grader gsm8k --against math
    """
    from premem_core import regrading

    home = _existing(store)
    for name in (grader, against):
        regrading.grade(home, run, name, _print_graded)
    compared = regrading.compare(home, run, grader, against)
    rows = regrading.disagreements(home, run, grader, against)
    if out:
        try:
            rows.to_csv(out, index=False)
        except OSError as error:
            raise PrememError(f"{out} cannot be written ({error.strerror})") from error
        _say(f"{len(rows):,} disagreements written to {out}")
    if as_json:
        _print_json(
            {
                "run": run,
                "one": grader,
                "other": against,
                "completions": compared.completions,
                "disagreements": compared.disagreements,
                "about_correctness": compared.about_correctness,
                "counts": compared.counts.to_dict("records"),
                "rows": rows.to_dict("records"),
            }
        )
        return
    typer.echo(
        f"{grader} and {against} disagree on {compared.disagreements:,} of "
        f"{compared.completions:,} completions; {compared.about_correctness:,} of these change "
        "what counts as correct"
    )
    typer.echo(compared.cross.rename_axis(index=grader, columns=against).to_string())
    shown = ["step", "split", "id", "sample", "answer", "extracted_one", "extracted_other"]
    if len(rows):
        typer.echo(rows[shown].head(10).map(repr).to_string(index=False))
    if len(rows) > 10 and not out:
        typer.echo(f"and {len(rows) - 10:,} more; --out FILE.csv or --json gives them all")


@jobs_app.command("list")
def jobs_list(store: StoreOption = Path("store"), as_json: JsonOption = False) -> None:
    """Every scoring job of a store and where it stands."""
    from dataclasses import asdict

    from premem_core import jobs

    found = jobs.all_progress(_existing(store))
    if as_json:
        _print_json([asdict(p) for p in found])
        return
    for p in found:
        typer.echo(f"{p.run}\t{p.state}\t{p.completions_done}/{p.completions_total}\t{p.message}")


@jobs_app.command("run")
def jobs_run(run: str, store: StoreOption = Path("store")) -> None:
    """Do what is left of a job, in this process (the dashboard starts jobs this way)."""

    _run_job(_existing(store), run)


@jobs_app.command("extend")
def jobs_extend(
    run: str,
    store: StoreOption = Path("store"),
    samples: Annotated[int | None, typer.Option(min=1, help="Per problem, in all.")] = None,
    plan: Annotated[Plan | None, typer.Option(help="full, lazy or final.")] = None,
    log_log_threshold: Annotated[float | None, typer.Option(help="Of the plan.")] = None,
    perturb: Annotated[list[str] | None, typer.Option(help="Further perturbations.")] = None,
) -> None:
    """Ask more of a job and do it; what is scored stays. New data: score --extend.

    Example: python -m premem_core jobs extend lr2e-5 --samples 10
    """
    from premem_core import jobs

    home = _existing(store)
    earlier = jobs.spec_of(home, run)
    jobs.change(
        home,
        run,
        samples=samples or earlier.sampling.samples,
        plan=plan or earlier.plan,
        log_log_threshold=log_log_threshold or earlier.log_log_threshold,
        perturbations=tuple(dict.fromkeys((*earlier.perturbations, *(perturb or ())))),
    )
    _run_job(home, run)


@jobs_app.command("cancel")
def jobs_cancel(run: str, store: StoreOption = Path("store")) -> None:
    """Stop a running job; what it finished stays."""
    from premem_core import jobs

    jobs.cancel(_existing(store), run)


def _run_job(store: Store, run: str) -> None:
    from premem_core import jobs

    end = jobs.execute(store, run, _print_progress)
    _say(f"{end.state}{': ' + end.message if end.message else ''}")
    if end.completions_saved:
        spec = jobs.spec_of(store, run)
        _say(
            f"{end.completions_done:,} completions drawn; {end.completions_saved:,} were not "
            f"needed (plan {spec.plan}, t = {spec.log_log_threshold:.3f})"
        )
    raise typer.Exit(0 if end.state == "done" else 1)


def _calibrated_threshold(store: Path, task: str) -> float | None:
    """The optimum over the task's runs that are scored in full; None where there is none."""
    try:
        fit = curves.best_threshold(curves.read_task(_existing(store), task))
    except PrememError:
        return None
    _say(f"threshold of the plan: t = {fit.log_log_threshold:.3f}, the optimum over task '{task}'")
    return fit.log_log_threshold


def _say_estimate(estimate: "Estimate") -> None:
    _say(
        f"estimate: at most {timedelta(seconds=round(estimate.seconds))} "
        f"({estimate.load_seconds:.0f} s to load a checkpoint, "
        f"{estimate.completions_per_second:,.1f} completions per second and worker) and "
        f"{estimate.bytes_on_disk / 2**20:,.0f} MiB of disk; {estimate.bytes_free / 2**30:,.1f} "
        f"GiB are free{'' if estimate.fits else ', which is too little'}"
    )


def _print_fit(
    store: Store, task: str, log_log_threshold: float | None, estimator: Estimator, as_json: bool
) -> None:
    runs = curves.read_task(store, task)
    threshold = log_log_threshold
    if threshold is None:
        threshold = curves.best_threshold(runs, estimator).log_log_threshold
    lines = [curves.curve(run, threshold, estimator) for run in runs]
    points = curves.points(lines)
    x, y, train = (
        points[name].to_numpy() for name in ("premem", "test_accuracy", "train_accuracy")
    )
    known = points.dropna(subset=["premem"])
    result = {
        "task": task,
        "log_log_threshold": threshold,
        "threshold_source": "optimum of identity R²" if log_log_threshold is None else "given",
        "estimator": estimator,
        "identity_r2": fits.identity_r2(x, y),
        "linear_r2": fits.linear_r2(x, y),
        "train_accuracy_linear_r2": fits.linear_r2(train, y),
        "train_accuracy_identity_r2": fits.identity_r2(train, y),
        "n_runs": known["run"].nunique(),
        "n_checkpoints": len(known),
        "points": points[
            ["run", "step", "premem", "test_accuracy", "train_accuracy", "memorized_share"]
        ].to_dict("records"),
    }
    if as_json:
        _print_json(result)
        return
    typer.echo(
        points[["run", "step", "train_accuracy", "premem", "test_accuracy", "memorized_share"]]
        .round(3)
        .to_string(index=False, na_rep="–")
    )
    typer.echo(
        f"threshold t = {threshold:.3f} ({result['threshold_source']}); {estimator} estimator; "
        f"{result['n_checkpoints']} checkpoints of {result['n_runs']} runs\n"
        f"identity R² of PM {result['identity_r2']:.3f}, linear R² {result['linear_r2']:.3f}; "
        f"linear R² of plain train accuracy {result['train_accuracy_linear_r2']:.3f}"
    )
    if not_known := curves.not_known(lines):
        typer.echo(not_known)


def _existing(path: Path) -> Store:
    if not (path / "premem.duckdb").exists():
        raise UsageError(f"{path} is not a store (no premem.duckdb in it); check --store")
    return Store(path)


def _unescaped(text: str) -> str:
    r"""A shell cannot easily give a line break: \n stands for one."""
    return text.replace("\\n", "\n")


def _print_progress(progress: Progress) -> None:
    share = progress.completions_done / max(1, progress.completions_total)
    left = progress.seconds_left
    rest = f", {left / 60:.1f} min left" if left is not None else ""
    active = [
        f"checkpoint {each.step}: {each.state}"
        for each in progress.checkpoints
        if each.state not in ("waiting", "scored", "failed")
    ]
    where = "; ".join(active) or progress.message or progress.state
    rate = f"{progress.completions_per_second:.0f}/s"
    _say(f"{share:6.1%}  {where}  {progress.completions_done:,} completions, {rate}{rest}")


def _print_graded(done: int, total: int) -> None:
    if total:
        _say(f"{done / total:6.1%}  {done:,} of {total:,} completions graded")


def _say(line: str) -> None:
    typer.echo(line, err=True)


def _print_json(content: Any) -> None:
    typer.echo(json.dumps(_nan_as_null(content), indent=1, default=str))


def _nan_as_null(content: Any) -> Any:
    """What is undefined is NaN here and null in JSON."""
    if isinstance(content, dict):
        return {key: _nan_as_null(value) for key, value in content.items()}
    if isinstance(content, list):
        return [_nan_as_null(value) for value in content]
    return None if isinstance(content, float) and math.isnan(content) else content


def main() -> None:
    """Run a command; a mistake of the user's ends in one sentence and an exit code."""
    try:
        app()
    except UsageError as error:
        _say(f"error: {error}")
        sys.exit(2)
    except PrememError as error:
        _say(f"error: {error}")
        sys.exit(1)
    except (Cancelled, KeyboardInterrupt):
        _say("stopped; continue with --resume")
        sys.exit(1)


if __name__ == "__main__":
    main()
