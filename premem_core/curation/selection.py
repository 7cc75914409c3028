"""Selection: the training examples that a recipe chooses, each with its reasons."""

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

MOST_TOLD = 12  # values of a field that an error names


def build_selection(
    store: Store, recipe: Recipe
) -> tuple[ExampleFacts, pd.DataFrame, pd.DataFrame]:
    """What a recipe comes to in a store: the evidence, `removed` and `select`.

    Raises:
        UsageError: the store has not what the recipe names.
    """
    runs = run_scores.read_task(store, recipe.task)
    if missing := set(recipe.runs) - {run.run for run in runs}:
        raise UsageError(f"task '{recipe.task}' has no scored run '{min(missing)}' in {store.path}")
    judges = [run for run in runs if run.run in recipe.runs]
    evidence = strategies.read_example_facts(
        store, recipe.task, judges, recipe.log_log_threshold, recipe.estimator
    )
    against = None if recipe.against is None else Path(recipe.against)
    finders = quality_gates.finders(store, recipe.task, evidence, recipe.gates, against)
    found = removed(evidence, recipe, finders)
    return evidence, found, select(evidence, recipe, found.index)


def removed(
    evidence: ExampleFacts, recipe: Recipe, finders: Mapping[str, FindIssues]
) -> pd.DataFrame:
    """Of the examples that qualify, those that a gate finds.

    They are asked in the order of GATES; each looks at what earlier ones let pass. Those that a
    person let through are told of too; those that a person put in are not looked at.

    Args:
        finders: `gates.finders`.

    Returns:
        `gates.COLUMNS`, indexed by the store's example number.
    """
    if not finders:
        return pd.DataFrame(columns=list(quality_gates.COLUMNS))
    ranked = _ranked(evidence, recipe)
    by_hand = _by_hand(ranked, recipe)
    put_in, through = (set(ranked.index[by_hand[name]]) for name in ("kept", "excused"))
    waiting, found = ranked.index, []
    for name in filter(finders.__contains__, quality_gates.GATES):
        rows = finders[name](waiting, put_in | through)
        rows = rows[~rows.index.isin(put_in)]
        found.append(rows.assign(gate=name))
        waiting = waiting.difference(rows.index.difference(list(through)), sort=False)
    every = pd.concat(found)
    return every.assign(id=ranked["id"].reindex(every.index))[list(quality_gates.COLUMNS)]


def select(evidence: ExampleFacts, recipe: Recipe, found: Collection[int] = ()) -> pd.DataFrame:
    """The chosen examples, most wanted first.

    Args:
        found: the numbers of the examples that the recipe's gates find (index of `removed`).

    Returns:
        The rows of `Evidence.examples`, and rank (from 1), score (the mean, by weight, of the
        share of examples that each strategy wants less), and a column per strategy with its
        value. Of equal scores the seed says which comes first.

    Raises:
        UsageError: a strategy, field or id is not known.
    """
    if recipe.quota_field is not None:
        _check_quotas(evidence, recipe.quota_field, recipe.quotas)
    ranked = _ranked(evidence, recipe)
    if len(found):
        by_hand = _by_hand(ranked, recipe)
        stopped = ranked.index.isin(found) & ~(by_hand["excused"] | by_hand["kept"])
        ranked = ranked[~stopped]
    chosen = _up_to(ranked, recipe)
    return chosen.assign(rank=np.arange(1, len(chosen) + 1))


def _ranked(evidence: ExampleFacts, recipe: Recipe) -> pd.DataFrame:
    """All that qualify, as `select` gives them: those that a person put in come first."""
    examples = evidence.examples
    told = pd.DataFrame(index=examples.index)
    score, within = np.zeros(len(examples)), []
    bounded = [each for each in recipe.criteria if (each.below, each.above) != (None, None)]
    for criterion in recipe.criteria:
        values = strategies.strategy_values(evidence, criterion.strategy, recipe.seed)
        told[criterion.strategy] = values
        score += criterion.weight * _wanted(values, criterion.strategy).to_numpy()
        # What has no bound keeps nobody in: "any bound" asks for one of those that there are.
        if recipe.combine == "all" or criterion in bounded or not bounded:
            within.append(_within(values, criterion).to_numpy())
    score /= sum(each.weight for each in recipe.criteria)
    qualify = np.all(within, axis=0) if recipe.combine == "all" else np.any(within, axis=0)
    table = examples.assign(**told, score=score)
    named = {each for name in BY_HAND for each in getattr(recipe, name)}
    for unknown in sorted(named.difference(table["id"])):
        raise UsageError(f"the recipe names an example '{unknown}' that these runs do not have")
    by_hand = _by_hand(table, recipe)
    kept = by_hand["kept"].to_numpy()
    wanted = np.flatnonzero((qualify & ~by_hand["dropped"].to_numpy()) | kept)
    drawn = np.random.default_rng([recipe.seed, len(examples)]).permutation(len(examples))
    return table.iloc[wanted[np.lexsort((drawn[wanted], -score[wanted], ~kept[wanted]))]]


def reasons(rows: pd.DataFrame, recipe: Recipe) -> list[str]:
    """What each of these rows of `select` was chosen by, in words."""
    names = [each.strategy for each in recipe.criteria]
    told = [strategies.named(name).reason for name in names]
    return [
        "; ".join(say.format(v) for say, v in zip(told, values, strict=True) if not np.isnan(v))
        for values in rows[names].itertuples(index=False)
    ]


def chosen_alone(evidence: ExampleFacts, recipe: Recipe, strategy: str, n: int) -> pd.Index:
    """What a strategy without a bound, a gate or a hand would choose as its first n."""
    asked = Recipe(
        task=recipe.task,
        runs=recipe.runs,
        log_log_threshold=recipe.log_log_threshold,
        criteria=(Criterion(strategy),),
        estimator=recipe.estimator,
        budget=n,
        seed=recipe.seed,
    )
    return select(evidence, asked).index


def overlap(chosen: Mapping[str, pd.Index]) -> pd.DataFrame:
    """Of each selection's examples (rows), the share that another one (columns) has too."""
    return pd.DataFrame(
        {
            other: {
                name: len(own.intersection(theirs)) / len(own) if len(own) else np.nan
                for name, own in chosen.items()
            }
            for other, theirs in chosen.items()
        }
    )


def _wanted(values: pd.Series, strategy: str) -> pd.Series:
    """From 0 to 1: the share of the known examples that a strategy wants less; ties share."""
    ranks = values.rank(ascending=strategies.named(strategy).highest_first)
    return ((ranks - 1) / max(1, int(values.notna().sum()) - 1)).fillna(0.0)


def _within(values: pd.Series, criterion: Criterion) -> pd.Series:
    within = values.notna()
    if criterion.below is not None:
        within &= values <= criterion.below + 1e-9
    if criterion.above is not None:
        within &= values >= criterion.above - 1e-9
    return within


def _by_hand(table: pd.DataFrame, recipe: Recipe) -> pd.DataFrame:
    return pd.DataFrame({name: table["id"].isin(getattr(recipe, name)) for name in BY_HAND})


def _up_to(ranked: pd.DataFrame, recipe: Recipe) -> pd.DataFrame:
    """The first that the budget has room for, in all and of each group.

    One that is too large is passed over. What a person put in stays, and is counted first.
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
    groups, rooms = _rooms(ranked, recipe, int(costs.sum()))
    put_in = ranked["id"].isin(recipe.kept).tolist()
    left = int(costs.sum()) if recipe.budget is None else recipe.budget
    chosen = []
    for cost, group, kept in zip(costs.tolist(), groups, put_in, strict=True):
        fits = cost <= left and cost <= rooms.get(group, left)
        chosen.append(fits or kept)
        if fits or kept:
            left -= cost
            if group in rooms:
                rooms[group] -= cost
    if len(ranked) and not any(chosen):
        most = "" if recipe.budget is None else f" of {recipe.budget:,} {recipe.budget_in}"
        raise UsageError(f"the budget{most} and the quotas have room for no example; give more")
    return ranked[chosen]


def _check_quotas(evidence: ExampleFacts, field: str, quotas: Mapping[str, float]) -> None:
    if field not in evidence.fields:
        raise UsageError(f"the data has no field '{field}' to have quotas of")
    for value in set(quotas).difference(evidence.fields[field]):
        known = ", ".join(f"'{each}'" for each in evidence.fields[field][:MOST_TOLD])
        raise UsageError(f"no example has {field} '{value}', which has a quota; there are {known}")


def _rooms(
    ranked: pd.DataFrame, recipe: Recipe, whole: int
) -> tuple[Sequence[str], dict[str, int]]:
    """Each example's group, and how much of the budget the groups with a quota may have."""
    if recipe.quota_field is None:
        return [""] * len(ranked), {}
    budget = whole if recipe.budget is None else recipe.budget
    rooms = {group: int(share * budget + 1e-9) for group, share in recipe.quotas.items()}
    return ranked[recipe.quota_field].astype(str).tolist(), rooms
