"""Recipe: which strategies, gates and budget make a selection, as a record and as YAML."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, TypeVar, get_args, get_type_hints

import yaml

from premem_core.errors import UsageError
from premem_core.metrics.estimators import ESTIMATORS, Estimator

Made = TypeVar("Made")
Combine = Literal["all", "any"]
Unit = Literal["examples", "tokens"]
Shape = Literal["plain", "prompt-completion", "messages", "alpaca"]
Weights = Literal["none", "column", "repeat"]
FORMAT = 1  # of recipes
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
    from pydantic import TypeAdapter, ValidationError

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
