"""Ranking strategies: each gives every training example one value, by which it is ranked.

Axes of a run: C checkpoints in training order, N training examples. Values of several runs are
averaged, because the values of a single run are noisy (docs/method.md, section 6).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType

import numpy as np
import pandas as pd

from premem_core.analysis import curves
from premem_core.analysis.example_table import is_right, unpack_metadata
from premem_core.analysis.perturbed import robustness
from premem_core.analysis.run_scores import RunScores
from premem_core.errors import UsageError
from premem_core.metrics.estimators import Estimator
from premem_core.metrics.pre_memorization import Floats
from premem_core.store.checkpoint_measures import read_unconditional_nll
from premem_core.store.database import Store
from premem_core.store.examples import read_example_sizes
from premem_core.store.scores import read_target_tokens

SIZE_COLUMNS = ("id", "lines", "words", "tokens")
SELECTION_COLUMNS = ("rank", "score")  # columns that `selection.select` adds
PAPER_BOUND = 0.75  # the paper collects problems like those with PM up to this (section 6)
NO_VALUE = "none"  # stands for a missing value of a metadata field
# Their values at a checkpoint are shares of the samples of one example.
BY_SAMPLES = ("premem", "accuracy", "hard", "easy", "ambiguous", "forgetting", "brittle")
METADATA = "metadata:"  # prefix of a strategy that ranks by a metadata field
# A number in a text; the dash in "level-5" is not a minus sign.
NUMBER = r"((?:(?<!\w)-)?\d+(?:,\d{3})*(?:\.\d+)?)"


@dataclass(frozen=True)
class ExampleFacts:
    """The data on a task's training examples from which strategies compute their values.

    Attributes:
        runs: the runs whose scores are used.
        examples: one row per example that any of these runs was trained on, indexed by the store's
            example number: id, then lines, words and tokens (NaN where unknown) of its solution,
            and one column per metadata field, NO_VALUE where an example has no value.
        accuracy_lost: function of a run, called when needed: accuracy without minus accuracy with
            a perturbation, by example, mean over perturbations. Of each perturbation it takes the
            last checkpoint that has samples.
        unconditional_nll: function of a run, called when needed: each solution's NLL without the
            question in the prompt (`read_unconditional_nll`).
        log_log_threshold, estimator: for pre-memorization accuracy.
    """

    runs: tuple[RunScores, ...]
    examples: pd.DataFrame
    accuracy_lost: Callable[[RunScores], pd.Series]
    unconditional_nll: Callable[[RunScores], pd.DataFrame]
    log_log_threshold: float
    estimator: Estimator

    @cached_property
    def fields(self) -> dict[str, list[str]]:
        """The values of each metadata field, as text."""
        names = [str(name) for name in self.examples if name not in SIZE_COLUMNS]
        return {name: sorted(self.examples[name].astype(str).unique()) for name in names}

    @cached_property
    def strategies(self) -> list[str]:
        """The names of all strategies: STRATEGIES, and the metadata fields that hold numbers."""
        numeric = [
            name for name in self.fields if _field_numbers(self.examples, name).notna().any()
        ]
        return [*STRATEGIES, *(METADATA + name for name in numeric)]


@dataclass(frozen=True, slots=True)
class Strategy:
    """One way to rank examples.

    Attributes:
        label: the strategy in words.
        quantity: what its values measure.
        highest_first: whether examples with high values come first.
        reason: format of the reason why an example was chosen, with a place for its value.
        needs: the data that it needs, if not every store has them.
        of_run: function that returns one run's values, (N,), NaN where unknown; None if the values
            do not come from runs.
        most: a value above this is meaningless, and counts as unknown.
    """

    label: str
    quantity: str
    highest_first: bool
    reason: str
    needs: str = ""
    of_run: Callable[[RunScores, ExampleFacts], Floats] | None = None
    most: float = np.inf

    @property
    def title(self) -> str:
        """The quantity with a capital letter, as the title of a column or control."""
        return self.quantity[0].upper() + self.quantity[1:]


def read_example_facts(
    store: Store,
    task: str,
    runs: Sequence[RunScores],
    log_log_threshold: float,
    estimator: Estimator = "plain",
) -> ExampleFacts:
    """Read the data on the training examples of some of a task's runs.

    Raises:
        UsageError: no run is given.
    """
    if not runs:
        raise UsageError("no run is chosen whose scores are used; choose at least one run")
    sizes = read_example_sizes(store, task, "train").set_index("example")
    trained_on = np.unique(np.concatenate([run.examples for run in runs]))
    examples = sizes.reindex(trained_on)
    examples["tokens"] = read_target_tokens(store, [run.run for run in runs]).reindex(trained_on)
    taken = (*SIZE_COLUMNS, *SELECTION_COLUMNS, *STRATEGIES)
    fields = unpack_metadata(examples.pop("metadata"), taken)
    fields = fields.astype(object).where(fields.notna(), NO_VALUE)
    return ExampleFacts(
        runs=tuple(runs),
        examples=examples.join(fields),
        accuracy_lost=lambda run: _read_accuracy_lost(store, run),
        unconditional_nll=lambda run: read_unconditional_nll(store, run.run),
        log_log_threshold=log_log_threshold,
        estimator=estimator,
    )


def strategy_values(facts: ExampleFacts, strategy: str, seed: int = 0) -> pd.Series:
    """A strategy's value of every example: the mean over the runs that have one, NaN if none has.

    Args:
        strategy: one of STRATEGIES, or `metadata:` and the name of a field.
        seed: of the random order.

    Returns:
        The values, indexed by the store's example number.

    Raises:
        UsageError: there is no such strategy, or no example has a value.
    """
    examples = facts.examples
    of_run = get_strategy(strategy).of_run
    if of_run is not None:
        columns = [
            pd.Series(of_run(run, facts), run.examples).reindex(examples.index)
            for run in facts.runs
        ]
        mean = pd.concat(columns, axis=1).mean(axis=1)
        values = mean.where(mean <= get_strategy(strategy).most)
    elif strategy == "random":
        values = pd.Series(np.random.default_rng(seed).random(len(examples)), examples.index)
    elif strategy in ("lines", "words"):
        values = examples[strategy]
    else:
        values = _field_numbers(examples, strategy.removeprefix(METADATA))
    if values.isna().all():
        needs = get_strategy(strategy).needs or "scores at every checkpoint"
        raise UsageError(
            f"the strategy '{strategy}' has no value for any of these examples; it needs {needs}"
        )
    return values.astype(np.float64)


def get_strategy(name: str) -> Strategy:
    """The strategy with a name: one of STRATEGIES, or `metadata:` and the name of a field.

    Raises:
        UsageError: there is no such strategy.
    """
    if name.startswith(METADATA):
        field = name.removeprefix(METADATA)
        needs = f"a metadata field '{field}' of numbers"
        escaped = field.replace("{", "{{").replace("}", "}}")
        return Strategy(field, field, True, f"{escaped} {{:g}}", needs)
    if name not in STRATEGIES:
        names = ", ".join(f"'{known}'" for known in STRATEGIES)
        raise UsageError(
            f"there is no strategy '{name}'; the strategies are {names}, and '{METADATA}FIELD'"
        )
    return STRATEGIES[name]


def _field_numbers(examples: pd.DataFrame, field: str) -> pd.Series:
    """A metadata field as numbers, such as 5 for 'Level 5'; NaN where a text has no number."""
    if field not in examples:
        fields = ", ".join(f"'{name}'" for name in examples if name not in SIZE_COLUMNS) or "none"
        raise UsageError(f"the data has no field '{field}'; its fields are: {fields}")
    texts = examples[field].astype(str)
    parts = texts.str.extract(NUMBER, expand=False).str.replace(",", "")
    numbers = pd.to_numeric(texts, errors="coerce").fillna(pd.to_numeric(parts, errors="coerce"))
    return numbers.where(np.isfinite(numbers))


def _read_accuracy_lost(store: Store, run: RunScores) -> pd.Series:
    """`ExampleFacts.accuracy_lost` of a run."""
    losses = []
    for perturbation, steps in robustness.perturbed_steps(store, run.run).items():
        answers = robustness.read_answers(store, run.run, steps[-1], perturbation)
        examples = robustness.measure_robustness(run, answers, 0.0, "plain").examples
        losses.append(examples["train_accuracy"] - examples["perturbed_accuracy"])
    return pd.concat(losses, axis=1).mean(axis=1) if losses else pd.Series(dtype=np.float64)


def _ifd(run: RunScores, facts: ExampleFacts) -> Floats:
    """NLL given the question ÷ NLL without it, at the first checkpoint where both are known."""
    unconditional = facts.unconditional_nll(run)
    if unconditional.empty:
        return np.full(len(run.examples), np.nan)
    step = int(unconditional["step"].min())
    [row] = np.flatnonzero(run.steps == step)
    nll = unconditional[unconditional["step"] == step].set_index("example")["nll"]
    return run.nll[row] / nll.reindex(run.examples).to_numpy()


def _premem(run: RunScores, facts: ExampleFacts) -> Floats:
    return curves.premem(run, facts.log_log_threshold, facts.estimator)[-1].copy()


def _times_forgotten(run: RunScores, _: ExampleFacts) -> Floats:
    """How often an example was right at one checkpoint and wrong at the next."""
    right = is_right(run)
    forgotten = (np.diff(right, axis=0) < 0).sum(axis=0)
    return np.where(np.isnan(right).any(axis=0), np.nan, forgotten)


def _token_probability(run: RunScores) -> Floats:
    """Geometric mean of the probabilities of a target's tokens, (C, N)."""
    return np.exp(-run.nll)


STRATEGIES: Mapping[str, Strategy] = MappingProxyType(
    {
        "premem": Strategy(
            "low pre-memorization accuracy",
            "pre-memorization accuracy",
            False,
            "PM {:.2f}",
            "samples",
            _premem,
        ),
        "random": Strategy("random (i.i.d.)", "place in a random order", False, "drawn at random"),
        "accuracy": Strategy(
            "low train accuracy",
            "train accuracy",
            False,
            "train accuracy {:.2f}",
            "samples of the last checkpoint",
            lambda run, _: run.accuracy[-1],
        ),
        "perplexity": Strategy(
            "high perplexity",
            "perplexity",
            True,
            "perplexity {:.4f}",
            of_run=lambda run, _: np.exp(run.nll[-1]),
        ),
        "hard": Strategy(  # Swayamdipta et al. 2020, as are the next two
            "hard to learn (low confidence)",
            "confidence",
            False,
            "confidence {:.3f}",
            of_run=lambda run, _: _token_probability(run).mean(axis=0),
        ),
        "easy": Strategy(
            "easy to learn (high confidence)",
            "confidence",
            True,
            "confidence {:.3f}",
            of_run=lambda run, _: _token_probability(run).mean(axis=0),
        ),
        "ambiguous": Strategy(
            "ambiguous (high variability)",
            "variability",
            True,
            "variability {:.3f}",
            of_run=lambda run, _: _token_probability(run).std(axis=0),
        ),
        "forgetting": Strategy(  # Toneva et al. 2019
            "often forgotten",
            "times forgotten",
            True,
            "forgotten {:.1f} times",
            "samples of every checkpoint",
            _times_forgotten,
        ),
        "brittle": Strategy(
            "brittle under perturbed queries",
            "accuracy lost under perturbed queries",
            True,
            "loses {:.2f} when perturbed",
            "perturbed scores (score --perturb)",
            lambda run, facts: facts.accuracy_lost(run).reindex(run.examples).to_numpy(),
        ),
        "ifd": Strategy(  # Li et al. 2023
            "instruction-following difficulty",
            "instruction-following difficulty",
            True,
            "IFD {:.3f}",
            "the NLL of each solution without its question (the command `ifd`)",
            _ifd,
            most=1.0,  # above it, the question makes the solution less likely
        ),
        "lines": Strategy("many solution lines", "lines of the solution", True, "{:.0f} lines"),
        "words": Strategy("long solutions", "words of the solution", True, "{:.0f} words"),
    }
)
