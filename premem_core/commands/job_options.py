"""The options of a scoring job, and the request that is made of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from premem_core.commands.options import (
    SegmentOption,
    StoreOption,
    TextOptions,
    TrainOption,
)
from premem_core.errors import UsageError
from premem_core.metrics.sampling_plan import Plan
from premem_core.problems.prompts import unescaped
from premem_core.records import Sampling
from premem_core.scoring.job_files import Execution, ExecutorName

if TYPE_CHECKING:
    from premem_core.scoring.preparation.request import ScoreRequest

Purpose = Literal["accuracy", "examples", "curation"]
PLAN_FOR: dict[Purpose, Plan] = {"accuracy": "last", "examples": "lazy", "curation": "final"}


@dataclass(frozen=True, kw_only=True)
class JobOptions(TextOptions):
    """The options of the commands `score` and `watch`, in the order of their help.

    Those of texts come last.
    """

    run_dir: Annotated[Path, typer.Argument(help="A run's folder with checkpoint-<step> in it.")]
    train: TrainOption
    store: StoreOption = Path("store")
    test: Annotated[list[Path] | None, typer.Option(help="The test problems, likewise.")] = None
    held_out: Annotated[
        list[Path] | None,
        typer.Option(
            help="Problems that the run was not trained on, likewise: only their perplexities are "
            "measured, from which a threshold can follow. Rows of --train among them are taken out."
        ),
    ] = None
    step: Annotated[
        list[str] | None,
        typer.Option(help="The step of a checkpoint whose folder does not tell it: final=300."),
    ] = None
    run: Annotated[
        str | None, typer.Option(help="The run's name; default: the name of its folder.")
    ] = None
    task: Annotated[
        str | None,
        typer.Option(
            help="The task's name; runs of one task are fitted together. Default: the name of the "
            "data's folder."
        ),
    ] = None
    backend: Annotated[
        str | None,
        typer.Option(
            help="vllm, hf (transformers), or server (a running one, of --endpoint); default: vllm "
            "if installed."
        ),
    ] = None
    grader: Annotated[
        str | None,
        typer.Option(
            help="A grader (premem graders lists them) with settings, as number?tolerance=0.01, or "
            "FILE.py:function; default: the one that reads the training solutions."
        ),
    ] = None

    # Which samples are drawn

    purpose: Annotated[
        Purpose | None,
        typer.Option(
            help="accuracy: how each checkpoint does (plan last); examples: what was learned of "
            "each example (plan lazy); curation: which data to collect or keep (plan final)."
        ),
    ] = None
    precision: Annotated[
        float | None,
        typer.Option(
            min=0.05,
            max=50,
            help="For the purpose accuracy: the largest standard error of a checkpoint's accuracy, "
            "in points; chooses how many problems are sampled, and how often.",
        ),
    ] = None
    generations: Annotated[
        int | None,
        typer.Option(
            min=1, help="Instead of --precision: the largest number of completions in all."
        ),
    ] = None
    plan: Annotated[
        Plan | None,
        typer.Option(
            help="full: all samples; lazy: only those that PM needs at one threshold; final: only "
            "those that PM of the last checkpoint needs; last: only those that last-unmasked "
            "accuracy needs. Default: that of the purpose; last with a precision; else full."
        ),
    ] = None
    share: Annotated[
        float | None,
        typer.Option(
            min=0.001, max=1, help="The part of the training problems that the plan last samples."
        ),
    ] = None
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
    perturb_controls: Annotated[
        bool,
        typer.Option(
            help="Also sample perturbed test queries, and the perturbed training queries at the "
            "first checkpoint, to compare the drop in accuracy with."
        ),
    ] = True
    samples: Annotated[
        int | None,
        typer.Option(min=1, help="Completions per problem; default: 5, or 1 with the plan last."),
    ] = None
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

    # How text ends, and how much of the data is scored

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
    train_sample: Annotated[
        int | None, typer.Option(min=1, help="Score this many random training problems only.")
    ] = None
    test_sample: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Score this many random test problems only; a larger number later takes the same "
            "ones and others.",
        ),
    ] = None
    tokens: Annotated[
        bool,
        typer.Option(
            "--tokens/--no-tokens",
            help="Keep the log-probability and the rank of every token of the solutions.",
        ),
    ] = True
    chunk_examples: Annotated[int, typer.Option(min=1, help="Problems per unit of work.")] = 128

    # How the job is run

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
    endpoint: Annotated[
        str | None,
        typer.Option(
            help="The URL of a running vllm serve, for --backend server: http://localhost:8000/v1."
        ),
    ] = None
    served: Annotated[
        list[str] | None,
        typer.Option(
            help="Which of the server's models holds a checkpoint, as checkpoint-100=MODEL or "
            "100=MODEL; default: the one with the name of its folder."
        ),
    ] = None
    key_variable: Annotated[
        str | None,
        typer.Option(
            help="The environment variable that holds the server's key; the key is never stored."
        ),
    ] = None
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
            help="The folder of the run's base model: for adapters that name a hub, for "
            "--score-base and for --weights."
        ),
    ] = None
    score_base: Annotated[
        bool,
        typer.Option(
            "--score-base",
            help="Also score the base model, as step 0, and find the questions that it writes on "
            "word for word.",
        ),
    ] = False

    def request(self) -> "ScoreRequest":
        """The request to score that these options describe.

        Raises:
            UsageError: a perturbation of the user's own has no name, or the name of another one; or
            options contradict each other.
        """
        from premem_core.scoring.preparation.request import ScoreRequest

        plan = self._plan()
        texts = _named_values("template", self.perturb_template or ())
        files = _named_values("file", self.perturb_file or (), taken=texts)
        return ScoreRequest(
            run_folder=self.run_dir,
            train_file=tuple(self.train),
            test_file=tuple(self.test) if self.test else None,
            held_out_file=tuple(self.held_out) if self.held_out else None,
            fields=self.field_names(),
            skip_bad=self.skip_bad,
            train_sample=self.train_sample,
            test_sample=self.test_sample,
            run=self.run or None,
            task=self.task or None,
            grader=self.grader,
            backend=self.backend,
            template=self.template(),
            form=self.form(),
            stop=None if self.stop is None else tuple(filter(None, [unescaped(self.stop)])),
            thinking=self.thinking,
            longest=self.max_length,
            tokens=self.tokens,
            sampling=Sampling(
                self.samples or (1 if plan == "last" else 5),
                self.temperature,
                self.top_p,
                self.max_new_tokens,
                self.seed,
                self.max_thinking_tokens,
            ),
            chunk_examples=self.chunk_examples,
            plan=plan,
            share=1.0 if self.share is None else self.share,
            precision=self.precision,
            generations=self.generations,
            log_log_threshold=self.log_log_threshold,
            segment=self.segment,
            perturbations=tuple(self.perturb or ()),
            perturb_all=self.perturb_all,
            perturb_controls=self.perturb_controls,
            perturbation_texts={name: unescaped(text) for name, text in texts.items()},
            perturbation_files={name: Path(file) for name, file in files.items()},
            score_base=self.score_base,
            execution=self._execution(),
        )

    def _plan(self) -> Plan:
        """The plan that was named, or that fits the purpose or the budget."""
        of_budget = {"--precision": self.precision, "--generations": self.generations}
        budget = [name for name, value in of_budget.items() if value is not None]
        if self.plan and self.purpose:
            raise UsageError(
                f"--purpose {self.purpose} chooses the plan {PLAN_FOR[self.purpose]}, and --plan "
                "names one; give only one of them"
            )
        if budget and (self.samples is not None or self.share is not None):
            raise UsageError(
                f"{budget[0]} chooses how many problems are sampled and how often; leave --samples "
                "and --share out"
            )
        if self.purpose:
            return PLAN_FOR[self.purpose]
        return self.plan or ("last" if budget or self.share is not None else "full")

    def _execution(self) -> Execution:
        if self.backend != "server" and (self.endpoint or self.served or self.key_variable):
            raise UsageError(
                "--endpoint, --served and --key-variable are for a running server; give --backend "
                "server too, or leave them out"
            )
        return Execution(
            self.executor,
            self.workers,
            self.tensor_parallel,
            self.address,
            self.shards,
            self.measure_weights,
            str(self.base.resolve()) if self.base else None,
            _steps(self.step or ()),
            self.endpoint,
            _served(self.served or ()),
            self.key_variable,
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


def _served(given: Sequence[str]) -> dict[str, str]:
    """The names of a server's models by the checkpoints that they hold."""
    served = {}
    for text in given:
        checkpoint, _, model = text.partition("=")
        if not checkpoint or not model:
            raise UsageError(
                f"--served {text!r} is not of the form CHECKPOINT=MODEL; write checkpoint-100=NAME"
            )
        served[checkpoint] = model
    return served


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
