"""Selection: the training examples that a recipe chooses, and the reasons for them."""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from premem_core.analysis import run_scores
from premem_core.curation import quality_gates, strategies
from premem_core.curation.quality_gates import FindIssues
from premem_core.curation.recipe import BY_HAND, Criterion, Recipe
from premem_core.curation.strategies import ExampleFacts
from premem_core.errors import UsageError
from premem_core.store.database import Store

MOST_LISTED = 12  # values of a field that an error message lists


def build_selection(
    store: Store, recipe: Recipe
) -> tuple[ExampleFacts, pd.DataFrame, pd.DataFrame]:
    """Apply a recipe to a store.

    Returns:
        `read_example_facts`, `find_issues` and `select` by the recipe.

    Raises:
        UsageError: the store does not have a run, strategy, field or example that the recipe names.
    """
    runs = run_scores.read_task(store, recipe.task, recipe.segment)
    if missing := set(recipe.runs) - {run.run for run in runs}:
        raise UsageError(
            f"the recipe names the run '{min(missing)}', but {store.path} has no scored run of "
            f"this name in the task '{recipe.task}'; score it, or correct the recipe"
        )
    judges = [run for run in runs if run.run in recipe.runs]
    facts = strategies.read_example_facts(
        store, recipe.task, judges, recipe.log_log_threshold, recipe.estimator
    )
    against = None if recipe.against is None else Path(recipe.against)
    finders = quality_gates.finders(store, recipe.task, facts, recipe.gates, against)
    issues = find_issues(facts, recipe, finders)
    return facts, issues, select(facts, recipe, issues.index)


def find_issues(
    facts: ExampleFacts, recipe: Recipe, finders: Mapping[str, FindIssues]
) -> pd.DataFrame:
    """The examples within the recipe's bounds in which a quality gate finds an issue.

    The gates run in the order of GATES. A gate does not see examples that an earlier gate removed.
    The result includes examples that a person excused, but not those that a person kept.

    Args:
        finders: `quality_gates.finders`.

    Returns:
        `quality_gates.COLUMNS`, indexed by the store's example number.
    """
    if not finders:
        return pd.DataFrame(columns=list(quality_gates.COLUMNS))
    ranked = _rank(facts, recipe)
    by_hand = _by_hand(ranked, recipe)
    kept, excused = (set(ranked.index[by_hand[name]]) for name in ("kept", "excused"))
    candidates, issues = ranked.index, []
    for name in filter(finders.__contains__, quality_gates.GATES):
        rows = finders[name](candidates, kept | excused)
        rows = rows[~rows.index.isin(kept)]
        issues.append(rows.assign(gate=name))
        candidates = candidates.difference(rows.index.difference(list(excused)), sort=False)
    table = pd.concat(issues)
    return table.assign(id=ranked["id"].reindex(table.index))[list(quality_gates.COLUMNS)]


def select(facts: ExampleFacts, recipe: Recipe, flagged: Collection[int] = ()) -> pd.DataFrame:
    """The chosen examples, those with the highest score first.

    Args:
        flagged: numbers of the examples in which the recipe's gates found an issue (the index of
            `find_issues`).

    Returns:
        Rows of `ExampleFacts.examples`, with the columns rank (from 1), score, and one per
        strategy with its value. For each strategy, an example is ranked between 0 (last) and 1
        (first); its score is the weighted mean of these. The seed decides the order of examples
        with equal scores.

    Raises:
        UsageError: a strategy, field or id is unknown.
    """
    if recipe.quota_field is not None:
        _check_quotas(facts, recipe.quota_field, recipe.quotas)
    ranked = _rank(facts, recipe)
    if len(flagged):
        by_hand = _by_hand(ranked, recipe)
        removed = ranked.index.isin(flagged) & ~(by_hand["excused"] | by_hand["kept"])
        ranked = ranked[~removed]
    chosen = _within_budget(ranked, recipe)
    return chosen.assign(rank=np.arange(1, len(chosen) + 1))


def _rank(facts: ExampleFacts, recipe: Recipe) -> pd.DataFrame:
    """All examples within the bounds, as in `select`; those that a person kept come first."""
    examples = facts.examples
    value_columns = pd.DataFrame(index=examples.index)
    score, within = np.zeros(len(examples)), []
    bounded = [c for c in recipe.criteria if (c.below, c.above) != (None, None)]
    for criterion in recipe.criteria:
        values = strategies.strategy_values(facts, criterion.strategy, recipe.seed)
        value_columns[criterion.strategy] = values
        score += criterion.weight * _relative_rank(values, criterion.strategy).to_numpy()
        # With "any", a criterion without bounds would let every example pass.
        if recipe.combine == "all" or criterion in bounded or not bounded:
            within.append(_within_bounds(values, criterion).to_numpy())
    score /= sum(criterion.weight for criterion in recipe.criteria)
    qualifies = np.all(within, axis=0) if recipe.combine == "all" else np.any(within, axis=0)
    table = examples.assign(**value_columns, score=score)
    ids = {example for name in BY_HAND for example in getattr(recipe, name)}
    for unknown in sorted(ids.difference(table["id"])):
        raise UsageError(
            f"the recipe names an example '{unknown}', but none of its runs was trained on it; "
            "correct the id"
        )
    by_hand = _by_hand(table, recipe)
    kept = by_hand["kept"].to_numpy()
    rows = np.flatnonzero((qualifies & ~by_hand["dropped"].to_numpy()) | kept)
    random_order = np.random.default_rng([recipe.seed, len(examples)]).permutation(len(examples))
    return table.iloc[rows[np.lexsort((random_order[rows], -score[rows], ~kept[rows]))]]


def cautions_in_words(facts: ExampleFacts, recipe: Recipe) -> str:
    """Sentences about examples that a strategy has no value of, and values by a single sample.

    Empty where there is nothing to say.
    """
    names = tuple(dict.fromkeys(criterion.strategy for criterion in recipe.criteria))
    extend = f"'premem jobs extend {recipe.runs[0]} --plan final"
    draw = f"{extend} --log-log-threshold {recipe.log_log_threshold:.3f}'"
    sentences = [
        f"{unknown:,} of {len(facts.examples):,} examples have no value of '{name}' and cannot be "
        f"chosen by it. If a plan left out their samples, {draw} draws them."
        for name in names
        if (unknown := int(strategies.strategy_values(facts, name, recipe.seed).isna().sum()))
    ]
    single = [name for name in names if name in strategies.BY_SAMPLES]
    if single and sum(run.samples for run in facts.runs) == 1:
        sentences.append(
            f"'{single[0]}' comes from one sample per example, which is right or wrong partly by "
            "chance: means over examples are good, but not the choice of single ones. "
            f"{extend} --samples 5' draws more."
        )
    return " ".join(sentences)


def reasons(rows: pd.DataFrame, recipe: Recipe) -> list[str]:
    """The strategies' values of each of these rows of `select`, in words."""
    names = [criterion.strategy for criterion in recipe.criteria]
    formats = [strategies.get_strategy(name).reason for name in names]
    return [
        "; ".join(
            text.format(value)
            for text, value in zip(formats, values, strict=True)
            if not np.isnan(value)
        )
        for values in rows[names].itertuples(index=False)
    ]


def select_by_strategy(facts: ExampleFacts, recipe: Recipe, strategy: str, n: int) -> pd.Index:
    """The first n examples by one strategy alone, without bounds, gates or changes by hand."""
    plain_recipe = Recipe(
        task=recipe.task,
        runs=recipe.runs,
        log_log_threshold=recipe.log_log_threshold,
        criteria=(Criterion(strategy),),
        estimator=recipe.estimator,
        budget=n,
        seed=recipe.seed,
    )
    return select(facts, plain_recipe).index


def count_removed(issues: pd.DataFrame, recipe: Recipe) -> int:
    """The number of examples that the quality gates remove: those with an issue, not excused.

    Args:
        issues: `find_issues`.
    """
    return len(set(issues["id"]) - set(recipe.excused))


def value_histogram(values: pd.Series, chosen: pd.Index, bins: int = 40) -> pd.DataFrame:
    """A histogram of a strategy's values over all examples and over the chosen ones.

    Args:
        values: the strategy's values by example number; NaN where not known.
        chosen: the numbers of the chosen examples.

    Returns:
        low, high (the ends of a bin), examples, chosen; one row per bin.
    """
    known = values.dropna()
    counts, edges = np.histogram(known, bins=bins)
    chosen_counts, _ = np.histogram(known[known.index.isin(chosen)], bins=edges)
    return pd.DataFrame(
        {"low": edges[:-1], "high": edges[1:], "examples": counts, "chosen": chosen_counts}
    )


def overlap_with_strategies(
    facts: ExampleFacts, recipe: Recipe, chosen: pd.Index, names: Sequence[str]
) -> pd.DataFrame:
    """Of the examples that each strategy alone would choose, the share that others choose too.

    Args:
        chosen: the numbers of the selection's examples; each strategy chooses as many.
        names: the strategies.

    Returns:
        One row per strategy; columns: "here", the share that the selection has, and "1", "2", …,
        the share that each strategy has, in the order of `names`.
    """
    selections = {"here": chosen}
    for n, name in enumerate(names, 1):
        selections[str(n)] = select_by_strategy(facts, recipe, name, max(1, len(chosen)))
    return overlap(selections).drop(index="here")


def overlap(chosen: Mapping[str, pd.Index]) -> pd.DataFrame:
    """The share of the examples of one selection (row) that another selection (column) has too."""
    return pd.DataFrame(
        {
            column: {
                row: len(row_examples.intersection(column_examples)) / len(row_examples)
                if len(row_examples)
                else np.nan
                for row, row_examples in chosen.items()
            }
            for column, column_examples in chosen.items()
        }
    )


def _relative_rank(values: pd.Series, strategy: str) -> pd.Series:
    """Ranks by a strategy, scaled from 0 (last) to 1 (first).

    Equal values get their mean rank, missing values get 0.
    """
    ranks = values.rank(ascending=strategies.get_strategy(strategy).highest_first)
    return ((ranks - 1) / max(1, int(values.notna().sum()) - 1)).fillna(0.0)


def _within_bounds(values: pd.Series, criterion: Criterion) -> pd.Series:
    within = values.notna()
    if criterion.below is not None:
        within &= values <= criterion.below + 1e-9
    if criterion.above is not None:
        within &= values >= criterion.above - 1e-9
    return within


def _by_hand(table: pd.DataFrame, recipe: Recipe) -> pd.DataFrame:
    """Whether a person kept, dropped or excused each example: one column for each of BY_HAND."""
    return pd.DataFrame({name: table["id"].isin(getattr(recipe, name)) for name in BY_HAND})


def _within_budget(ranked: pd.DataFrame, recipe: Recipe) -> pd.DataFrame:
    """The first examples that fit into the budget and into the quotas.

    An example that does not fit is skipped. Examples that a person kept are always included; they
    come first and use up the budget.
    """
    if recipe.budget is None and recipe.quota_field is None:
        return ranked
    costs = np.ones(len(ranked), dtype=np.int64)
    if recipe.budget_in == "tokens":
        if ranked["tokens"].isna().any():
            raise UsageError(
                "the number of tokens of some solutions is not known (imported scores lack it); "
                "give the budget in examples"
            )
        costs = ranked["tokens"].to_numpy(dtype=np.int64)
    groups, left_of_quota = _quotas(ranked, recipe, int(costs.sum()))
    is_kept = ranked["id"].isin(recipe.kept).tolist()
    left = int(costs.sum()) if recipe.budget is None else recipe.budget
    chosen = []
    for cost, group, kept in zip(costs.tolist(), groups, is_kept, strict=True):
        fits = cost <= left and cost <= left_of_quota.get(group, left)
        chosen.append(fits or kept)
        if fits or kept:
            left -= cost
            if group in left_of_quota:
                left_of_quota[group] -= cost
    if len(ranked) and not any(chosen):
        size = "" if recipe.budget is None else f" of {recipe.budget:,} {recipe.budget_in}"
        raise UsageError(
            f"the budget{size} and the quotas are too small for any example; increase them"
        )
    return ranked[chosen]


def _check_quotas(facts: ExampleFacts, field: str, quotas: Mapping[str, float]) -> None:
    if field not in facts.fields:
        fields = ", ".join(f"'{name}'" for name in facts.fields) or "none"
        raise UsageError(
            f"quotas are given for the field '{field}', which the data does not have; its fields "
            f"are: {fields}"
        )
    for value in set(quotas).difference(facts.fields[field]):
        values = ", ".join(f"'{known}'" for known in facts.fields[field][:MOST_LISTED])
        raise UsageError(
            f"a quota is given for {field} '{value}', but no example has this value; the values "
            f"are {values}"
        )


def _quotas(
    ranked: pd.DataFrame, recipe: Recipe, total: int
) -> tuple[Sequence[str], dict[str, int]]:
    """Each example's group, and the part of the budget that each group with a quota may use.

    Args:
        total: the cost of all examples, which is the budget if the recipe has none.
    """
    if recipe.quota_field is None:
        return [""] * len(ranked), {}
    budget = total if recipe.budget is None else recipe.budget
    quotas = {group: int(share * budget + 1e-9) for group, share in recipe.quotas.items()}
    return ranked[recipe.quota_field].astype(str).tolist(), quotas
