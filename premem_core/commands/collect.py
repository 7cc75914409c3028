"""collect: from a recipe's selection to a plan of new problems."""

from pathlib import Path
from typing import Annotated

import typer

from premem_core import collection, curation
from premem_core.commands.options import (
    JsonOption,
    StoreOption,
    check_paths,
    existing_store,
    print_json,
    read_recipe,
)
from premem_core.errors import UsageError


def collect(
    from_recipe: Annotated[Path, typer.Option(help="The recipe of the seeds (curate --recipe).")],
    new: Annotated[int, typer.Option(min=1, help="So many new problems.")],
    store: StoreOption = Path("store"),
    cover: Annotated[
        str | None, typer.Option(help="A metadata field whose weak groups are to be covered.")
    ] = None,
    worksheet: Annotated[
        Path | None, typer.Option(help="Write a CSV that a person fills in.")
    ] = None,
    prompts: Annotated[
        Path | None, typer.Option(help="Write JSONL that a stronger model is asked with.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Plan new problems like the chosen ones: how many of which seed, as worksheet and prompts.

    Example: python -m premem_core collect --store store --from-recipe hard.yaml --new 500
    --worksheet new.csv --prompts new.jsonl
    """
    home = existing_store(store)
    if worksheet is None and prompts is None and not as_json:
        raise UsageError("nothing is asked for; give --worksheet, --prompts or --json")
    check_paths([from_recipe], [worksheet, prompts])
    recipe = read_recipe(from_recipe)
    *_, chosen = curation.build(home, recipe)
    planned = collection.plan(chosen, new, cover)
    if worksheet is not None:
        collection.worksheet(home, recipe.task, planned, worksheet)
    if prompts is not None:
        collection.prompts(home, recipe.task, planned, prompts)
    by_group = planned.groupby("group")["new"].agg(["size", "sum"]) if cover else None
    if as_json:
        seeds = planned[["id", "group", "weight", "new"]].to_dict("records")
        print_json({"new": int(planned["new"].sum()), "seeds": seeds})
        return
    typer.echo(f"{int(planned['new'].sum()):,} new problems of {len(planned):,} seeds")
    if by_group is not None:
        for name, row in by_group.iterrows():
            typer.echo(f"{cover} {name}: {row['sum']:,} new problems of {row['size']:,} seeds")
