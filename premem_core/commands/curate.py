"""curate: from what runs learned to the data set to collect and train on next."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from premem_core.analysis import run_scores
from premem_core.commands.options import (
    EstimatorOption,
    JsonOption,
    StoreOption,
    ThresholdOption,
    check_paths,
    existing_store,
    print_json,
    read_recipe,
    say,
    task_of,
    threshold_of,
    write_text,
)
from premem_core.curation import export, quality_gates, selection
from premem_core.curation.recipe import Combine, Criterion, Recipe, Shape, Unit, Weights
from premem_core.errors import UsageError
from premem_core.store.database import Store
from premem_core.store.runs import read_tasks

BESIDE_A_RECIPE = {"store", "out", "recipe", "from_recipe", "as_json"}  # options


def curate(
    context: typer.Context,
    out: Annotated[
        Path,
        typer.Option(
            help="The file to write: .jsonl, .csv or .parquet; without an ending, a folder that "
            "datasets loads, with a data card."
        ),
    ],
    store: StoreOption = Path("store"),
    run: Annotated[
        list[str] | None,
        typer.Option(
            help="A run to judge examples by; several: their mean. Default: all scored runs of the "
            "task."
        ),
    ] = None,
    task: Annotated[
        str | None, typer.Option(help="The runs' task; default: the only one of the store.")
    ] = None,
    strategy: Annotated[
        list[str] | None,
        typer.Option(help="What to choose by; several: their rankings are combined."),
    ] = None,
    below: Annotated[
        list[str] | None,
        typer.Option(
            help="Only where the strategy's value is at most this; of several strategies, "
            "STRATEGY=VALUE."
        ),
    ] = None,
    above: Annotated[list[str] | None, typer.Option(help="At least this; as --below.")] = None,
    weight: Annotated[
        list[str] | None, typer.Option(help="STRATEGY=VALUE: of its ranking; else 1.")
    ] = None,
    budget: Annotated[int | None, typer.Option(help="So many at most.")] = None,
    budget_in: Annotated[
        Unit, typer.Option(help="What the budget counts: examples, or their solutions' tokens.")
    ] = "examples",
    quota_field: Annotated[
        str | None, typer.Option(help="A metadata field whose values have quotas.")
    ] = None,
    quota: Annotated[
        list[str] | None,
        typer.Option(
            help="VALUE=SHARE: the largest share of the budget of one value of the field."
        ),
    ] = None,
    gate: Annotated[
        list[str] | None,
        typer.Option(
            help="Leave out what a quality gate finds: labels, leaks, unparsed, duplicates; "
            "labels=0.8: from this value on."
        ),
    ] = None,
    against: Annotated[
        Path | None,
        typer.Option(help="Problems that nothing may leak from, beside the store's test set."),
    ] = None,
    keep: Annotated[
        list[str] | None, typer.Option(help="An example's id: in, whatever else is asked for.")
    ] = None,
    drop: Annotated[list[str] | None, typer.Option(help="An example's id: out.")] = None,
    excuse: Annotated[
        list[str] | None, typer.Option(help="An example's id: let through the gates.")
    ] = None,
    combine: Annotated[Combine, typer.Option(help="Keep within all bounds, or any.")] = "all",
    log_log_threshold: ThresholdOption = None,
    estimator: EstimatorOption = "plain",
    seed: Annotated[
        int, typer.Option(help="Of what is random, and of who comes first among equals.")
    ] = 0,
    shape: Annotated[Shape, typer.Option(help="What a row's texts are called.")] = "plain",
    weights: Annotated[
        Weights, typer.Option(help="By score: none, a column of weights, or rows repeated.")
    ] = "none",
    recipe: Annotated[
        Path | None, typer.Option(help="Write down here what the file follows from.")
    ] = None,
    from_recipe: Annotated[
        Path | None, typer.Option(help="Build the file of this recipe again.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Choose training examples, and write them with the reason for each.

    Example: python -m premem_core curate --store store --run lr2e-5 --strategy premem --below 0.75
    --out hard.jsonl --recipe hard.yaml
    """
    home = existing_store(store)
    check_paths([from_recipe, against], [out if out.suffix else None, recipe])
    if from_recipe is not None:
        _check_alone(context)
        asked = read_recipe(from_recipe)
        if asked.store_version not in (None, home.version()):
            say("the store has changed since the recipe was written; what it chooses may have, too")
    else:
        task = _task(home, task, run or [])
        scored = run_scores.read_task(home, task)
        if not run:
            run = [scores.run for scores in scored]
            say(f"judged by all {len(run)} scored runs of the task '{task}': {', '.join(run)}")
        t = threshold_of(scored, log_log_threshold, estimator)
        asked = Recipe(
            task=task,
            runs=tuple(run),
            log_log_threshold=t,
            criteria=_criteria(strategy or ["premem"], below or [], above or [], weight or []),
            estimator=estimator,
            combine=combine,
            budget=budget,
            budget_in=budget_in,
            quota_field=quota_field,
            quotas=dict(_pair(each, "--quota") for each in quota or []),
            gates=dict(map(_gate, gate or [])),
            against=None if against is None else str(against.resolve()),
            seed=seed,
            kept=tuple(keep or []),
            dropped=tuple(drop or []),
            excused=tuple(excuse or []),
            shape=shape,
            weights=weights,
            store_version=home.version(),
        )
    evidence, found, chosen = selection.build_selection(home, asked)
    every = len(evidence.examples)
    del evidence  # all scores of the runs: not needed while texts are read
    if out.suffix:
        export.export_file(home, chosen, asked, out)
    else:
        export.export_folder(home, chosen, asked, found, every, out)
    if recipe is not None:
        write_text(recipe, asked.to_yaml())
    means = {each.strategy: float(chosen[each.strategy].mean()) for each in asked.criteria}
    if as_json:
        print_json(
            {
                "examples": len(chosen),
                "of": every,
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
    typer.echo(f"{len(chosen):,} of {every:,} examples; mean {told}; {out}")


def _task(store: Store, task: str | None, runs: Sequence[str]) -> str:
    """The task of the runs, or the one that is given, or the only one of the store.

    Raises:
        UsageError: neither says which, or they say different ones.
    """
    if runs:
        of_run = task_of(store, runs[0])
        if task not in (None, of_run):
            raise UsageError(f"the run '{runs[0]}' is of the task '{of_run}', not of '{task}'")
        return of_run
    tasks = read_tasks(store)
    if task is None and len(tasks) != 1:
        known = ", ".join(f"'{name}'" for name in tasks) or "none yet"
        raise UsageError(f"give --run, or --task: the store has the tasks {known}")
    return task or tasks[0]


def _check_alone(context: typer.Context) -> None:
    """UsageError: something is asked for that a recipe says itself."""
    for name in set(context.params) - BESIDE_A_RECIPE:
        source = context.get_parameter_source(name)
        if source is not None and source.name == "COMMANDLINE":
            option = "--" + name.replace("_", "-")
            raise UsageError(f"--from-recipe says itself what {option} says; leave that out")


def _criteria(
    strategies: Sequence[str], below: Sequence[str], above: Sequence[str], weight: Sequence[str]
) -> tuple[Criterion, ...]:
    """UsageError: a value is none, or of a strategy that is not asked for."""
    given: dict[str, dict[str, float]] = {name: {} for name in strategies}
    for option, texts in (("below", below), ("above", above), ("weight", weight)):
        for text in texts:
            # A bare number is the first strategy's: there is no other, mostly.
            named = text if "=" in text else f"{strategies[0]}={text}"
            name, value = _pair(named, f"--{option}")
            if name not in given:
                raise UsageError(f"--{option} {text} is of a strategy that is not asked for")
            given[name][option] = value
    return tuple(Criterion(name, **given[name]) for name in strategies)


def _gate(given: str) -> tuple[str, float | None]:
    if "=" in given:
        return _pair(given, "--gate")
    # Written down: a later Premem may have another default.
    return given, quality_gates.GATES[given].default if given in quality_gates.GATES else None


def _pair(given: str, option: str) -> tuple[str, float]:
    name, equals, value = given.rpartition("=")
    try:
        return name, float(value if equals else "none")
    except ValueError as error:
        raise UsageError(f"{option} takes NAME=NUMBER, not '{given}'") from error
