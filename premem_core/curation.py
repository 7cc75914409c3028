"""Strategies → the examples that are chosen, and why; written down as a recipe that rebuilds it."""

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args, get_type_hints

import numpy as np
import pandas as pd
import yaml

from premem_core import curves, gates, rankings
from premem_core.errors import UsageError
from premem_core.estimators import ESTIMATORS, Estimator
from premem_core.gates import Finder
from premem_core.rankings import Evidence
from premem_core.store import Store

Made = TypeVar("Made")
Combine = Literal["all", "any"]
Unit = Literal["examples", "tokens"]
Shape = Literal["plain", "prompt-completion", "messages", "alpaca"]
Weights = Literal["none", "column", "repeat"]
FORMAT = 1  # of recipes
MOST_TOLD = 12  # values of a field that an error names
LONGEST_ERROR = 200  # characters of a file's fault that are repeated
BY_HAND = ("kept", "dropped", "excused")
LISTS = ("runs", *BY_HAND)  # fields of a recipe
MOST = 2**53  # of what is counted, and a browser counts with it too


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
        against: a file of problems that the gate of leaks holds examples against, beside the test
            problems of the store.
        seed: of what is random, and of who comes first among equals.
        kept, dropped: ids that a person put in, whatever the bounds and gates say, or took out.
        excused: ids that a person lets through the gates.
        shape, weights: of the file that is written (`exports.export`).
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
    shape: Shape = "plain"
    weights: Weights = "none"
    store_version: int | None = None

    def __post_init__(self) -> None:
        if not self.criteria:
            raise UsageError("a selection needs a strategy; give one, such as 'premem'")
        for name, given, known in (
            ("estimator", self.estimator, ESTIMATORS),
            ("combine", self.combine, get_args(Combine)),
            ("budget_in", self.budget_in, get_args(Unit)),
            ("shape", self.shape, get_args(Shape)),
            ("weights", self.weights, get_args(Weights)),
        ):
            if given not in known:
                raise UsageError(f"{name} must be one of {', '.join(known)}, not '{given}'")
        if self.budget is not None and not 1 <= self.budget < MOST:
            raise UsageError(f"the budget must be at least 1 and below 2**53, not {self.budget}")
        if self.against is not None and "leaks" not in self.gates:
            raise UsageError("test problems to look for need the gate 'leaks'")
        if self.quotas and self.quota_field is None:
            raise UsageError("quotas need the metadata field that they are of")
        if any(not 0 <= share <= 1 for share in self.quotas.values()):
            raise UsageError("a quota is a share of the budget, between 0 and 1")
        try:
            "".join([self.task, *self.runs, *self.kept, *self.dropped, *self.excused]).encode()
        except UnicodeEncodeError as error:
            raise UsageError("a name in the recipe holds half a character; correct it") from error
        if not all(0 < each.weight < math.inf for each in self.criteria):
            raise UsageError("the weight of a strategy must be a number above 0")
        numbers = [self.log_log_threshold, *(b for c in self.criteria for b in (c.below, c.above))]
        if not all(number is None or math.isfinite(number) for number in numbers):
            raise UsageError("a threshold or bound must be a finite number")
        names = [each.strategy for each in self.criteria]
        if len(set(names)) < len(names):
            raise UsageError(f"a strategy is named twice in {', '.join(names)}; name each once")
        if not 0 <= self.seed < MOST:
            raise UsageError(f"the seed must be at least 0 and below 2**53, not {self.seed}")

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
        except (yaml.YAMLError, ValueError, LookupError, AttributeError, RecursionError) as error:
            why = " ".join(str(error).split())[:LONGEST_ERROR]
            raise UsageError(f"{source} is not YAML: {why}") from error
        if not isinstance(content, dict) or "premem_recipe" not in content:
            raise UsageError(f"{source} is not a recipe of Premem (it has no 'premem_recipe')")
        if (written := content.pop("premem_recipe")) != FORMAT or written is True:
            raise UsageError(
                f"{source} is not of the format that this Premem reads, 'premem_recipe: {FORMAT}'"
            )
        given = {name: value for name, value in content.items() if value is not None}
        for name in LISTS:
            if isinstance(given.get(name), list):
                given[name] = tuple(given[name])
        if isinstance(criteria := given.get("criteria", []), list):
            given["criteria"] = tuple(
                _checked(Criterion, each, f"{source}, criteria") for each in criteria
            )
        return _checked(cls, given, source)


def _checked(made: type[Made], given: Any, where: str) -> Made:
    """A dataclass made of what a file gave, its types looked at. UsageError: they are others."""
    from pydantic import TypeAdapter, ValidationError  # a tenth of a second to load

    hints = get_type_hints(made)
    if not isinstance(given, dict):
        raise UsageError(f"{where}: not fields with values, which are expected there")
    for name, value in given.items():
        if name not in hints:
            raise UsageError(
                f"{where} has a field '{str(name)[:LONGEST_ERROR]}' that no recipe has"
            )
        try:
            checker = TypeAdapter(hints[name], config={"strict": True, "allow_inf_nan": False})
            checker.validate_python(value)
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False, include_context=False)[0]
            why = first["msg"].replace("tuple", "list")
            raise UsageError(f"{where} is not a whole recipe: {name}: {why}") from error
    try:
        return made(**given)
    except TypeError as error:
        raise UsageError(f"{where} is not a whole recipe: {error}") from error


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
    against = None if recipe.against is None else Path(recipe.against)
    finders = gates.finders(store, recipe.task, evidence, recipe.gates, against)
    found = removed(evidence, recipe, finders)
    return evidence, found, select(evidence, recipe, found.index)


def removed(evidence: Evidence, recipe: Recipe, finders: Mapping[str, Finder]) -> pd.DataFrame:
    """Of the examples that qualify, those that a gate finds.

    They are asked in the order of GATES; each looks at what earlier ones let pass. Those that a
    person let through are told of too; those that a person put in are not looked at.

    Args:
        finders: `gates.finders`.

    Returns:
        `gates.COLUMNS`, indexed by the store's example number.
    """
    if not finders:
        return pd.DataFrame(columns=list(gates.COLUMNS))
    ranked = _ranked(evidence, recipe)
    by_hand = _by_hand(ranked, recipe)
    put_in, through = (set(ranked.index[by_hand[name]]) for name in ("kept", "excused"))
    waiting, found = ranked.index, []
    for name in filter(finders.__contains__, gates.GATES):
        rows = finders[name](waiting, put_in | through)
        rows = rows[~rows.index.isin(put_in)]
        found.append(rows.assign(gate=name))
        waiting = waiting.difference(rows.index.difference(list(through)), sort=False)
    every = pd.concat(found)
    return every.assign(id=ranked["id"].reindex(every.index))[list(gates.COLUMNS)]


def select(evidence: Evidence, recipe: Recipe, found: Collection[int] = ()) -> pd.DataFrame:
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


def _ranked(evidence: Evidence, recipe: Recipe) -> pd.DataFrame:
    """All that qualify, as `select` gives them: those that a person put in come first."""
    examples = evidence.examples
    told = pd.DataFrame(index=examples.index)
    score, within = np.zeros(len(examples)), []
    bounded = [each for each in recipe.criteria if (each.below, each.above) != (None, None)]
    for criterion in recipe.criteria:
        values = rankings.values(evidence, criterion.strategy, recipe.seed)
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


def _check_quotas(evidence: Evidence, field: str, quotas: Mapping[str, float]) -> None:
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
