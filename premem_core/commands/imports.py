"""import-published, import-samples: results that were computed elsewhere come into a store."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from premem_core.commands.options import (
    JsonOption,
    StoreOption,
    print_json,
    say,
    takes_options,
)
from premem_core.importers.samples.files import SampleFormat
from premem_core.problems.data_files import Split
from premem_core.problems.fields import FieldNames
from premem_core.records import KnownSampling
from premem_core.store.database import Store
from premem_core.store.runs import read_checkpoints, read_runs

if TYPE_CHECKING:
    from premem_core.importers.samples.parts import Part
    from premem_core.importers.samples.request import SampleRequest
    from premem_core.problems.examples import Dataset

SHOWN = 10  # checkpoints whose counts are printed


def import_published(
    source: Annotated[Path, typer.Argument(help="A folder or zip file with the published runs.")],
    store: StoreOption = Path("store"),
    task: Annotated[str | None, typer.Option(help="Default: the task in the runs' names.")] = None,
    train: Annotated[
        Path | None,
        typer.Option(help="The training problems, in the order of the arrays' rows."),
    ] = None,
    test: Annotated[
        Path | None, typer.Option(help="The test problems, in the order of the arrays' rows.")
    ] = None,
    fewest_samples: Annotated[
        bool,
        typer.Option(
            help="Use the array with the fewest samples of each checkpoint, as the paper does; "
            "default: the one with the most."
        ),
    ] = False,
) -> None:
    """Import score arrays in the layout of github.com/katiekang1998/reasoning_generalization.

    Example: python -m premem_core import-published kang2024 --store store
    """
    from premem_core.importers import published_arrays
    from premem_core.problems import examples

    texts = {
        split: examples.read_examples(file).examples if file else None
        for split, file in (("train", train), ("test", test))
    }
    # Reading checks the source before a store is made.
    published_arrays.read_published(source, fewest_samples=fewest_samples)
    home = Store(store)
    imported = published_arrays.import_published(
        home,
        source,
        task=task,
        train=texts["train"],
        test=texts["test"],
        fewest_samples=fewest_samples,
    )
    for warning in imported.warnings:
        say(f"warning: {warning}")
    say(f"{len(imported.runs)} runs imported into {store}")


@dataclass(frozen=True, kw_only=True)
class ImportSamplesOptions:
    """The options of `import-samples`, in the order of its help."""

    files: Annotated[
        list[Path], typer.Argument(help="Files with completions, or folders of such files.")
    ]
    run: Annotated[str, typer.Option(help="The run's name in the store.")]
    split: Annotated[Split, typer.Option(help="Which problems the completions answer.")]
    store: StoreOption = Path("store")
    train: Annotated[
        list[Path] | None,
        typer.Option(help="The training problems; default: those that the store has of the run."),
    ] = None
    test: Annotated[list[Path] | None, typer.Option(help="The test problems, likewise.")] = None
    task: Annotated[
        str | None,
        typer.Option(help="The task of a new run; default: the name of the data's folder."),
    ] = None
    format: Annotated[
        SampleFormat | None,
        typer.Option(
            help="The tool that wrote the files; default: found from each file. plain is a table "
            "with the columns id or question, step, completion, and nll and tokens where known."
        ),
    ] = None
    step: Annotated[
        list[int] | None,
        typer.Option(
            min=0,
            help="The step of the checkpoint, where neither file nor folder tells it; else only "
            "the rows of this step. Repeatable.",
        ),
    ] = None
    grader: Annotated[
        str | None,
        typer.Option(help="The grader of a new run; default: as for score."),
    ] = None
    temperature: Annotated[
        float | None, typer.Option(min=0, help="Of the sampling, where the files do not tell it.")
    ] = None
    top_p: Annotated[float | None, typer.Option(min=0.01, max=1, help="Likewise.")] = None
    max_new_tokens: Annotated[int | None, typer.Option(min=1, help="Likewise.")] = None
    mix_settings: Annotated[
        bool,
        typer.Option(help="Accept completions with other settings of the sampling than the run's."),
    ] = False
    question: Annotated[str | None, typer.Option(help="Field of the question in the data.")] = None
    solution: Annotated[str | None, typer.Option(help="Field of the solution in the data.")] = None
    answer: Annotated[
        str | None, typer.Option(help="Where the final answer is in the data, as for score.")
    ] = None
    skip_bad: Annotated[bool, typer.Option(help="Skip invalid rows and count them.")] = False
    dry_run: Annotated[bool, typer.Option(help="Read, match and grade, but write nothing.")] = False
    json: JsonOption = False


@takes_options(ImportSamplesOptions)
def import_samples(options: ImportSamplesOptions) -> None:
    """Import and grade completions that lm-eval, inspect_ai, TRL, verl or your own code sampled.

    Example: python -m premem_core import-samples lm-eval-out --run lr2e-5 --split test
    --test test.jsonl
    """
    from premem_core.importers.samples.imports import prepare_import

    home = Store(options.store) if (options.store / "premem.duckdb").exists() else None
    prepared = prepare_import(
        home,
        _request(home, options),
        lambda completions: say(f"grading {completions:,} completions ..."),
    )
    left_over: list[int] = []
    if not options.dry_run:
        home = home or Store(options.store)
        prepared.write(home)
        states = read_checkpoints(home, options.run).set_index("step")["state"]
        left_over = states.index[states == "waiting"].tolist()
    if options.json:
        print_json(
            {
                "run": options.run,
                "task": prepared.record.task,
                "split": options.split,
                "grader": prepared.record.grader,
                "parts": [_part_as_json(part) for part in prepared.parts],
                "waiting": left_over,
            }
        )
        return
    for part in prepared.parts[:SHOWN]:
        for line in _part_in_words(part, options.split):
            say(line)
    if len(prepared.parts) > SHOWN:
        say(f"and {len(prepared.parts) - SHOWN} more checkpoints; --json has all")
    if left_over:
        steps = ", ".join(map(str, left_over))
        say(
            f"run '{options.run}': the perplexities of step {steps} are missing; "
            f"premem score RUN_FOLDER --run {options.run} --train FILE adds them, and draws only "
            "what is missing"
        )


def _request(home: Store | None, options: ImportSamplesOptions) -> "SampleRequest":
    """The request that the options describe; a new run gets its task and grader as in `score`."""
    from premem_core.grading.graders import make_grader
    from premem_core.grading.reference_check import check_references, require_readable
    from premem_core.importers.samples.request import SampleRequest
    from premem_core.scoring.preparation.prepare import choose_grader, default_task
    from premem_core.scoring.preparation.request import ScoreRequest

    if options.grader:  # the person who gives the command allows the code of a grader
        make_grader(options.grader, allow_code=True).close()
    train, test = _problems(options)
    grader, task = options.grader, options.task
    is_new = home is None or options.run not in read_runs(home)["run"].tolist()
    if is_new and train is not None and options.train:
        task = task or default_task(options.train)
        asked = ScoreRequest(Path(), options.train, grader=grader)
        grader = choose_grader(asked, train)
        require_readable(check_references(grader, train.examples))
    return SampleRequest(
        files=options.files,
        run=options.run,
        split=options.split,
        train=train.examples if train else (),
        test=test.examples if test else (),
        task=task,
        format=options.format,
        steps=options.step or (),
        grader=grader,
        sampling=KnownSampling(options.temperature, options.top_p, options.max_new_tokens),
        mix_settings=options.mix_settings,
        skip_bad=options.skip_bad,
    )


def _problems(options: ImportSamplesOptions) -> tuple["Dataset | None", "Dataset | None"]:
    """The train and the test problems; the test file's fields are named as in the train file."""
    from premem_core.problems.examples import read_examples
    from premem_core.problems.fields import detect_fields

    names = FieldNames(options.question, options.solution, options.answer)
    train = test = None
    if options.train:
        fields = detect_fields(options.train, names)
        train = read_examples(options.train, fields, skip_bad=options.skip_bad)
        names = FieldNames(fields.question, fields.solution, str(fields.answer), fields.turns)
    if options.test:
        fields = detect_fields(options.test, names, "test")
        test = read_examples(options.test, fields, skip_bad=options.skip_bad, split="test")
    return train, test


def _part_in_words(part: "Part", split: Split) -> list[str]:
    """What was found in a file at a checkpoint, in lines."""
    reader = part.file.reader
    tool = f"{reader.tool} {reader.version}" if reader.version else reader.tool
    lines = [f"{part.file.path}, step {part.step}: by {tool}, {part.sampling.in_words()}"]
    if part.already:
        return [*lines, "  is in the store already; nothing was added"]
    if part.rows:
        right = f"{len(part.rows):,} completions of {part.questions:,} questions"
        lines.append(f"  {right}, accuracy {100 * part.accuracy:.1f} %")
    if (own := part.tool_accuracy) is not None:
        lines.append(
            f"  {reader.score}: {100 * own:.1f} %; it calls {part.differing:,} completions right "
            "or wrong where the grader does not"
        )
    counts = {
        f"perplexities of {split} solutions": len(part.nlls),
        f"rows left out, whose question is not one of the {split} problems": part.unmatched,
        f"rows left out, whose question is that of several {split} problems": part.ambiguous,
        "rows left out, which cannot be used": len(part.file.bad),
        f"{split} problems without a completion": part.without,
    }
    lines += [f"  {what}: {n:,}" for what, n in counts.items() if n]
    return [*lines, f"  note: {reader.note}"] if reader.note else lines


def _part_as_json(part: "Part") -> dict[str, Any]:
    return {
        "file": str(part.file.path),
        "sha256": part.file.sha256,
        "step": part.step,
        "tool": part.file.reader.tool,
        "version": part.file.reader.version,
        **asdict(part.sampling),
        "already": part.already,
        "completions": len(part.rows),
        "questions": part.questions,
        "correct": None if part.already else part.correct,
        "accuracy": None if part.already else part.accuracy,
        "tool_score": part.file.reader.score,
        "tool_accuracy": part.tool_accuracy,
        "differing": None if part.already else part.differing,
        "perplexities": len(part.nlls),
        "unmatched": part.unmatched,
        "ambiguous": part.ambiguous,
        "bad_rows": len(part.file.bad),
        "without_completion": part.without,
    }
