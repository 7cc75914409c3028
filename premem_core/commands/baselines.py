"""baselines: what is computed of a run's weights, to compare with pre-memorization accuracy."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Literal

import pandas as pd
import typer

from premem_core import checkpoints, gradients, job_record, jobs, weights
from premem_core.commands.options import (
    JsonOption,
    StoreOption,
    existing_store,
    print_json,
    say,
    task_of,
)
from premem_core.errors import CheckpointError, DataError, UsageError
from premem_core.store import Store
from premem_core.types import Checkpoint, Example, PromptTemplate


def baselines(
    run: Annotated[str, typer.Option(help="The run, as it is named in the store.")],
    store: StoreOption = Path("store"),
    base: Annotated[
        Path | None,
        typer.Option(help="Folder of the model that the run began with; adapters need none."),
    ] = None,
    only: Annotated[
        Literal["distance", "gradient-variance"] | None,
        typer.Option(help="Compute this one; default: both."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Distance from initialization and gradient variance of a run's scored checkpoints.

    What the store has of them already is not computed again.

    Example: python -m premem_core baselines --store store --run lr2e-5 --base base
    """
    home = existing_store(store)
    measures: dict[str, Callable[[Checkpoint], float]] = {
        "distance": lambda checkpoint: weights.distance(checkpoint, base),
        "gradient_variance": lambda checkpoint: gradients.gradient_variance(
            checkpoint, *_training(home, run)
        ),
    }
    names = [only.replace("-", "_")] if only else list(measures)
    task, scored = _scored(home, run)
    known = _values(home, task, run).set_index(["step", "name"])["value"]
    failed: dict[int, str] = {}
    for step, path in zip(scored["step"].tolist(), scored["path"], strict=True):
        for name in names:
            if (step, name) in known:
                continue
            try:
                [checkpoint] = checkpoints.read_run(home.path / path, check=False).checkpoints
                value = measures[name](checkpoint)
            except (CheckpointError, DataError, MemoryError) as error:
                if failed.get(step) != str(error):
                    failed[step] = str(error)
                    say(f"checkpoint {step}: {error}")
                continue
            home.add_baseline(run, step, name, value)
            say(f"checkpoint {step}: {name} {value:.4g}")
    _print(run, _values(home, task, run), names, scored["step"].tolist(), failed, as_json)
    if failed:
        raise typer.Exit(1)


def _scored(store: Store, run: str) -> tuple[str, pd.DataFrame]:
    """The run's task, and its scored checkpoints with their folders.

    Raises:
        UsageError: there is no such run, or it has none.
    """
    task = task_of(store, run)
    found = store.checkpoints(run).query("state == 'scored'")
    if found.empty:
        raise UsageError(f"the run '{run}' has no scored checkpoint yet; score it first")
    if found["path"].isna().all():
        raise UsageError(
            f"the run '{run}' was imported, so the store knows no folder of its checkpoints; score "
            "the run from its own folder, under another name"
        )
    return task, found


def _training(store: Store, run: str) -> tuple[list[Example], PromptTemplate]:
    """The training problems that the run's job scores, and how it fills them in."""
    template = jobs.spec_of(store, run).template
    queries = job_record.read_queries(store.job_folder(run) / "queries.parquet")
    return [query.example for query in queries if query.split == "train"], template


def _values(store: Store, task: str, run: str) -> pd.DataFrame:
    return store.baselines(task).query("run == @run")


def _print(
    run: str,
    values: pd.DataFrame,
    names: list[str],
    steps: list[int],
    failed: dict[int, str],
    as_json: bool,
) -> None:
    table = values.pivot(index="step", columns="name", values="value")
    table = table.reindex(index=steps, columns=names).rename_axis(index="step", columns=None)
    if as_json:
        print_json(
            {
                "run": run,
                "checkpoints": table.reset_index().to_dict("records"),
                "failed": [{"step": step, "reason": reason} for step, reason in failed.items()],
            }
        )
        return
    typer.echo(table.reset_index().to_string(index=False, float_format="{:.4g}".format, na_rep="–"))
