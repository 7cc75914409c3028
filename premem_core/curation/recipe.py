"""Recipe: the strategies, quality gates, budget and file format of a selection, also as YAML."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, TypeVar, get_args, get_type_hints

import yaml

from premem_core.analysis.verdict.threshold import SOURCES, Source
from premem_core.errors import UsageError
from premem_core.metrics.estimators import ESTIMATORS, Estimator
from premem_core.records import SEGMENTS, Segment

Record = TypeVar("Record")
Combine = Literal["all", "any"]
Unit = Literal["examples", "tokens"]
Shape = Literal["plain", "prompt-completion", "messages", "alpaca"]
Weights = Literal["none", "column", "repeat"]
FORMAT = 1  # version of the YAML format
LONGEST_ERROR = 200  # characters of a file's error that a message repeats
BY_HAND = ("kept", "dropped", "excused")
LISTS = ("runs", *BY_HAND)  # fields that are lists in YAML and tuples here
MOST = 2**53  # counts must be below this, so that a browser can represent them exactly


@dataclass(frozen=True, slots=True)
class Criterion:
    """One strategy in a recipe.

    Attributes:
        strategy: its name, as for `strategies.get_strategy`.
        below: only examples with a value of at most this are chosen.
        above: only examples with a value of at least this are chosen.
        weight: the weight of its ranking, where several strategies are combined.
    """

    strategy: str
    below: float | None = None
    above: float | None = None
    weight: float = 1.0


@dataclass(frozen=True, slots=True)
class Recipe:
    """Everything that determines a selection, apart from the store.

    Attributes:
        runs: the runs whose scores are used.
        log_log_threshold, estimator: for pre-memorization accuracy.
        threshold_source: where the threshold comes from; None in a recipe that does not tell.
        segment: the part of a solution whose perplexity is compared with the threshold.
        criteria: the strategies; their rankings are combined by weight.
        combine: whether an example must be within the bounds of all criteria, or of any.
        budget, budget_in: the largest number of examples, or of tokens of their solutions; None
            for all examples within the bounds.
        quota_field, quotas: a metadata field, and the largest share of the budget that examples
            with a value of this field may use, by value.
        gates: the quality gates that are used, and the cutoff of each; None for its default.
        against: a file of further test problems for the gate `leaks`; those of the store are
            always used.
        seed: of the random strategy, and of the order of examples with equal scores.
        kept: ids of examples that a person includes, regardless of bounds and gates.
        dropped: ids of examples that a person excludes.
        excused: ids of examples that a person lets pass the gates.
        shape, weights: of the file that is written (`export.export_file`).
        store_version: version of the store when the recipe was written.
    """

    task: str
    runs: tuple[str, ...]
    log_log_threshold: float
    criteria: tuple[Criterion, ...]
    threshold_source: Source | None = None
    estimator: Estimator = "plain"
    segment: Segment = "target"
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
        self._check_criteria()
        self._check_choices()
        if self.budget is not None and not 1 <= self.budget < MOST:
            raise UsageError(f"the budget must be at least 1 and below 2**53, not {self.budget}")
        if self.against is not None and "leaks" not in self.gates:
            raise UsageError(
                "further test problems are given, but only the gate 'leaks' uses them; add this "
                "gate"
            )
        if self.quotas and self.quota_field is None:
            raise UsageError("quotas are given without a metadata field; give the field, too")
        if any(not 0 <= share <= 1 for share in self.quotas.values()):
            raise UsageError("a quota is a share of the budget, so it must be between 0 and 1")
        try:
            "".join([self.task, *self.runs, *self.kept, *self.dropped, *self.excused]).encode()
        except UnicodeEncodeError as error:
            raise UsageError(
                "a name in the recipe contains an invalid character, half of a surrogate pair; "
                "correct it"
            ) from error
        if not 0 <= self.seed < MOST:
            raise UsageError(f"the seed must be at least 0 and below 2**53, not {self.seed}")

    def _check_choices(self) -> None:
        for name, value, choices in (
            ("estimator", self.estimator, ESTIMATORS),
            ("segment", self.segment, SEGMENTS),
            ("combine", self.combine, get_args(Combine)),
            ("budget_in", self.budget_in, get_args(Unit)),
            ("shape", self.shape, get_args(Shape)),
            ("weights", self.weights, get_args(Weights)),
            ("threshold_source", self.threshold_source or "given", SOURCES),
        ):
            if value not in choices:
                raise UsageError(f"{name} must be one of {', '.join(choices)}, not '{value}'")

    def _check_criteria(self) -> None:
        if not self.criteria:
            raise UsageError("a selection needs a strategy; give one, such as 'premem'")
        if not all(0 < criterion.weight < math.inf for criterion in self.criteria):
            raise UsageError("the weight of a strategy must be a number above 0")
        numbers = [self.log_log_threshold, *(b for c in self.criteria for b in (c.below, c.above))]
        if not all(number is None or math.isfinite(number) for number in numbers):
            raise UsageError("a threshold or bound must be a finite number")
        names = [criterion.strategy for criterion in self.criteria]
        if len(set(names)) < len(names):
            raise UsageError(
                f"a strategy is named twice in {', '.join(names)}; name every strategy once"
            )

    def to_yaml(self) -> str:
        """The recipe as YAML, which `from_yaml` reads."""
        content = {"premem_recipe": FORMAT, **asdict(self)}
        content["criteria"] = [
            {name: value for name, value in criterion.items() if value is not None}
            for criterion in content["criteria"]
        ]
        plain = {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in content.items()
            if value is not None
        }
        return yaml.safe_dump(plain, sort_keys=False, allow_unicode=True)

    @classmethod
    def from_yaml(cls, text: str, source: str = "the recipe") -> "Recipe":
        """Read a recipe from YAML.

        Args:
            source: the name of the file, for error messages.

        Raises:
            UsageError: the text is not a recipe, or has another format version.
        """
        try:
            content = yaml.safe_load(text)
        except (yaml.YAMLError, ValueError, LookupError, AttributeError, RecursionError) as error:
            why = " ".join(str(error).split())[:LONGEST_ERROR]
            raise UsageError(f"{source} is not YAML: {why}") from error
        if not isinstance(content, dict) or "premem_recipe" not in content:
            raise UsageError(f"{source} is not a recipe of Premem (it has no 'premem_recipe')")
        if (version := content.pop("premem_recipe")) != FORMAT or version is True:
            raise UsageError(
                f"{source} does not have the format that this version of Premem reads, "
                f"'premem_recipe: {FORMAT}'"
            )
        fields = {name: value for name, value in content.items() if value is not None}
        for name in LISTS:
            if isinstance(fields.get(name), list):
                fields[name] = tuple(fields[name])
        if isinstance(criteria := fields.get("criteria", []), list):
            fields["criteria"] = tuple(
                _make(Criterion, criterion, f"{source}, criteria") for criterion in criteria
            )
        return _make(cls, fields, source)


def _make(record: type[Record], fields: Any, where: str) -> Record:
    """A record made of the fields that a file gave. UsageError: a field has a wrong type."""
    from pydantic import TypeAdapter, ValidationError

    hints = get_type_hints(record)
    if not isinstance(fields, dict):
        raise UsageError(f"{where}: fields with values are expected here, but there is other YAML")
    for name, value in fields.items():
        if name not in hints:
            raise UsageError(
                f"{where} has a field '{str(name)[:LONGEST_ERROR]}', which recipes do not have; "
                "correct or remove it"
            )
        try:
            checker = TypeAdapter(hints[name], config={"strict": True, "allow_inf_nan": False})
            checker.validate_python(value)
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False, include_context=False)[0]
            why = first["msg"].replace("tuple", "list")
            raise UsageError(f"{where} is not a valid recipe: {name}: {why}") from error
    try:
        return record(**fields)
    except TypeError as error:
        raise UsageError(f"{where} is not a valid recipe: {error}") from error
