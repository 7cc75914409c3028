"""Strategies → the examples that are chosen, and why; written down as a recipe that rebuilds it."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal, get_args

import numpy as np
import pandas as pd
import yaml

from premem_core import rankings
from premem_core.errors import UsageError
from premem_core.estimators import ESTIMATORS, Estimator
from premem_core.rankings import Evidence

Combine = Literal["all", "any"]
FORMAT = 1  # of recipes


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
        budget: examples at most; None: all that qualify.
        quota_field, quotas: of a metadata field's values, the largest share of the budget.
        seed: of what is random.
        kept, dropped: ids that a person put in or took out.
        store_version: of the store when the recipe was written.
    """

    task: str
    runs: tuple[str, ...]
    log_log_threshold: float
    criteria: tuple[Criterion, ...]
    estimator: Estimator = "plain"
    combine: Combine = "all"
    budget: int | None = None
    quota_field: str | None = None
    quotas: Mapping[str, float] = field(default_factory=dict)
    seed: int = 0
    kept: tuple[str, ...] = ()
    dropped: tuple[str, ...] = ()
    store_version: int | None = None

    def __post_init__(self) -> None:
        if not self.criteria:
            raise UsageError("a selection needs a strategy; give one, such as 'premem'")
        for name, given, known in (
            ("estimator", self.estimator, ESTIMATORS),
            ("combine", self.combine, get_args(Combine)),
        ):
            if given not in known:
                raise UsageError(f"{name} must be one of {', '.join(known)}, not '{given}'")
        if self.budget is not None and self.budget < 1:
            raise UsageError(f"the budget must be at least 1 example, not {self.budget}")
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
            criteria = tuple(Criterion(**each) for each in content.pop("criteria", ()))
            content |= {name: tuple(content.get(name, ())) for name in ("runs", "kept", "dropped")}
            return cls(criteria=criteria, **content)
        except TypeError as error:
            raise UsageError(f"{source} is not a whole recipe: {error}") from error


def select(evidence: Evidence, recipe: Recipe) -> pd.DataFrame:
    """The chosen examples, most wanted first.

    Returns:
        The rows of `Evidence.examples`, and rank (from 1), score (the mean, by weight, of the
        share of examples that each strategy wants less), reasons (in words), and a column per
        strategy with its value.

    Raises:
        UsageError: a strategy, field or id is not known.
    """
    examples = evidence.examples
    told = pd.DataFrame(index=examples.index)
    score, within = np.zeros(len(examples)), []
    for criterion in recipe.criteria:
        found = rankings.values(evidence, criterion.strategy, recipe.seed)
        told[criterion.strategy] = found
        score += criterion.weight * _wanted(found, criterion.strategy).to_numpy()
        within.append(_within(found, criterion).to_numpy())
    score /= sum(each.weight for each in recipe.criteria)
    qualify = np.all(within, axis=0) if recipe.combine == "all" else np.any(within, axis=0)
    reasons = [_reasons(row) for row in told.to_dict("records")]
    table = examples.assign(**told, score=score, reasons=reasons)
    by_hand = _by_hand(table, recipe)
    ranked = table[(qualify & ~by_hand["dropped"]) | by_hand["kept"]]
    ranked = ranked.assign(first=by_hand["kept"].reindex(ranked.index))
    ranked = ranked.sort_values(["first", "score", "id"], ascending=[False, False, True])
    chosen = _up_to(ranked.drop(columns="first"), recipe)
    return chosen.assign(rank=np.arange(1, len(chosen) + 1))


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


def _reasons(values: Mapping[Any, float]) -> str:
    return "; ".join(
        rankings.named(strategy).reason.format(value)
        for strategy, value in values.items()
        if not np.isnan(value)
    )


def _by_hand(table: pd.DataFrame, recipe: Recipe) -> pd.DataFrame:
    known = set(table["id"])
    for asked in (*recipe.kept, *recipe.dropped):
        if asked not in known:
            raise UsageError(f"the recipe names an example '{asked}' that these runs do not have")
    return pd.DataFrame(
        {name: table["id"].isin(getattr(recipe, name)) for name in ("kept", "dropped")}
    )


def _up_to(ranked: pd.DataFrame, recipe: Recipe) -> pd.DataFrame:
    """The first that the budget has room for, in all and of each group."""
    budget = len(ranked) if recipe.budget is None else recipe.budget
    if recipe.quota_field is None:
        return ranked.head(budget)
    if recipe.quota_field not in ranked:
        raise UsageError(f"the data has no field '{recipe.quota_field}' to have quotas of")
    groups = ranked[recipe.quota_field].astype(str)
    room = {group: int(share * budget + 1e-9) for group, share in recipe.quotas.items()}
    place = groups.groupby(groups).cumcount()
    return ranked[place < groups.map(room).fillna(budget)].head(budget)
