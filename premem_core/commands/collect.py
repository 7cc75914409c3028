"""generate: from a recipe's selection to new problems that a model wrote and that were checked."""

import math
import os
from collections import Counter
from pathlib import Path
from typing import Annotated

import typer

from premem_core.commands.options import (
    JsonOption,
    StoreOption,
    check_paths,
    existing_store,
    print_json,
    read_recipe,
    say,
)
from premem_core.curation import collection_plan, problem_writer, quality_gates, selection
from premem_core.curation.model_endpoint import Endpoint
from premem_core.curation.similar_questions import SIMILARITY
from premem_core.errors import UsageError
from premem_core.grading import graders
from premem_core.store.examples import read_task_examples


def generate(
    from_recipe: Annotated[Path, typer.Option(help="The recipe of the seeds (curate --recipe).")],
    new: Annotated[int, typer.Option(min=1, help="So many new problems.")],
    endpoint: Annotated[
        str, typer.Option(help="An OpenAI-compatible endpoint, such as http://localhost:8000/v1.")
    ],
    model: Annotated[str, typer.Option(help="What the endpoint calls the model.")],
    out: Annotated[Path, typer.Option(help="The new problems, JSONL; beside it FILE.replies.")],
    store: StoreOption = Path("store"),
    cover: Annotated[
        str | None, typer.Option(help="A metadata field whose weak groups are to be covered.")
    ] = None,
    key_variable: Annotated[
        str | None,
        typer.Option(help="The environment variable that holds the endpoint's key; never stored."),
    ] = None,
    solutions: Annotated[int, typer.Option(min=1, help="Independent solutions of each.")] = 5,
    agreement: Annotated[
        float, typer.Option(help="More than this share of them must come to the same answer.")
    ] = 0.5,
    attempts: Annotated[int, typer.Option(min=1, help="Until one of a seed passes.")] = 3,
    similarity: Annotated[
        float, typer.Option(min=0.05, max=1, help="From here on two problems are alike.")
    ] = SIMILARITY,
    against: Annotated[
        Path | None,
        typer.Option(
            help="A file of problems that nothing may be like, beside the store's test problems; "
            "default: the recipe's."
        ),
    ] = None,
    grader: Annotated[
        str | None, typer.Option(help="Compares answers; default: that of the recipe's runs.")
    ] = None,
    temperature: Annotated[float | None, typer.Option(help="Default: the endpoint's.")] = None,
    max_tokens: Annotated[
        int | None, typer.Option(min=1, help="Of a reply. Default: no limit.")
    ] = None,
    at_once: Annotated[int, typer.Option(min=1, help="Requests under way at a time.")] = 8,
    prices: Annotated[
        tuple[float, float] | None,
        typer.Option(help="Of a million tokens read, and of a million written, to tell the cost."),
    ] = None,
    rejected: Annotated[
        Path | None, typer.Option(help="Write here what is not kept, with the reason. JSONL.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Have a model write new problems like the chosen ones, and keep those that pass the checks.

    Stopped, it goes on where it was when the same command is given again: no reply that is kept is
    paid for twice.

    Example: python -m premem_core generate --store store --from-recipe hard.yaml --new 500
    --endpoint http://localhost:8000/v1 --model qwen --out new.jsonl
    """
    home = existing_store(store)
    checks = problem_writer.Checks(solutions, agreement, attempts, similarity)
    if temperature == 0 and max(solutions, attempts) > 1:
        raise UsageError(
            "at temperature 0 every reply is the same, and no solution is independent; give "
            "--temperature 0.7, say"
        )
    if prices is not None and not all(0 <= price < math.inf for price in prices):
        raise UsageError(f"prices are numbers from 0, not {prices[0]} and {prices[1]}")
    replies = out.with_name(out.name + ".replies") if out.name else out
    check_paths([from_recipe, against], [out, replies, rejected])
    recipe = read_recipe(from_recipe)
    against = against or (Path(recipe.against) if recipe.against else None)
    evidence, _, chosen = selection.build_selection(home, recipe)
    planned = list(
        collection_plan.new_problems(
            home, recipe.task, collection_plan.plan_collection(chosen, new, cover)
        )
    )
    test = quality_gates.test_questions(home, recipe.task, against)
    train = read_task_examples(home, recipe.task, "train")
    known = [
        *zip("test problem " + test["id"], test["question"].fillna(""), strict=True),
        *zip(train["id"], train["question"].fillna(""), strict=True),
    ]
    name = grader or quality_gates.grader_of(evidence.runs, [each.solution for each in planned])
    if name == "paper":
        raise UsageError("the grader 'paper' takes any end of a text for an answer; give --grader")
    key = _key(key_variable)
    once = (1 + solutions) * len(planned)
    say(f"{once:,} requests if all pass at once, at most {attempts * once:,}")
    with (
        graders.make_grader(name) as compared_by,
        Endpoint(
            endpoint, model, replies, key=key, temperature=temperature, max_tokens=max_tokens,
            at_once=at_once, say=say,
        ) as asked,
    ):  # fmt: skip
        problems = problem_writer.write_problems(planned, asked, compared_by, known, checks, say)
    kept = [each for each in problems if not each.why_not]
    problem_writer.write_rows(kept, model, checks, out)
    if rejected is not None:
        others = [each for each in problems if each.why_not]
        problem_writer.write_rows(others, model, checks, rejected)
    cost = {
        "prompt_tokens": sum(each.prompt_tokens for each in problems),
        "completion_tokens": sum(each.completion_tokens for each in problems),
    }
    paid = None
    if prices is not None:
        paid = sum(n * price for n, price in zip(cost.values(), prices, strict=True)) / 1e6
    reasons = Counter(each.why_not.partition(":")[0] for each in problems if each.why_not)
    if as_json:
        told = {"kept": len(kept), "of": len(problems), "not_kept": dict(reasons), **cost}
        print_json({**told, "cost": paid, "file": out})
        return
    for reason, n in reasons.most_common():
        typer.echo(f"not kept, {reason}: {n:,}")
    read, written = cost.values()
    typer.echo(
        f"{read:,} tokens read and {written:,} written"
        + (f", {paid:,.4f}" if paid is not None else "")
    )
    typer.echo(f"{len(kept):,} of {len(problems):,} new problems; {out}")


def _key(variable: str | None) -> str | None:
    key = None if variable is None else os.environ.get(variable)
    if variable is not None and not key:
        raise UsageError(f"the environment variable {variable} is not set; put the key in it")
    return key


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
    *_, chosen = selection.build_selection(home, recipe)
    planned = collection_plan.plan_collection(chosen, new, cover)
    if worksheet is not None:
        collection_plan.worksheet(home, recipe.task, planned, worksheet)
    if prompts is not None:
        collection_plan.prompts(home, recipe.task, planned, prompts)
    by_group = planned.groupby("group")["new"].agg(["size", "sum"]) if cover else None
    if as_json:
        seeds = planned[["id", "group", "weight", "new"]].to_dict("records")
        print_json({"new": int(planned["new"].sum()), "seeds": seeds})
        return
    typer.echo(f"{int(planned['new'].sum()):,} new problems of {len(planned):,} seeds")
    if by_group is not None:
        for name, row in by_group.iterrows():
            typer.echo(f"{cover} {name}: {row['sum']:,} new problems of {row['size']:,} seeds")
