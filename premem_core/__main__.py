"""The command line: `python -m premem_core <command> --help`.

Exit codes: 0 done, 1 failed, 2 wrong usage. A user's mistake is one sentence on stderr.
"""

import json
import math
import sys
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from premem_core import curves, fits
from premem_core.errors import PrememError, UsageError
from premem_core.jobs import Cancelled, Progress
from premem_core.store import Store

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
    backend: Annotated[str, typer.Option(help="hf (transformers).")] = "hf",
    grader: Annotated[
        str | None,
        typer.Option(help="gsm8k, math or paper; default: math where the answer is boxed."),
    ] = None,
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
    dry_run: Annotated[bool, typer.Option(help="Show what would be done, and stop.")] = False,
) -> None:
    r"""Score every checkpoint of a run: perplexities, samples, grades.

    Example: python -m premem_core score runs/lr2e-5 --train train.jsonl --test test.jsonl
    """
    from premem_core import checkpoints, datasets, jobs
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
    spec = ScoringSpec(
        run=run or run_dir.resolve().name,
        grader=grader or datasets.likely_grader(fields),
        backend=backend,
        template=template,
        sampling=Sampling(samples, temperature, top_p, max_new_tokens, seed),
        chunk_examples=chunk_examples,
    )
    jobs.check_spec(spec)
    prompt, target = template.fill(train_data.examples[0])
    _say(f"run {spec.run}: {len(checkpoints_of_run.checkpoints)} checkpoints in {run_dir}")
    for name, data in (("train", train_data), ("test", test_data)):
        if data:
            skipped = f", {len(data.skipped)} bad rows left out" if data.skipped else ""
            _say(f"{name}: {len(data.examples)} problems from {data.path}{skipped}")
    _say(f"the first prompt and target, as the model sees them:\n{prompt!r}\n{target!r}")
    if len(trains) < len(train_data.examples):
        _say(f"scored of the train problems: {len(trains)}, drawn at random")
    total = len(checkpoints_of_run.checkpoints) * (len(trains) + len(tests)) * samples
    _say(f"grader: {spec.grader}")
    _say(f"completions to draw: {total:,}")
    if dry_run:
        return
    home = Store(store)
    jobs.create(
        home,
        spec,
        checkpoints_of_run,
        task or train.resolve().parent.name,
        trains,
        tests,
        trained_on=len(train_data.examples),
        resume=resume,
    )
    end = jobs.execute(home, spec.run, _print_progress)
    _say(f"{end.state}{': ' + end.message if end.message else ''}")
    raise typer.Exit(0 if end.state == "done" else 1)


@app.command()
def fit(
    task: Annotated[str, typer.Option(help="The task whose runs are fitted together.")],
    store: StoreOption = Path("store"),
    log_log_threshold: Annotated[
        float | None, typer.Option(help="t = log log PPL; default: the optimum of identity R².")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """How well pre-memorization accuracy predicts test accuracy over a task's checkpoints.

    Example: python -m premem_core fit --store store --task gsm8k --log-log-threshold -2.3 --json
    """
    _print_fit(_existing(store), task, log_log_threshold, as_json)


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
    _print_fit(home, demo.TASK, None, as_json=False)
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
    from premem_core import jobs

    end = jobs.execute(_existing(store), run, _print_progress)
    _say(f"{end.state}{': ' + end.message if end.message else ''}")
    raise typer.Exit(0 if end.state == "done" else 1)


@jobs_app.command("cancel")
def jobs_cancel(run: str, store: StoreOption = Path("store")) -> None:
    """Stop a running job; what it finished stays."""
    from premem_core import jobs

    jobs.cancel(_existing(store), run)


def _print_fit(store: Store, task: str, log_log_threshold: float | None, as_json: bool) -> None:
    runs = curves.read_task(store, task)
    threshold = log_log_threshold
    if threshold is None:
        threshold = curves.best_threshold(runs).log_log_threshold
    points = curves.points([curves.curve(run, threshold) for run in runs])
    x, y, train = (
        points[name].to_numpy() for name in ("premem", "test_accuracy", "train_accuracy")
    )
    result = {
        "task": task,
        "log_log_threshold": threshold,
        "threshold_source": "optimum of identity R²" if log_log_threshold is None else "given",
        "identity_r2": fits.identity_r2(x, y),
        "linear_r2": fits.linear_r2(x, y),
        "train_accuracy_linear_r2": fits.linear_r2(train, y),
        "train_accuracy_identity_r2": fits.identity_r2(train, y),
        "n_runs": points["run"].nunique(),
        "n_checkpoints": len(points),
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
        .to_string(index=False)
    )
    typer.echo(
        f"threshold t = {threshold:.3f} ({result['threshold_source']}); "
        f"{result['n_checkpoints']} checkpoints of {result['n_runs']} runs\n"
        f"identity R² of PM {result['identity_r2']:.3f}, linear R² {result['linear_r2']:.3f}; "
        f"linear R² of plain train accuracy {result['train_accuracy_linear_r2']:.3f}"
    )


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
    rate = f"{progress.completions_per_second:.0f}/s"
    _say(f"{share:6.1%}  {progress.phase}  {progress.completions_done:,} completions, {rate}{rest}")


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
