"""curate: from what runs learned to the data set to collect and train on next."""

from pathlib import Path
from typing import Annotated

import typer

from premem_core import curation, curves, exports, gates
from premem_core.commands.options import (
    EstimatorOption,
    JsonOption,
    StoreOption,
    ThresholdOption,
    existing_store,
    print_json,
    read_recipe,
    task_of,
    threshold_of,
    write_text,
)
from premem_core.curation import Combine, Criterion, Recipe, Unit
from premem_core.errors import UsageError
from premem_core.exports import Shape, Weights


def curate(
    out: Annotated[
        Path,
        typer.Option(
            help="The file to write: .jsonl, .csv or .parquet; without an ending, a folder that "
            "datasets loads, with a data card."
        ),
    ],
    store: StoreOption = Path("store"),
    run: Annotated[
        list[str] | None, typer.Option(help="A run to judge examples by; several: their mean.")
    ] = None,
    strategy: Annotated[
        list[str] | None,
        typer.Option(help="What to choose by; several: their rankings are combined."),
    ] = None,
    below: Annotated[
        float | None, typer.Option(help="Only where the first strategy's value is at most this.")
    ] = None,
    above: Annotated[
        float | None, typer.Option(help="Only where the first strategy's value is at least this.")
    ] = None,
    budget: Annotated[int | None, typer.Option(help="So many at most.")] = None,
    budget_in: Annotated[
        Unit, typer.Option(help="What the budget counts: examples, or their solutions' tokens.")
    ] = "examples",
    gate: Annotated[
        list[str] | None,
        typer.Option(
            help="Leave out what a quality gate finds: labels, duplicates, leaks, unparsed; "
            "labels=0.8: from this value on."
        ),
    ] = None,
    against: Annotated[
        Path | None,
        typer.Option(help="The test problems that nothing may leak from; default: the store's."),
    ] = None,
    combine: Annotated[Combine, typer.Option(help="Keep within all bounds, or any.")] = "all",
    log_log_threshold: ThresholdOption = None,
    estimator: EstimatorOption = "plain",
    seed: Annotated[int, typer.Option(help="Of what is random.")] = 0,
    shape: Annotated[Shape, typer.Option(help="What a row's texts are called.")] = "plain",
    weights: Annotated[
        Weights, typer.Option(help="By score: none, a column of weights, or rows repeated.")
    ] = "none",
    recipe: Annotated[
        Path | None, typer.Option(help="Write down here what the selection follows from.")
    ] = None,
    from_recipe: Annotated[
        Path | None, typer.Option(help="Build the selection of this recipe again.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Choose training examples, and write them with the reason for each.

    Example: python -m premem_core curate --store store --run lr2e-5 --strategy premem --below 0.75
    --out hard.jsonl --recipe hard.yaml
    """
    home = existing_store(store)
    if from_recipe is not None:
        if run or strategy:
            raise UsageError("--from-recipe names runs and strategies itself; leave those out")
        asked = read_recipe(from_recipe)
    else:
        if not run:
            raise UsageError("no run is chosen to judge the examples by; give --run")
        task = task_of(home, run[0])
        t = threshold_of(curves.read_task(home, task), log_log_threshold, estimator)
        first, *others = strategy or ["premem"]
        asked = Recipe(
            task=task,
            runs=tuple(run),
            log_log_threshold=t,
            criteria=(Criterion(first, below, above), *map(Criterion, others)),
            estimator=estimator,
            combine=combine,
            budget=budget,
            budget_in=budget_in,
            gates=dict(map(_gate, gate or [])),
            against=None if against is None else str(against),
            seed=seed,
            store_version=home.version(),
        )
    evidence, found, chosen = curation.build(home, asked)
    if out.suffix:
        exports.export(home, chosen, asked, out, shape, weights)
    else:
        exports.export_folder(home, chosen, asked, found, out, shape, weights)
    if recipe is not None:
        write_text(recipe, asked.to_yaml())
    means = {each.strategy: float(chosen[each.strategy].mean()) for each in asked.criteria}
    if as_json:
        print_json(
            {
                "examples": len(chosen),
                "of": len(evidence.examples),
                "runs": asked.runs,
                "log_log_threshold": asked.log_log_threshold,
                "means": means,
                "gates": found["gate"].value_counts().to_dict(),
                "file": out,
            }
        )
        return
    told = ", ".join(f"{name} {value:.3f}" for name, value in means.items())
    for name, n in found["gate"].value_counts().items():
        typer.echo(f"gate '{name}': {n:,} found")
    typer.echo(f"{len(chosen):,} of {len(evidence.examples):,} examples; mean {told}; {out}")


def _gate(given: str) -> tuple[str, float | None]:
    name, equals, value = given.partition("=")
    if not equals:  # written down: a later Premem may have another default
        return name, gates.GATES[name].default if name in gates.GATES else None
    try:
        return name, float(value)
    except ValueError as error:
        raise UsageError(f"--gate takes NAME or NAME=VALUE, not '{given}'") from error
