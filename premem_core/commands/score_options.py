"""The options of `score`, and the request that is made of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from premem_core.commands.options import JsonOption, SegmentOption, StoreOption
from premem_core.errors import UsageError
from premem_core.metrics.sampling_plan import Plan
from premem_core.problems.conversations import Turns
from premem_core.problems.prompts import PromptTemplate, Template, make_chat_template
from premem_core.records import Sampling
from premem_core.scoring.job_files import Execution, ExecutorName

if TYPE_CHECKING:
    from premem_core.scoring.prepare import ScoreRequest


@dataclass(frozen=True, kw_only=True)
class ScoreOptions:
    """The options of the command `score`, in the order of its help."""

    run_dir: Annotated[Path, typer.Argument(help="A run's folder with checkpoint-<step> in it.")]
    train: Annotated[
        list[Path],
        typer.Option(
            help="The training problems: a file (JSONL, JSON, CSV, Parquet, Arrow; .gz, .zst), a "
            "pattern, a folder of the package datasets, or hf://datasets/owner/name. Repeatable."
        ),
    ]
    store: StoreOption = Path("store")
    test: Annotated[list[Path] | None, typer.Option(help="The test problems, likewise.")] = None
    checkpoints: Annotated[
        str | None,
        typer.Option(help="Only these checkpoints: names or steps, as 100,200,final."),
    ] = None
    step: Annotated[
        list[str] | None,
        typer.Option(help="The step of a checkpoint whose folder does not tell it: final=300."),
    ] = None
    run: Annotated[
        str | None, typer.Option(help="The run's name; default: the name of its folder.")
    ] = None
    all_runs: Annotated[
        bool,
        typer.Option(
            help="Score every run below the folder, one after another, each named by its path "
            "from there."
        ),
    ] = False
    task: Annotated[
        str | None,
        typer.Option(
            help="The task's name; runs of one task are fitted together. Default: the name of the "
            "data's folder."
        ),
    ] = None
    backend: Annotated[
        str | None, typer.Option(help="vllm, or hf (transformers); default: vllm if installed.")
    ] = None
    grader: Annotated[
        str | None,
        typer.Option(
            help="A grader (premem graders lists them) with settings, as number?tolerance=0.01, or "
            "FILE.py:function; default: the one that reads the training solutions."
        ),
    ] = None

    # Which samples are drawn

    plan: Annotated[
        Plan,
        typer.Option(
            help="full: all samples; lazy: only those that PM needs at one threshold; final: only "
            "those that PM of the last checkpoint needs."
        ),
    ] = "full"
    log_log_threshold: Annotated[
        float | None,
        typer.Option(
            help="t = log log PPL, the threshold of the plan; default: the optimum over the task's "
            "scored runs."
        ),
    ] = None
    segment: SegmentOption = "target"
    perturb: Annotated[
        list[str] | None,
        typer.Option(
            help="Also sample perturbed training queries: first, we-know-that, rename, swap, "
            "reorder, insert or redraw."
        ),
    ] = None
    perturb_template: Annotated[
        list[str] | None,
        typer.Option(
            help=r"A perturbation of your own, as a template: polite='Please solve: {question}'."
        ),
    ] = None
    perturb_file: Annotated[
        list[str] | None,
        typer.Option(
            help="A perturbation of your own, as a file: hand=FILE, with the fields question, id "
            "or original, and answer if it changes."
        ),
    ] = None
    perturb_all: Annotated[
        bool,
        typer.Option(help="Sample perturbed queries at every checkpoint; default: at the last."),
    ] = False
    samples: Annotated[int, typer.Option(min=1, help="Completions per problem.")] = 5
    temperature: Annotated[float, typer.Option(min=0)] = 0.8
    top_p: Annotated[float, typer.Option(min=0.01, max=1)] = 0.95
    max_new_tokens: Annotated[int, typer.Option(min=1)] = 512
    max_thinking_tokens: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="End a completion, as unfinished, that still thinks after this many tokens; "
            "default: no limit.",
        ),
    ] = None
    seed: Annotated[int, typer.Option(min=0)] = 0

    # How the data is read and becomes text

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
        typer.Option(help="Of a conversation: score the last turn of the assistant, or all."),
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
    stop: Annotated[
        str | None,
        typer.Option(help=r"Text that ends a completion; default: that of the template."),
    ] = None
    thinking: Annotated[
        str | None,
        typer.Option(
            help="The marks of thinking traces, as <think>…</think>, or none; default: those in "
            "the solutions or in the chat template."
        ),
    ] = None
    max_length: Annotated[
        int | None,
        typer.Option(
            min=2,
            help="Cut prompt and target after this many tokens, as the trainer did; default: leave "
            "out what the model cannot take.",
        ),
    ] = None
    train_sample: Annotated[
        int | None, typer.Option(min=1, help="Score this many random training problems only.")
    ] = None
    chunk_examples: Annotated[int, typer.Option(min=1, help="Problems per unit of work.")] = 128
    skip_bad: Annotated[
        bool, typer.Option(help="Skip invalid rows and count them; default: stop at the first.")
    ] = False

    # How the job is run

    resume: Annotated[bool, typer.Option(help="Continue a job that was stopped.")] = False
    extend: Annotated[
        bool,
        typer.Option(help="Add samples, checkpoints, problems or perturbations to a job."),
    ] = False
    workers: Annotated[
        int | None,
        typer.Option(
            min=1, help="Checkpoints that are scored at the same time; default: one per GPU."
        ),
    ] = None
    tensor_parallel: Annotated[int, typer.Option(min=1, help="GPUs per worker.")] = 1
    executor: Annotated[
        ExecutorName, typer.Option(help="local: this machine; ray: a Ray cluster.")
    ] = "local"
    address: Annotated[str | None, typer.Option(help="The address of the Ray cluster.")] = None
    shards: Annotated[
        str | None,
        typer.Option(
            help="An fsspec prefix for the results of Ray workers that cannot access the store's "
            "folder."
        ),
    ] = None
    measure_weights: Annotated[
        bool,
        typer.Option(
            "--weights",
            help="After scoring, measure distance from initialization and gradient variance.",
        ),
    ] = False
    base: Annotated[
        Path | None,
        typer.Option(
            help="The folder of the run's base model: for adapters that name a hub, and for "
            "--weights."
        ),
    ] = None
    preview: Annotated[
        bool,
        typer.Option(
            help="Show the first problems token by token, as the model sees them, and stop."
        ),
    ] = False
    json: JsonOption = False
    dry_run: Annotated[bool, typer.Option(help="Show what would be done, and stop.")] = False
    estimate: Annotated[
        bool,
        typer.Option(help="Score a few problems, estimate the time and disk space, and stop."),
    ] = False

    def request(self) -> "ScoreRequest":
        """The request to score that these options describe.

        Raises:
            UsageError: a perturbation of the user's own has no name, or the name of another one.
        """
        from premem_core.problems.fields import FieldNames
        from premem_core.scoring.prepare import ScoreRequest

        texts = _named_values("template", self.perturb_template or ())
        files = _named_values("file", self.perturb_file or (), taken=texts)
        return ScoreRequest(
            run_folder=self.run_dir,
            train_file=tuple(self.train),
            test_file=tuple(self.test) if self.test else None,
            fields=FieldNames(self.question, self.solution, self.answer, self.turns),
            skip_bad=self.skip_bad,
            train_sample=self.train_sample,
            run=self.run or None,
            task=self.task or None,
            grader=self.grader,
            backend=self.backend,
            template=self._template(),
            form="chat" if self.chat else "plain" if self.plain else None,
            stop=None if self.stop is None else tuple(filter(None, [_unescaped(self.stop)])),
            thinking=self.thinking,
            longest=self.max_length,
            sampling=Sampling(
                self.samples,
                self.temperature,
                self.top_p,
                self.max_new_tokens,
                self.seed,
                self.max_thinking_tokens,
            ),
            chunk_examples=self.chunk_examples,
            plan=self.plan,
            log_log_threshold=self.log_log_threshold,
            segment=self.segment,
            perturbations=tuple(self.perturb or ()),
            perturb_all=self.perturb_all,
            perturbation_texts={name: _unescaped(text) for name, text in texts.items()},
            perturbation_files={name: Path(file) for name, file in files.items()},
            only=tuple(filter(None, (self.checkpoints or "").split(","))),
            execution=self._execution(),
        )

    def _template(self) -> Template | None:
        """The template that the options describe; None where they describe none."""
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
            _unescaped(self.prompt_template or paper.prompt),
            _unescaped(self.target_template or paper.target),
        )

    def _execution(self) -> Execution:
        return Execution(
            self.executor,
            self.workers,
            self.tensor_parallel,
            self.address,
            self.shards,
            self.measure_weights,
            str(self.base.resolve()) if self.base else None,
            _steps(self.step or ()),
        )


def _steps(given: Sequence[str]) -> dict[str, int]:
    """The steps of checkpoints by the names of their folders."""
    steps = {}
    for text in given:
        name, _, step = text.rpartition("=")
        if not name or not step.isdecimal():
            raise UsageError(f"--step {text!r} is not of the form NAME=STEP; write final=300")
        steps[name] = int(step)
    return steps


def _named_values(
    option: str, given: Sequence[str], taken: dict[str, str] | None = None
) -> dict[str, str]:
    """The values of an option that is given as NAME=VALUE, by their names."""
    values: dict[str, str] = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not equals or name in values or name in (taken or {}):
            raise UsageError(
                f"--perturb-{option} {text!r} has no name, or a name that is given twice; give it "
                f"a unique name, as in NAME={option.upper()}"
            )
        values[name] = value
    return values


def _unescaped(text: str) -> str:
    r"""The text with line breaks for \n, because line breaks are hard to type in a shell."""
    return text.replace("\\n", "\n")
