"""finetune, demo: make checkpoints to score, or a store to look at."""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from premem_core import installation
from premem_core.analysis import run_scores
from premem_core.analysis.studies.study import analyse, make_study, read_baseline_predictors
from premem_core.commands.analysis.fit import print_fit
from premem_core.commands.options import (
    StoreOption,
    TextOptions,
    TrainOption,
    say,
    takes_options,
)
from premem_core.records import Checkpoint
from premem_core.store.database import Store


@dataclass(frozen=True, kw_only=True)
class FinetuneOptions(TextOptions):
    """The options of `finetune`, in the order of its help; those of texts come last."""

    base: Annotated[Path, typer.Argument(help="Folder of the base model, in safetensors.")]
    train: TrainOption
    out: Annotated[
        Path,
        typer.Option(
            help="The run's folder; every checkpoint is saved in it as checkpoint-<step>."
        ),
    ]
    learning_rate: Annotated[
        float, typer.Option(help="The highest learning rate, after warm-up.")
    ] = 2e-5
    epochs: Annotated[int, typer.Option()] = 6
    batch_size: Annotated[int, typer.Option(help="Examples in one forward pass.")] = 8
    gradient_accumulation: Annotated[int, typer.Option(help="Forward passes per update.")] = 16
    checkpoint_every: Annotated[int, typer.Option(help="Epochs between checkpoints.")] = 1
    lora_rank: Annotated[
        int | None,
        typer.Option(help="Train a LoRA adapter of this rank; default: train all weights."),
    ] = None
    warmup_steps: Annotated[int, typer.Option()] = 20
    seed: Annotated[int, typer.Option()] = 0


@takes_options(FinetuneOptions)
def finetune(options: FinetuneOptions) -> None:
    """Fine-tune a model with the paper's settings, and save a checkpoint per epoch to score.

    Example: python -m premem_core finetune base --train train.jsonl --out runs/lr2e-5
    """
    from premem_core.models.encoding.template_choice import choose_template
    from premem_core.problems.examples import read_examples
    from premem_core.problems.fields import detect_fields
    from premem_core.training.finetune import finetune_model

    template = options.template()
    found = detect_fields(options.train, options.field_names())
    data = read_examples(options.train, found, skip_bad=options.skip_bad)
    if template is None:
        template = choose_template(data, Checkpoint(options.base, 0), options.form())
    finetune_model(
        options.base,
        data.examples,
        options.out,
        learning_rate=options.learning_rate,
        epochs=options.epochs,
        batch_size=options.batch_size,
        gradient_accumulation=options.gradient_accumulation,
        checkpoint_every=options.checkpoint_every,
        lora_rank=options.lora_rank,
        template=template,
        longest=options.max_length,
        warmup_steps=options.warmup_steps,
        seed=options.seed,
        progress=say,
    )
    same = "; score them with the same options of fields and prompts" if options.given() else ""
    say(f"checkpoints are in {options.out}{same}")


def demo(
    store: StoreOption = Path("store"),
    rebuild: Annotated[
        bool,
        typer.Option(
            help="Do not copy the study, but train, sample and score it again (up to an hour on "
            "two cores)."
        ),
    ] = False,
    ship: Annotated[
        Path | None,
        typer.Option(help="With --rebuild: copy the files that are shipped to this folder."),
    ] = None,
) -> None:
    """Copy the demo study, which is shipped with Premem, into a new store.

    Example: python -m premem_core demo --store store
    """
    from premem_core.demo import demo_study

    if not rebuild:
        demo_study.install(store)
        say(f"the demo study is in {store}; premem dashboard --store {store} shows it")
        return
    installation.require_extra("score")  # before an empty store is made
    started = time.monotonic()
    home = Store(store)
    demo_study.rebuild(home, say)
    say(f"the whole study took {(time.monotonic() - started) / 60:.1f} minutes")
    runs = run_scores.read_task(home, demo_study.TASK)
    print_fit(analyse(make_study(runs, read_baseline_predictors(home, runs))))
    if ship:
        demo_study.ship(home, ship)
