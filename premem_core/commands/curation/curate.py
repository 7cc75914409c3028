"""curate: choose training examples by their scores, and write them to a file."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import pandas as pd
import typer

from premem_core.analysis import run_scores
from premem_core.commands.options import (
    EstimatorOption,
    JsonOption,
    SegmentOption,
    StoreOption,
    ThresholdOption,
    check_paths,
    existing_store,
    print_json,
    read_recipe,
    say,
    takes_options,
    task_of,
    threshold_of,
    write_text,
)
from premem_core.curation import export, quality_gates, selection, shapes
from premem_core.curation.recipe import Combine, Criterion, Recipe, Shape, Unit, Weights
from premem_core.errors import UsageError
from premem_core.store.database import Store
from premem_core.store.runs import read_tasks

BESIDE_A_RECIPE = {"store", "out", "recipe", "from_recipe", "as_json"}  # allowed options


@dataclass(frozen=True, kw_only=True)
class CurateOptions:
    """The options of `curate`, in the order of its help."""

    context: typer.Context
    out: Annotated[
        Path,
        typer.Option(
            help="The file to write: .jsonl, .csv or .parquet. Without an ending: a folder with a "
            "data card, which datasets.load_dataset can load."
        ),
    ]
    store: StoreOption = Path("store")
    run: Annotated[
        list[str] | None,
        typer.Option(
            help="A run whose scores are used; of several runs, the mean. Default: all scored runs "
            "of the task."
        ),
    ] = None
    task: Annotated[
        str | None, typer.Option(help="The task of the runs; default: the store's only task.")
    ] = None
    strategy: Annotated[
        list[str] | None,
        typer.Option(
            help="A strategy by which examples are ranked; the rankings of several are combined."
        ),
    ] = None
    below: Annotated[
        list[str] | None,
        typer.Option(
            help="Only examples with a value of at most this; with several strategies, "
            "STRATEGY=VALUE."
        ),
    ] = None
    above: Annotated[
        list[str] | None,
        typer.Option(help="Only examples with a value of at least this; as for --below."),
    ] = None
    weight: Annotated[
        list[str] | None,
        typer.Option(help="STRATEGY=VALUE: the weight of its ranking; default: 1."),
    ] = None
    budget: Annotated[
        int | None, typer.Option(help="The largest number of examples, or of tokens.")
    ] = None
    budget_in: Annotated[
        Unit, typer.Option(help="What the budget counts: examples, or tokens of their solutions.")
    ] = "examples"
    quota_field: Annotated[
        str | None, typer.Option(help="A metadata field whose values have quotas.")
    ] = None
    quota: Annotated[
        list[str] | None,
        typer.Option(
            help="VALUE=SHARE: the largest share of the budget for examples with this value."
        ),
    ] = None
    gate: Annotated[
        list[str] | None,
        typer.Option(
            help="Leave out examples in which a quality gate finds an issue: labels, leaks, "
            "unparsed or duplicates. labels=0.8 sets the cutoff."
        ),
    ] = None
    against: Annotated[
        Path | None,
        typer.Option(
            help="A file of further test problems for the gate leaks, which always uses those of "
            "the store."
        ),
    ] = None
    keep: Annotated[
        list[str] | None,
        typer.Option(help="The id of an example to include, regardless of bounds and gates."),
    ] = None
    drop: Annotated[list[str] | None, typer.Option(help="The id of an example to exclude.")] = None
    excuse: Annotated[
        list[str] | None, typer.Option(help="The id of an example that passes all gates.")
    ] = None
    combine: Annotated[
        Combine,
        typer.Option(help="Whether an example must be within all bounds, or within any."),
    ] = "all"
    log_log_threshold: ThresholdOption = None
    estimator: EstimatorOption = None
    segment: SegmentOption = "target"
    seed: Annotated[
        int,
        typer.Option(
            help="The seed of the random strategy and of the order of examples with equal scores."
        ),
    ] = 0
    shape: Annotated[
        Shape | None,
        typer.Option(
            help="The columns that hold question and solution; default: plain, or messages where "
            "the examples come from chats."
        ),
    ] = None
    weights: Annotated[
        Weights,
        typer.Option(
            help="How the file weights examples by score: none, a column of weights, or repeated "
            "rows."
        ),
    ] = "none"
    recipe: Annotated[
        Path | None,
        typer.Option(help="Write all these options to this file, from which --from-recipe reads."),
    ] = None
    from_recipe: Annotated[Path | None, typer.Option(help="Take all options from this recipe.")] = (
        None
    )
    as_json: JsonOption = False

    def new_recipe(self, store: Store) -> Recipe:
        """The recipe that these options describe.

        Raises:
            UsageError: an option is invalid, or the options contradict each other.
        """
        task = _choose_task(store, self.task, self.run or [])
        scored = run_scores.read_task(store, task, self.segment)
        runs = self.run
        if not runs:
            runs = [scores.run for scores in scored]
            say(f"judged by all {len(runs)} scored runs of the task '{task}': {', '.join(runs)}")
        estimator = self.estimator or run_scores.default_estimator(scored)
        threshold = threshold_of(scored, task, self.log_log_threshold, estimator)
        return Recipe(
            task=task,
            runs=tuple(runs),
            log_log_threshold=threshold.log_log_threshold,
            threshold_source=threshold.source,
            criteria=self._criteria(),
            estimator=estimator,
            segment=self.segment,
            combine=self.combine,
            budget=self.budget,
            budget_in=self.budget_in,
            quota_field=self.quota_field,
            quotas=dict(_name_and_number(text, "--quota") for text in self.quota or []),
            gates=dict(map(_gate_and_cutoff, self.gate or [])),
            against=None if self.against is None else str(self.against.resolve()),
            seed=self.seed,
            kept=tuple(self.keep or []),
            dropped=tuple(self.drop or []),
            excused=tuple(self.excuse or []),
            shape=self.shape or shapes.default_shape(store, task),
            weights=self.weights,
            store_version=store.version(),
        )

    def _criteria(self) -> tuple[Criterion, ...]:
        strategies = self.strategy or ["premem"]
        options: dict[str, dict[str, float]] = {name: {} for name in strategies}
        for option in ("below", "above", "weight"):
            for text in getattr(self, option) or []:
                # A number without a name belongs to the first strategy, usually the only one.
                pair = text if "=" in text else f"{strategies[0]}={text}"
                name, value = _name_and_number(pair, f"--{option}")
                if name not in options:
                    raise UsageError(
                        f"--{option} {text} is for a strategy that is not given; add --strategy "
                        f"{name}"
                    )
                options[name][option] = value
        return tuple(Criterion(name, **options[name]) for name in strategies)


@takes_options(CurateOptions)
def curate(options: CurateOptions) -> None:
    """Choose training examples, and write them to a file with the reason for each.

    Example: python -m premem_core curate --store store --run lr2e-5 --strategy premem --below 0.75
    --out hard.jsonl --recipe hard.yaml
    """
    store, out = existing_store(options.store), options.out
    check_paths(
        [options.from_recipe, options.against], [out if out.suffix else None, options.recipe]
    )
    if options.from_recipe is None:
        recipe = options.new_recipe(store)
    else:
        _check_no_other_options(options.context)
        recipe = read_recipe(options.from_recipe)
        if recipe.store_version not in (None, store.version()):
            say(
                "the store has changed since the recipe was written, so the selection may be "
                "different"
            )
    facts, issues, chosen = selection.build_selection(store, recipe)
    total = len(facts.examples)
    if cautions := selection.cautions_in_words(facts, recipe):
        say(f"note: {cautions}")
    del facts  # it holds all scores of the runs, which the export does not need
    if out.suffix:
        export.export_file(store, chosen, recipe, out)
    else:
        export.export_folder(store, chosen, recipe, issues, total, out)
    if options.recipe is not None:
        write_text(options.recipe, recipe.to_yaml())
    if options.as_json:
        print_json(_as_json(recipe, chosen, issues, total, out))
    else:
        _print_selection(recipe, chosen, issues, total, out)


def _as_json(
    recipe: Recipe, chosen: pd.DataFrame, issues: pd.DataFrame, total: int, out: Path
) -> dict[str, object]:
    return {
        "examples": len(chosen),
        "of": total,
        "runs": recipe.runs,
        "log_log_threshold": recipe.log_log_threshold,
        "threshold_source": recipe.threshold_source,
        "means": _mean_values(recipe, chosen),
        "gates": issues["gate"].value_counts().to_dict(),
        "file": out,
    }


def _print_selection(
    recipe: Recipe, chosen: pd.DataFrame, issues: pd.DataFrame, total: int, out: Path
) -> None:
    for name, count in issues["gate"].value_counts().items():
        typer.echo(f"gate '{name}': {count:,} found")
    means = ", ".join(f"{name} {value:.3f}" for name, value in _mean_values(recipe, chosen).items())
    typer.echo(f"{len(chosen):,} of {total:,} examples; mean {means}; {out}")


def _mean_values(recipe: Recipe, chosen: pd.DataFrame) -> dict[str, float]:
    """The mean value of each strategy over the chosen examples."""
    return {
        criterion.strategy: float(chosen[criterion.strategy].mean())
        for criterion in recipe.criteria
    }


def _choose_task(store: Store, task: str | None, runs: Sequence[str]) -> str:
    """The task of the first run, or the given task, or the store's only task.

    Raises:
        UsageError: the task is not determined, or it is not that of the run.
    """
    if runs:
        of_run = task_of(store, runs[0])
        if task not in (None, of_run):
            raise UsageError(f"the run '{runs[0]}' is of the task '{of_run}', not of '{task}'")
        return of_run
    tasks = read_tasks(store)
    if task is None and len(tasks) != 1:
        names = ", ".join(f"'{name}'" for name in tasks) or "none yet"
        raise UsageError(f"give --run, or --task: the store has the tasks {names}")
    return task or tasks[0]


def _check_no_other_options(context: typer.Context) -> None:
    """UsageError: an option is given that the recipe determines."""
    for name in set(context.params) - BESIDE_A_RECIPE:
        source = context.get_parameter_source(name)
        if source is not None and source.name == "COMMANDLINE":
            option = "--" + name.replace("_", "-")
            raise UsageError(
                f"{option} cannot be combined with --from-recipe, because the recipe determines "
                f"it; omit {option}, or change the recipe"
            )


def _gate_and_cutoff(text: str) -> tuple[str, float | None]:
    if "=" in text:
        return _name_and_number(text, "--gate")
    # The default is stored in the recipe, because a later version may have another default.
    return text, quality_gates.GATES[text].default if text in quality_gates.GATES else None


def _name_and_number(text: str, option: str) -> tuple[str, float]:
    name, equals, value = text.rpartition("=")
    try:
        return name, float(value if equals else "none")
    except ValueError as error:
        raise UsageError(f"{option} takes NAME=NUMBER, not '{text}'") from error
