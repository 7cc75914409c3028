"""baselines, ifd: measurements of a scored run that need its model again."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from premem_core.commands.options import (
    JsonOption,
    StoreOption,
    existing_store,
    print_json,
    say,
    task_of,
)
from premem_core.scoring import job_files
from premem_core.scoring.extra_passes import (
    MEASURES,
    measure_unconditional_nll,
    measure_weights,
    scored_folders,
)
from premem_core.store.checkpoint_measures import read_baselines


def ifd(
    run: Annotated[str, typer.Option(help="The run's name in the store.")],
    store: StoreOption = Path("store"),
    backend: Annotated[
        str | None, typer.Option(help="vllm or hf; default: vllm if it is installed.")
    ] = None,
    base: Annotated[
        Path | None,
        typer.Option(help="Folder of the base model of adapters; default: their job's."),
    ] = None,
) -> None:
    """Measure each solution's NLL without its question, which `curate --strategy ifd` needs.

    Example: python -m premem_core ifd --store store --run lr2e-5
    """
    home = existing_store(store)
    task_of(home, run)
    solutions = measure_unconditional_nll(
        home, run, *job_files.read_training_problems(home, run), backend, say, base
    )
    typer.echo(f"the NLL of {solutions:,} solutions of '{run}' without their question is measured")


def baselines(
    run: Annotated[str, typer.Option(help="The run's name in the store.")],
    store: StoreOption = Path("store"),
    base: Annotated[
        Path | None,
        typer.Option(help="Folder of the run's base model; default for adapters: their job's."),
    ] = None,
    only: Annotated[
        Literal["distance", "gradient-variance"] | None,
        typer.Option(help="Measure only this one; default: both."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Measure distance from initialization and gradient variance of a run's scored checkpoints.

    Values that the store has already are not measured again.

    Example: python -m premem_core baselines --store store --run lr2e-5 --base base
    """
    home = existing_store(store)
    task_of(home, run)
    steps = list(scored_folders(home, run))
    measures = [m for m in MEASURES if only in (None, m.replace("_", "-"))]
    failed = measure_weights(
        home, run, *job_files.read_training_problems(home, run), base, measures, say
    )
    for step, reason in failed.items():
        say(f"checkpoint {step}: {reason}")
    table = read_baselines(home, run).pivot(index="step", columns="name", values="value")
    table = table.reindex(index=steps, columns=measures).rename_axis(index="step", columns=None)
    table = table.reset_index()
    if as_json:
        print_json(
            {
                "run": run,
                "checkpoints": table.to_dict("records"),
                "failed": [{"step": step, "reason": reason} for step, reason in failed.items()],
            }
        )
    else:
        typer.echo(table.to_string(index=False, float_format="{:.4g}".format, na_rep="–"))
    if failed:
        raise typer.Exit(1)
