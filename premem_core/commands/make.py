"""finetune, demo, import-published: what makes something to score or to look at."""

import time
from pathlib import Path
from typing import Annotated

import typer

from premem_core.commands.analyse import print_fit
from premem_core.commands.options import StoreOption, say
from premem_core.store.database import Store


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
    from premem_core.problems import examples
    from premem_core.training.finetune import finetune_model

    finetune_model(
        base,
        examples.read_examples(train, skip_bad=skip_bad).examples,
        out,
        learning_rate=learning_rate,
        epochs=epochs,
        batch_size=batch_size,
        gradient_accumulation=gradient_accumulation,
        checkpoint_every=checkpoint_every,
        lora_rank=lora_rank,
        warmup_steps=warmup_steps,
        seed=seed,
        progress=say,
    )
    say(f"checkpoints are in {out}")


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
    from premem_core.demo import demo_study

    if not rebuild:
        demo_study.install(store)
        return
    started = time.monotonic()
    home = Store(store)
    demo_study.rebuild(home, say)
    say(f"the whole study took {(time.monotonic() - started) / 60:.1f} minutes")
    print_fit(home, demo_study.TASK, None, "plain", as_json=False)
    if ship:
        demo_study.ship(home, ship)


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
    from premem_core.importers import published_arrays
    from premem_core.problems import examples

    texts = {
        split: examples.read_examples(file).examples if file else None
        for split, file in (("train", train), ("test", test))
    }
    # Read once before, so that no store is made for a source that is refused.
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
