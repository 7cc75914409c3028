"""collect, generate: new problems like the chosen examples, by a person or by a model."""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
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
    takes_options,
)
from premem_core.curation import collection_plan, problem_writer, quality_gates, selection
from premem_core.curation.collection_plan import NewProblem
from premem_core.curation.problem_writer import Checks, WrittenProblem
from premem_core.curation.recipe import Recipe
from premem_core.curation.similar_questions import SIMILARITY
from premem_core.endpoint_address import read_key
from premem_core.errors import UsageError
from premem_core.grading import graders
from premem_core.grading.grader_texts import parse_grader
from premem_core.model_endpoint import Endpoint
from premem_core.store.database import Store
from premem_core.store.examples import read_task_examples

RecipeOption = Annotated[
    Path,
    typer.Option(help="A recipe (curate --recipe); new problems are like the chosen examples."),
]
NewOption = Annotated[int, typer.Option(min=1, help="The number of new problems.")]
CoverOption = Annotated[
    str | None,
    typer.Option(
        help="A metadata field: values whose examples have high scores get more new problems, even "
        "if few examples have the value."
    ),
]


@dataclass(frozen=True, kw_only=True)
class GenerateOptions:
    """The options of `generate`, in the order of its help."""

    from_recipe: RecipeOption
    new: NewOption
    endpoint: Annotated[
        str, typer.Option(help="An OpenAI-compatible endpoint, such as http://localhost:8000/v1.")
    ]
    model: Annotated[str, typer.Option(help="The model's name at the endpoint.")]
    out: Annotated[
        Path,
        typer.Option(
            help="The JSONL file to write. The model's replies are stored in FILE.replies."
        ),
    ]
    store: StoreOption = Path("store")
    cover: CoverOption = None
    key_variable: Annotated[
        str | None,
        typer.Option(
            help="The environment variable that holds the endpoint's key; the key is never stored."
        ),
    ] = None
    solutions: Annotated[
        int, typer.Option(min=1, help="The number of independent solutions of a new problem.")
    ] = 5
    agreement: Annotated[
        float,
        typer.Option(
            help="More than this share of the independent solutions must have the written "
            "solution's answer."
        ),
    ] = 0.5
    attempts: Annotated[
        int,
        typer.Option(min=1, help="The largest number of attempts to write a problem that passes."),
    ] = 3
    similarity: Annotated[
        float,
        typer.Option(
            min=0.05, max=1, help="Two problems with at least this similarity are similar."
        ),
    ] = SIMILARITY
    against: Annotated[
        Path | None,
        typer.Option(
            help="A file of further test problems to which no new problem may be similar; default: "
            "that of the recipe."
        ),
    ] = None
    grader: Annotated[
        str | None,
        typer.Option(help="The grader that compares answers; default: that of the recipe's runs."),
    ] = None
    temperature: Annotated[
        float | None, typer.Option(help="The sampling temperature; default: the endpoint's.")
    ] = None
    max_tokens: Annotated[
        int | None,
        typer.Option(min=1, help="The largest number of tokens in a reply; default: no limit."),
    ] = None
    at_once: Annotated[
        int, typer.Option(min=1, help="The number of requests that are sent at the same time.")
    ] = 8
    prices: Annotated[
        tuple[float, float] | None,
        typer.Option(
            help="The prices of a million prompt tokens and of a million completion tokens, to "
            "compute the cost."
        ),
    ] = None
    rejected: Annotated[
        Path | None,
        typer.Option(help="Write the problems that are not kept to this JSONL, with the reason."),
    ] = None
    as_json: JsonOption = False

    @property
    def checks(self) -> Checks:
        """The checks that a new problem must pass. UsageError: an option is invalid."""
        return Checks(self.solutions, self.agreement, self.attempts, self.similarity)

    @property
    def replies(self) -> Path:
        """The file in which the model's replies are stored."""
        return self.out.with_name(self.out.name + ".replies") if self.out.name else self.out

    def check(self) -> None:
        """UsageError: an option is invalid, or the options contradict each other."""
        if self.temperature == 0 and max(self.solutions, self.attempts) > 1:
            raise UsageError(
                "at temperature 0 all replies to a prompt are the same, so solutions are not "
                "independent; give a higher one, such as --temperature 0.7"
            )
        if self.prices is not None and not all(0 <= price < math.inf for price in self.prices):
            raise UsageError(
                f"prices must be at least 0, not {self.prices[0]} and {self.prices[1]}"
            )
        check_paths([self.from_recipe, self.against], [self.out, self.replies, self.rejected])


@takes_options(GenerateOptions)
def generate(options: GenerateOptions) -> None:
    """Let a model write new problems like the chosen ones, and keep those that pass the checks.

    If it was stopped, the same command continues: no stored reply is paid for twice.

    Example: python -m premem_core generate --store store --from-recipe hard.yaml --new 500
    --endpoint http://localhost:8000/v1 --model qwen --out new.jsonl
    """
    store, checks = existing_store(options.store), options.checks
    options.check()
    recipe = read_recipe(options.from_recipe)
    facts, _, chosen = selection.build_selection(store, recipe)
    plan = collection_plan.plan_collection(chosen, options.new, options.cover)
    planned = list(collection_plan.new_problems(store, recipe.task, plan))
    known = _known_questions(store, recipe, options.against)
    grader = options.grader or quality_gates.choose_grader(
        facts.runs, [new.solution for new in planned]
    )
    if parse_grader(grader)[0] in ("paper", "code"):
        raise UsageError(
            f"the grader {grader!r} does not read the final answer of a solution, so it cannot "
            "check solutions; give another --grader"
        )
    problems = _write_problems(options, planned, known, grader)
    kept = [problem for problem in problems if not problem.why_not]
    problem_writer.write_rows(kept, options.model, checks, options.out)
    if options.rejected is not None:
        rejected = [problem for problem in problems if problem.why_not]
        problem_writer.write_rows(rejected, options.model, checks, options.rejected)
    _print_written(options, problems)


def _known_questions(store: Store, recipe: Recipe, against: Path | None) -> list[tuple[str, str]]:
    """Names and questions of all test and training problems."""
    against = against or (Path(recipe.against) if recipe.against else None)
    test = quality_gates.test_questions(store, recipe.task, against)
    train = read_task_examples(store, recipe.task, "train")
    return [
        *zip("test problem " + test["id"], test["question"].fillna(""), strict=True),
        *zip(train["id"], train["question"].fillna(""), strict=True),
    ]


def _write_problems(
    options: GenerateOptions,
    planned: Sequence[NewProblem],
    known: Sequence[tuple[str, str]],
    grader: str,
) -> list[WrittenProblem]:
    key = read_key(options.key_variable)
    requests = (1 + options.solutions) * len(planned)
    say(
        f"{requests:,} requests if all problems pass at the first attempt, at most "
        f"{options.attempts * requests:,}"
    )
    with (
        graders.make_grader(grader, allow_code=options.grader is not None) as compared_by,
        Endpoint(
            options.endpoint,
            options.model,
            options.replies,
            key=key,
            temperature=options.temperature,
            max_tokens=options.max_tokens,
            at_once=options.at_once,
            say=say,
        ) as endpoint,
    ):
        return problem_writer.write_problems(
            planned, endpoint, compared_by, known, options.checks, say
        )


def _print_written(options: GenerateOptions, problems: Sequence[WrittenProblem]) -> None:
    kept = sum(not problem.why_not for problem in problems)
    prompt_tokens = sum(problem.prompt_tokens for problem in problems)
    completion_tokens = sum(problem.completion_tokens for problem in problems)
    cost = None
    if options.prices is not None:
        prompt_price, completion_price = options.prices
        cost = (prompt_tokens * prompt_price + completion_tokens * completion_price) / 1e6
    reasons = Counter(p.why_not.partition(":")[0] for p in problems if p.why_not)
    if options.as_json:
        print_json(
            {
                "kept": kept,
                "of": len(problems),
                "not_kept": dict(reasons),
                "prompt_tokens": prompt_tokens,
                "completion_tokens": completion_tokens,
                "cost": cost,
                "file": options.out,
            }
        )
        return
    for reason, count in reasons.most_common():
        typer.echo(f"not kept, {reason}: {count:,}")
    typer.echo(
        f"{prompt_tokens:,} prompt tokens and {completion_tokens:,} completion tokens"
        + (f"; cost {cost:,.4f}" if cost is not None else "")
    )
    typer.echo(f"{kept:,} of {len(problems):,} new problems are kept; {options.out}")


def collect(
    from_recipe: RecipeOption,
    new: NewOption,
    store: StoreOption = Path("store"),
    cover: CoverOption = None,
    worksheet: Annotated[
        Path | None, typer.Option(help="Write a CSV file that a person fills in.")
    ] = None,
    prompts: Annotated[
        Path | None, typer.Option(help="Write a JSONL file of prompts for a stronger model.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Plan how many new problems to write like each chosen one, as a worksheet and as prompts.

    Example: python -m premem_core collect --store store --from-recipe hard.yaml --new 500
    --worksheet new.csv --prompts new.jsonl
    """
    home = existing_store(store)
    if worksheet is None and prompts is None and not as_json:
        raise UsageError("there is nothing to write; give --worksheet, --prompts or --json")
    check_paths([from_recipe], [worksheet, prompts])
    recipe = read_recipe(from_recipe)
    *_, chosen = selection.build_selection(home, recipe)
    planned = collection_plan.plan_collection(chosen, new, cover)
    if worksheet is not None:
        collection_plan.write_worksheet(home, recipe.task, planned, worksheet)
    if prompts is not None:
        collection_plan.write_prompts(home, recipe.task, planned, prompts)
    if as_json:
        seeds = planned[["id", "group", "weight", "new"]].to_dict("records")
        print_json({"new": int(planned["new"].sum()), "seeds": seeds})
        return
    typer.echo(
        f"{int(planned['new'].sum()):,} new problems like {len(planned):,} of the chosen examples"
    )
    if cover:
        for row in collection_plan.count_by_group(planned).itertuples():
            typer.echo(f"{cover} {row.group}: {row.new:,} new problems like {row.seeds:,} examples")
