"""Strategies → the examples that are chosen, and why; written down as a recipe that rebuilds it."""

from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import pandas as pd
import yaml

from premem_core import curves, gates, rankings
from premem_core.errors import UsageError
from premem_core.estimators import ESTIMATORS, Estimator
from premem_core.rankings import Evidence
from premem_core.store import Store

Combine = Literal["all", "any"]
Unit = Literal["examples", "tokens"]
FORMAT = 1  # of recipes
BY_HAND = ("kept", "dropped", "excused")
LISTS = ("runs", *BY_HAND)  # fields of a recipe


@dataclass(frozen=True, slots=True)
class Criterion:
    """One strategy's part in a selection.

    Attributes:
        strategy: as `rankings.named` knows it.
        below, above: only examples whose value is at most, at least this.
        weight: of its ranking where several are combined.
    """

    strategy: str
    below: float | None = None
    above: float | None = None
    weight: float = 1.0


@dataclass(frozen=True, slots=True)
class Recipe:
    """All that a selection follows from, beside the store.

    Attributes:
        runs: that examples are judged by.
        log_log_threshold, estimator: of pre-memorization accuracy.
        criteria: their rankings are combined by weight.
        combine: whether an example must keep within the bounds of all criteria or of any.
        budget, budget_in: examples, or tokens of their solutions, at most; None: all that qualify.
        quota_field, quotas: of a metadata field's values, the largest share of the budget.
        gates: those in force, and from which value on each removes; None: its default.
        against: the file that the gate of leaks looks for; None: the store's test problems.
        seed: of what is random.
        kept, dropped: ids that a person put in or took out.
        excused: ids that a person lets through the gates.
        store_version: of the store when the recipe was written.
    """

    task: str
    runs: tuple[str, ...]
    log_log_threshold: float
    criteria: tuple[Criterion, ...]
    estimator: Estimator = "plain"
    combine: Combine = "all"
    budget: int | None = None
    budget_in: Unit = "examples"
    quota_field: str | None = None
    quotas: Mapping[str, float] = field(default_factory=dict)
    gates: Mapping[str, float | None] = field(default_factory=dict)
    against: str | None = None
    seed: int = 0
    kept: tuple[str, ...] = ()
    dropped: tuple[str, ...] = ()
    excused: tuple[str, ...] = ()
    store_version: int | None = None

    def __post_init__(self) -> None:
        if not self.criteria:
            raise UsageError("a selection needs a strategy; give one, such as 'premem'")
        for name, given, known in (
            ("estimator", self.estimator, ESTIMATORS),
            ("combine", self.combine, get_args(Combine)),
            ("budget_in", self.budget_in, get_args(Unit)),
        ):
            if given not in known:
                raise UsageError(f"{name} must be one of {', '.join(known)}, not '{given}'")
        if self.budget is not None and self.budget < 1:
            raise UsageError(f"the budget must be at least 1, not {self.budget}")
        if self.against is not None and "leaks" not in self.gates:
            raise UsageError("test problems to look for need the gate 'leaks'")
        if self.quotas and self.quota_field is None:
            raise UsageError("quotas need the metadata field that they are of")
        if any(not 0 <= share <= 1 for share in self.quotas.values()):
            raise UsageError("a quota is a share of the budget, between 0 and 1")
        if any(each.weight <= 0 for each in self.criteria):
            raise UsageError("the weight of a strategy must be above 0")

    def to_yaml(self) -> str:
        """The recipe as a file's text."""
        content = {"premem_recipe": FORMAT, **asdict(self)}
        content["criteria"] = [
            {name: value for name, value in each.items() if value is not None}
            for each in content["criteria"]
        ]
        plain = {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in content.items()
            if value is not None
        }
        return yaml.safe_dump(plain, sort_keys=False, allow_unicode=True)

    @classmethod
    def from_yaml(cls, text: str, source: str = "the recipe") -> "Recipe":
        """A recipe that `to_yaml` wrote.

        Raises:
            UsageError: it is none, or of a later version.
        """
        try:
            content = yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise UsageError(f"{source} is not YAML: {' '.join(str(error).split())}") from error
        if not isinstance(content, dict) or "premem_recipe" not in content:
            raise UsageError(f"{source} is not a recipe of Premem (it has no 'premem_recipe')")
        written = content.pop("premem_recipe")
        if written != FORMAT:
            raise UsageError(f"{source} has format {written}; this Premem reads {FORMAT}")
        if unknown := set(content) - {each.name for each in fields(cls)}:
            raise UsageError(f"{source} has a field '{min(unknown)}' that no recipe has")
        try:
            content = {name: value for name, value in content.items() if value is not None}
            criteria = tuple(Criterion(**each) for each in content.pop("criteria", ()))
            content |= {name: tuple(content.get(name, ())) for name in LISTS}
            return cls(criteria=criteria, **content)
        except TypeError as error:
            raise UsageError(f"{source} is not a whole recipe: {error}") from error


def build(store: Store, recipe: Recipe) -> tuple[Evidence, pd.DataFrame, pd.DataFrame]:
    """What a recipe comes to in a store: the evidence, `removed` and `select`.

    Raises:
        UsageError: the store has not what the recipe names.
    """
    runs = curves.read_task(store, recipe.task)
    if missing := set(recipe.runs) - {run.run for run in runs}:
        raise UsageError(f"task '{recipe.task}' has no scored run '{min(missing)}' in {store.path}")
    judges = [run for run in runs if run.run in recipe.runs]
    evidence = rankings.read_evidence(
        store, recipe.task, judges, recipe.log_log_threshold, recipe.estimator
    )
    found = removed(store, evidence, recipe)
    return evidence, found, select(evidence, recipe, found.index)


def removed(store: Store, evidence: Evidence, recipe: Recipe) -> pd.DataFrame:
    """What the recipe's gates find (`gates.find`), those that a person let through included.

    Raises:
        UsageError: as `gates.find` does.
    """
    against = None if recipe.against is None else Path(recipe.against)
    return gates.find(store, recipe.task, evidence, recipe.gates, against)


def select(evidence: Evidence, recipe: Recipe, found: Collection[int] = ()) -> pd.DataFrame:
    """The chosen examples, most wanted first.

    Args:
        found: the numbers of the examples that the recipe's gates find (index of `removed`).

    Returns:
        The rows of `Evidence.examples`, and rank (from 1), score (the mean, by weight, of the
        share of examples that each strategy wants less), and a column per strategy with its
        value.

    Raises:
        UsageError: a strategy, field or id is not known.
    """
    examples = evidence.examples
    told = pd.DataFrame(index=examples.index)
    score, within = np.zeros(len(examples)), []
    for criterion in recipe.criteria:
        values = rankings.values(evidence, criterion.strategy, recipe.seed)
        told[criterion.strategy] = values
        score += criterion.weight * _wanted(values, criterion.strategy).to_numpy()
        within.append(_within(values, criterion).to_numpy())
    score /= sum(each.weight for each in recipe.criteria)
    qualify = np.all(within, axis=0) if recipe.combine == "all" else np.any(within, axis=0)
    table = examples.assign(**told, score=score)
    by_hand = _by_hand(table, recipe)
    stopped = table.index.isin(found) & ~by_hand["excused"]
    kept = by_hand["kept"].to_numpy()
    wanted = np.flatnonzero((qualify & ~stopped & ~by_hand["dropped"].to_numpy()) | kept)
    # Those that were put in by hand first, then by score; of equal ones as they stand in the store.
    order = wanted[np.lexsort((-score[wanted], ~kept[wanted]))]
    chosen = _up_to(table.iloc[order], recipe)
    return chosen.assign(rank=np.arange(1, len(chosen) + 1))


def reasons(rows: pd.DataFrame, recipe: Recipe) -> list[str]:
    """What each of these rows of `select` was chosen by, in words."""
    names = [each.strategy for each in recipe.criteria]
    told = [rankings.named(name).reason for name in names]
    return [
        "; ".join(say.format(v) for say, v in zip(told, values, strict=True) if not np.isnan(v))
        for values in rows[names].itertuples(index=False)
    ]


def alone(evidence: Evidence, recipe: Recipe, strategy: str, n: int) -> pd.Index:
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
    ranks = values.rank(ascending=rankings.named(strategy).highest_first)
    return ((ranks - 1) / max(1, int(values.notna().sum()) - 1)).fillna(0.0)


def _within(values: pd.Series, criterion: Criterion) -> pd.Series:
    within = values.notna()
    if criterion.below is not None:
        within &= values <= criterion.below + 1e-9
    if criterion.above is not None:
        within &= values >= criterion.above - 1e-9
    return within


def _by_hand(table: pd.DataFrame, recipe: Recipe) -> pd.DataFrame:
    named = pd.Index([each for name in BY_HAND for each in getattr(recipe, name)])
    for unknown in named.difference(table["id"]):
        raise UsageError(f"the recipe names an example '{unknown}' that these runs do not have")
    return pd.DataFrame({name: table["id"].isin(getattr(recipe, name)) for name in BY_HAND})


def _up_to(ranked: pd.DataFrame, recipe: Recipe) -> pd.DataFrame:
    """The first that the budget has room for, in all and of each group."""
    if recipe.budget_in == "tokens" and ranked["tokens"].isna().any():
        raise UsageError(
            "the number of tokens of some solutions is not known (imported scores lack it); give "
            "the budget in examples"
        )
    cost = ranked["tokens"] if recipe.budget_in == "tokens" else pd.Series(1, ranked.index)
    budget = cost.sum() if recipe.budget is None else recipe.budget
    if recipe.quota_field is not None:
        if recipe.quota_field not in ranked:
            raise UsageError(f"the data has no field '{recipe.quota_field}' to have quotas of")
        groups = ranked[recipe.quota_field].astype(str)
        room = {group: int(share * budget + 1e-9) for group, share in recipe.quotas.items()}
        ranked = ranked[cost.groupby(groups).cumsum() <= groups.map(room).fillna(budget)]
    return ranked[cost.reindex(ranked.index).cumsum() <= budget]
