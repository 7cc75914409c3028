"""The options of `score`, and the request that they make."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from premem_core.commands.options import StoreOption
from premem_core.errors import UsageError
from premem_core.metrics.sampling_plan import Plan
from premem_core.problems.prompts import PromptTemplate
from premem_core.records import Sampling
from premem_core.scoring.job_files import Execution, ExecutorName

if TYPE_CHECKING:
    from premem_core.scoring.prepare import ScoreRequest


@dataclass(frozen=True, kw_only=True)
class ScoreOptions:
    """What the command `score` is given, in the order of its help."""

    run_dir: Annotated[Path, typer.Argument(help="A run's folder with checkpoint-<step> in it.")]
    train: Annotated[Path, typer.Option(help="The training problems: JSONL, CSV or Parquet.")]
    store: StoreOption = Path("store")
    test: Annotated[Path | None, typer.Option(help="The test problems.")] = None
    run: Annotated[str | None, typer.Option(help="The run's name; default: its folder's.")] = None
    task: Annotated[
        str | None,
        typer.Option(help="Runs of one task are fitted together; default: the data's folder."),
    ] = None
    backend: Annotated[
        str | None, typer.Option(help="vllm, or hf (transformers); default: vllm if installed.")
    ] = None
    grader: Annotated[
        str | None,
        typer.Option(help="gsm8k, math or paper; default: math where the answer is boxed."),
    ] = None

    # Which samples are drawn

    plan: Annotated[
        Plan,
        typer.Option(
            help="full; lazy: only what PM needs at one threshold; final: of the last checkpoint."
        ),
    ] = "full"
    log_log_threshold: Annotated[
        float | None,
        typer.Option(
            help="t = log log PPL of the plan; default: the optimum over the task's scored runs."
        ),
    ] = None
    perturb: Annotated[
        list[str] | None,
        typer.Option(
            help="Sample perturbed training queries too: first, we-know-that, rename, swap, "
            "reorder, insert, redraw."
        ),
    ] = None
    perturb_template: Annotated[
        list[str] | None,
        typer.Option(help=r"... in a text of your own: polite='Please solve: {question}'."),
    ] = None
    perturb_file: Annotated[
        list[str] | None,
        typer.Option(
            help="... from a file: hand=FILE, with question, id or original, and answer if another."
        ),
    ] = None
    perturb_all: Annotated[
        bool, typer.Option(help="... at every checkpoint; default: at the last one.")
    ] = False
    samples: Annotated[int, typer.Option(min=1, help="Completions per problem.")] = 5
    temperature: Annotated[float, typer.Option(min=0)] = 0.8
    top_p: Annotated[float, typer.Option(min=0.01, max=1)] = 0.95
    max_new_tokens: Annotated[int, typer.Option(min=1)] = 512
    seed: Annotated[int, typer.Option(min=0)] = 0

    # How the data is read and becomes text

    question: Annotated[str | None, typer.Option(help="Field of the question.")] = None
    solution: Annotated[str | None, typer.Option(help="Field of the solution.")] = None
    answer: Annotated[
        str | None,
        typer.Option(help=r"Where the final answer is: field:NAME, hash (#### x), boxed, regex:…"),
    ] = None
    prompt_template: Annotated[str, typer.Option()] = r"{question}\nAnswer:"
    target_template: Annotated[str, typer.Option()] = r" {solution}\nDone."
    stop: Annotated[str, typer.Option(help="Text that ends a completion.")] = r"\nDone."
    train_sample: Annotated[
        int | None, typer.Option(min=1, help="Score this many random training problems only.")
    ] = None
    chunk_examples: Annotated[int, typer.Option(min=1, help="Problems per unit of work.")] = 128
    skip_bad: Annotated[bool, typer.Option(help="Leave bad rows out, and count them.")] = False

    # How the job is run

    resume: Annotated[bool, typer.Option(help="Continue a job that was stopped.")] = False
    extend: Annotated[
        bool,
        typer.Option(help="Ask more of a job: samples, checkpoints, problems, perturbations."),
    ] = False
    workers: Annotated[
        int | None, typer.Option(min=1, help="Checkpoints at once; default: one per GPU.")
    ] = None
    tensor_parallel: Annotated[int, typer.Option(min=1, help="GPUs per worker.")] = 1
    executor: Annotated[ExecutorName, typer.Option(help="This machine, or Ray.")] = "local"
    address: Annotated[str | None, typer.Option(help="Of the Ray cluster.")] = None
    shards: Annotated[
        str | None,
        typer.Option(help="An fsspec prefix, for Ray workers that do not see the store's folder."),
    ] = None
    measure_weights: Annotated[
        bool,
        typer.Option(
            "--weights", help="Then measure distance from initialization and gradient variance."
        ),
    ] = False
    base: Annotated[
        Path | None,
        typer.Option(help="For --weights: folder of the model that the run began with."),
    ] = None
    dry_run: Annotated[bool, typer.Option(help="Show what would be done, and stop.")] = False
    estimate: Annotated[
        bool, typer.Option(help="Score a few problems, say how long it would take, and stop.")
    ] = False

    def request(self) -> "ScoreRequest":
        """What these options ask to be scored.

        Raises:
            UsageError: a perturbation of the user's own has no name, or that of another.
        """
        from premem_core.scoring.prepare import FieldNames, ScoreRequest

        texts = _named_values("template", self.perturb_template or ())
        files = _named_values("file", self.perturb_file or (), taken=texts)
        return ScoreRequest(
            run_folder=self.run_dir,
            train_file=self.train,
            test_file=self.test,
            fields=FieldNames(self.question, self.solution, self.answer),
            skip_bad=self.skip_bad,
            train_sample=self.train_sample,
            run=self.run or None,
            task=self.task or None,
            grader=self.grader,
            backend=self.backend,
            template=self._template(),
            sampling=Sampling(
                self.samples, self.temperature, self.top_p, self.max_new_tokens, self.seed
            ),
            chunk_examples=self.chunk_examples,
            plan=self.plan,
            log_log_threshold=self.log_log_threshold,
            perturbations=tuple(self.perturb or ()),
            perturb_all=self.perturb_all,
            perturbation_texts={name: _unescaped(text) for name, text in texts.items()},
            perturbation_files={name: Path(file) for name, file in files.items()},
            execution=self._execution(),
        )

    def _template(self) -> PromptTemplate:
        stop = (_unescaped(self.stop),) if self.stop else ()
        return PromptTemplate(
            _unescaped(self.prompt_template), _unescaped(self.target_template), stop
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
        )


def _named_values(
    option: str, given: Sequence[str], taken: dict[str, str] | None = None
) -> dict[str, str]:
    """The values of an option that is given as NAME=VALUE, by their names."""
    values: dict[str, str] = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not equals or name in values or name in (taken or {}):
            raise UsageError(
                f"--perturb-{option} {text!r}: give each a name of its own, as NAME={option}"
            )
        values[name] = value
    return values


def _unescaped(text: str) -> str:
    r"""A shell cannot easily give a line break: \n stands for one."""
    return text.replace("\\n", "\n")
