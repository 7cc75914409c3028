"""Code that commands share: options, opening the store, reading and writing files, printing."""

import functools
import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import typer

from premem_core.analysis import run_scores
from premem_core.analysis.run_scores import RunScores
from premem_core.analysis.studies.calibrating_runs import what_counts_less
from premem_core.analysis.verdict.task_threshold import (
    TaskThreshold,
    given_threshold,
    task_threshold,
)
from premem_core.curation.recipe import Recipe
from premem_core.errors import PrememError, UsageError
from premem_core.files import json_text, write_whole
from premem_core.metrics.estimators import Estimator
from premem_core.metrics.sampling_plan import Plan
from premem_core.problems.conversations import Turns
from premem_core.problems.fields import FieldNames
from premem_core.problems.prompts import (
    PromptTemplate,
    Template,
    make_chat_template,
    unescaped,
)
from premem_core.records import Segment
from premem_core.store.database import Store
from premem_core.store.runs import read_runs

StoreOption = Annotated[Path, typer.Option("--store", help="The store's folder.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]
TrainOption = Annotated[
    list[Path],
    typer.Option(
        help="The training problems: a file (JSONL, JSON, CSV, Parquet, Arrow; .gz, .zst), a "
        "pattern, a folder of the package datasets, or hf://datasets/owner/name. Repeatable."
    ),
]
EstimatorOption = Annotated[
    Estimator | None,
    typer.Option(
        help="plain: the paper's formula; jackknife: less biased by few samples; lu: last-unmasked "
        "accuracy, for one sample or more. Default: plain, or lu where a run was scored with the "
        "plan last."
    ),
]

SegmentOption = Annotated[
    Segment,
    typer.Option(
        help="The part of a solution whose perplexity the threshold is for: all of it (target), "
        "its thinking trace, or the answer after the trace."
    ),
]
ThresholdOption = Annotated[
    float | None,
    typer.Option(
        "--log-log-threshold",
        help="t = log log PPL; default: the optimum over the task's runs, or without test sets "
        "that of the runs themselves.",
    ),
]

Options = TypeVar("Options")


def takes_options(
    record: type[Options],
) -> Callable[[Callable[[Options], None]], Callable[..., None]]:
    """Turn a function that takes a dataclass into a command with one option per field.

    typer reads the options of a command from its signature, so the command gets that of the
    dataclass. Options of texts come last.
    """

    def with_options(function: Callable[[Options], None]) -> Callable[..., None]:
        @functools.wraps(function)
        def command(**options: Any) -> None:
            function(record(**options))

        options = inspect.signature(record).parameters.values()
        ordered = sorted(options, key=lambda option: option.name in TextOptions.__annotations__)
        command.__signature__ = inspect.Signature(ordered)  # type: ignore[attr-defined]
        return command

    return with_options


@dataclass(frozen=True, kw_only=True)
class TextOptions:
    """The options by which rows of data are read and become text, for scoring and for training."""

    question: Annotated[str | None, typer.Option(help="Field of the question.")] = None
    solution: Annotated[str | None, typer.Option(help="Field of the solution.")] = None
    answer: Annotated[
        str | None,
        typer.Option(
            help=r"Where the final answer is: field:NAME, hash (#### x), boxed, stated (The answer "
            "is x), regex:PATTERN, or solution (all of it)."
        ),
    ] = None
    turns: Annotated[
        Turns,
        typer.Option(help="Targets in a conversation: the last turn of the assistant, or all."),
    ] = "last"
    chat: Annotated[
        bool,
        typer.Option(
            "--chat",
            help="Prompts by the checkpoint's chat template; the default for conversations.",
        ),
    ] = False
    plain: Annotated[
        bool, typer.Option("--plain", help="Prompts by a plain template, without chat template.")
    ] = False
    chat_template: Annotated[
        Path | None,
        typer.Option(help="A file with the chat template; default: that of the checkpoint."),
    ] = None
    template_argument: Annotated[
        list[str] | None,
        typer.Option(help="An argument of the chat template: enable_thinking=false. Repeatable."),
    ] = None
    system: Annotated[
        str | None, typer.Option(help="A system prompt for the problems that have none.")
    ] = None
    prompt_template: Annotated[
        str | None, typer.Option(help=r"A plain prompt; default: {question}\nAnswer:")
    ] = None
    target_template: Annotated[
        str | None, typer.Option(help=r"Its target; default: ' {solution}\nDone.'")
    ] = None
    max_length: Annotated[
        int | None,
        typer.Option(
            min=2,
            help="Cut prompt and target after this many tokens, as trainers do; default: cut none.",
        ),
    ] = None
    skip_bad: Annotated[
        bool, typer.Option(help="Skip invalid rows and count them; default: stop at the first.")
    ] = False

    def field_names(self) -> FieldNames:
        """The fields that the options name."""
        return FieldNames(self.question, self.solution, self.answer, self.turns)

    def form(self) -> Literal["chat", "plain"] | None:
        """The kind of prompt that the options choose; None where they choose none."""
        return "chat" if self.chat else "plain" if self.plain else None

    def template(self) -> Template | None:
        """The template that the options describe; None where they describe none.

        Raises:
            UsageError: they describe two, or the file of the template cannot be read.
        """
        texts = [self.prompt_template, self.target_template]
        of_chat = [self.chat_template, self.template_argument, self.system]
        is_plain, is_chat = any(t is not None for t in texts), any(o is not None for o in of_chat)
        if (is_plain or self.plain) and (is_chat or self.chat):
            raise UsageError(
                "the options describe both a plain and a chat prompt; give only one of them"
            )
        if is_chat:
            arguments = self.template_argument or ()
            return make_chat_template(self.chat_template, arguments, self.system)
        paper = PromptTemplate()
        if not is_plain:
            return None
        return PromptTemplate(
            unescaped(self.prompt_template or paper.prompt),
            unescaped(self.target_template or paper.target),
        )

    def given(self) -> bool:
        """Whether any of these options was given."""
        return any(getattr(self, option.name) != option.default for option in fields(TextOptions))


def existing_store(path: Path) -> Store:
    """The store at `path`.

    Raises:
        UsageError: there is none.
    """
    if not (path / "premem.duckdb").exists():
        raise UsageError(f"{path} is not a store (no premem.duckdb in it); check --store")
    return Store(path)


def task_of(store: Store, run: str) -> str:
    """The task of a run.

    Raises:
        UsageError: the store has no such run.
    """
    tasks = read_runs(store).set_index("run")["task"]
    if run not in tasks.index:
        names = ", ".join(f"'{name}'" for name in tasks.index) or "none yet"
        raise UsageError(f"the store {store.path} has no run '{run}'; it has: {names}")
    return str(tasks[run])


def threshold_of(
    runs: Sequence[RunScores],
    task: str,
    given: float | None,
    estimator: Estimator | None = None,
) -> TaskThreshold:
    """The given threshold; by default that of the task's runs (`task_threshold`).

    If some of these runs count less or not at all for it, that is printed, and where it is not
    fitted to test sets, why.

    Args:
        runs: all scored runs of the task.
        estimator: None for the default one.

    Raises:
        UsageError: the given threshold is not a finite number.
        DataError: there is nothing that a threshold could come from.
    """
    if given is not None:
        return given_threshold(given)
    for sentence in what_counts_less(runs):
        say(f"note: {sentence}")
    chosen = task_threshold(task, runs, estimator)
    if chosen.source != "other_runs":
        say(f"note: t = {chosen.log_log_threshold:.3f}. {chosen.why}")
    return chosen


def plan_threshold(
    store: Path, task: str, segment: Segment = "target", plan: Plan = "lazy"
) -> float | None:
    """The default threshold of a sampling plan: that of the task's scored runs.

    It is printed. None if the store does not exist or there is none.
    """
    estimator: Estimator | None = "lu" if plan == "last" else None
    try:
        runs = run_scores.read_task(existing_store(store), task, segment)
        chosen = task_threshold(task, runs, estimator)
    except PrememError:
        return None
    say(f"threshold of the plan: t = {chosen.log_log_threshold:.3f}. {chosen.why}")
    return chosen.log_log_threshold


def read_recipe(file: Path) -> Recipe:
    """The recipe in a file. UsageError: the file does not hold a valid recipe."""
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"cannot read {file}: {error}; give a recipe's path") from error
    return Recipe.from_yaml(text, str(file))


def write_text(file: Path, text: str) -> None:
    """Write a result to a file.

    Raises:
        UsageError: it cannot be written.
    """
    with write_whole(file) as unfinished:
        unfinished.write_text(text, encoding="utf-8")


def check_paths(read: Sequence[Path | None], written: Sequence[Path | None]) -> None:
    """Check that a command can write its files, before it does its work.

    Args:
        read: files that the command reads; None for an option that is not given.
        written: files that it writes, likewise.

    Raises:
        UsageError: a file cannot be written, or would replace another file of the command.
    """
    seen = {file.resolve() for file in read if file is not None}
    for file in written:
        if file is None:
            continue
        if not file.name or file.is_dir() or not file.resolve().parent.is_dir():
            raise UsageError(f"{file} is a folder, or its folder does not exist; give another path")
        if file.resolve() in seen:
            raise UsageError(f"{file} is given twice, or is also a file to read; give another path")
        seen.add(file.resolve())


def say(line: str) -> None:
    """Print a line to stderr, because stdout is for results."""
    typer.echo(line, err=True)


def print_json(content: Any) -> None:
    """Print a result as JSON to stdout."""
    typer.echo(json_text(content))
