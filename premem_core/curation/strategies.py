"""What speaks for collecting more problems like one: a value per training example and strategy.

Axes of a run: C checkpoints in training order, N training examples. What is known of several runs
is averaged over them, for a single run's values are noisy (METHOD, section 6).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType

import numpy as np
import pandas as pd

from premem_core.analysis import curves, robustness
from premem_core.analysis.example_table import right, unpacked
from premem_core.analysis.run_scores import RunScores
from premem_core.errors import UsageError
from premem_core.metrics.estimators import Estimator
from premem_core.metrics.pre_memorization import Floats
from premem_core.store.checkpoint_measures import read_unconditional_nll
from premem_core.store.database import Store
from premem_core.store.examples import read_example_sizes
from premem_core.store.scores import read_target_tokens

OF_SIZES = ("id", "lines", "words", "tokens")
OF_SELECTION = ("rank", "score")  # columns that a selection adds (`curation.select`)
PAPER_BOUND = 0.75  # arXiv 2411.07681, section 6: problems with PM up to this are collected for
NO_VALUE = "none"  # of a metadata field that other examples have
METADATA = "metadata:"  # what a strategy by a field of the data is named by
NUMBER = r"((?:(?<!\w)-)?\d+(?:,\d{3})*(?:\.\d+)?)"  # in a text; the dash of "level-5" is no sign


@dataclass(frozen=True)
class ExampleFacts:
    """What is known of a task's training examples.

    Attributes:
        runs: those that examples are judged by.
        examples: one row per example that any of them was trained on, indexed by the store's
            example number: id, lines, words and tokens (NaN where not known) of its solution, and
            the metadata's fields, NO_VALUE where an example has none.
        lost: a run's, by example, read when it is asked for: accuracy as the question is minus
            accuracy under perturbed queries, mean over perturbations, at the last checkpoint that
            was asked them.
        alone: a run's loss of solutions without their question, read as `lost` is
            (`Store.alone`).
        log_log_threshold, estimator: of pre-memorization accuracy.
    """

    runs: tuple[RunScores, ...]
    examples: pd.DataFrame
    lost: Callable[[RunScores], pd.Series]
    alone: Callable[[RunScores], pd.DataFrame]
    log_log_threshold: float
    estimator: Estimator

    @cached_property
    def fields(self) -> dict[str, list[str]]:
        """The metadata's fields, and the values of each, as text."""
        names = [str(name) for name in self.examples if name not in OF_SIZES]
        return {name: sorted(self.examples[name].astype(str).unique()) for name in names}

    @cached_property
    def strategies(self) -> list[str]:
        """What examples can be ranked by: STRATEGIES, and the fields that hold numbers."""
        numbers = [name for name in self.fields if _field(self.examples, name).notna().any()]
        return [*STRATEGIES, *(METADATA + name for name in numbers)]


@dataclass(frozen=True, slots=True)
class Strategy:
    """One way to say which examples matter.

    Attributes:
        label: in words.
        quantity: what its values are.
        highest_first: which end of its values is wanted.
        reason: how one example's value is said.
        needs: what it takes, where not every store has it.
        of_run: one run's values, (N,), NaN where not known; None: it is not of runs.
        most: above this, a value says nothing, and counts as not known.
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
        """The quantity as it stands over a column or a control."""
        return self.quantity[0].upper() + self.quantity[1:]


def read_example_facts(
    store: Store,
    task: str,
    runs: Sequence[RunScores],
    log_log_threshold: float,
    estimator: Estimator = "plain",
) -> ExampleFacts:
    """What a store has of the training examples of some of a task's runs.

    Raises:
        UsageError: no run is given.
    """
    if not runs:
        raise UsageError("no run is chosen to judge the examples by; choose one or more")
    sizes = read_example_sizes(store, task, "train").set_index("example")
    trained_on = np.unique(np.concatenate([run.examples for run in runs]))
    known = sizes.reindex(trained_on)
    known["tokens"] = read_target_tokens(store, [run.run for run in runs]).reindex(trained_on)
    fields = unpacked(known.pop("metadata"), (*OF_SIZES, *OF_SELECTION, *STRATEGIES))
    fields = fields.astype(object).where(fields.notna(), NO_VALUE)
    return ExampleFacts(
        runs=tuple(runs),
        examples=known.join(fields),
        lost=lambda run: _lost(store, run),
        alone=lambda run: read_unconditional_nll(store, run.run),
        log_log_threshold=log_log_threshold,
        estimator=estimator,
    )


def strategy_values(evidence: ExampleFacts, strategy: str, seed: int = 0) -> pd.Series:
    """A strategy's value of every example, mean over the runs that know it; NaN: none does.

    Args:
        strategy: one of STRATEGIES, or `metadata:` and a field.
        seed: of the random order.

    Raises:
        UsageError: there is no such strategy, or nothing that it needs is known.
    """
    examples = evidence.examples
    of_run = named(strategy).of_run
    if of_run is not None:
        columns = [
            pd.Series(of_run(run, evidence), run.examples).reindex(examples.index)
            for run in evidence.runs
        ]
        mean = pd.concat(columns, axis=1).mean(axis=1)
        found = mean.where(mean <= named(strategy).most)
    elif strategy == "random":
        found = pd.Series(np.random.default_rng(seed).random(len(examples)), examples.index)
    elif strategy in ("lines", "words"):
        found = examples[strategy]
    else:
        found = _field(examples, strategy.removeprefix(METADATA))
    if found.isna().all():
        needs = named(strategy).needs or "scores at every checkpoint"
        raise UsageError(f"'{strategy}' is known of no example here; it needs {needs}")
    return found.astype(np.float64)


def named(strategy: str) -> Strategy:
    """The strategy of a name.

    Raises:
        UsageError: there is none.
    """
    if strategy.startswith(METADATA):
        field = strategy.removeprefix(METADATA)
        needs = f"a metadata field '{field}' of numbers"
        told = field.replace("{", "{{").replace("}", "}}")
        return Strategy(field, field, True, f"{told} {{:g}}", needs)
    if strategy not in STRATEGIES:
        known = ", ".join(f"'{name}'" for name in STRATEGIES)
        raise UsageError(
            f"there is no strategy '{strategy}'; there are {known}, and '{METADATA}FIELD'"
        )
    return STRATEGIES[strategy]


def _field(examples: pd.DataFrame, field: str) -> pd.Series:
    """A metadata field as numbers: those of 'Level 5' are 5."""
    if field not in examples:
        known = ", ".join(f"'{name}'" for name in examples if name not in OF_SIZES) or "none"
        raise UsageError(f"the data has no field '{field}'; it has: {known}")
    texts = examples[field].astype(str)
    found = texts.str.extract(NUMBER, expand=False).str.replace(",", "")
    numbers = pd.to_numeric(texts, errors="coerce").fillna(pd.to_numeric(found, errors="coerce"))
    return numbers.where(np.isfinite(numbers))


def _lost(store: Store, run: RunScores) -> pd.Series:
    lost = []
    for perturbation, steps in robustness.perturbed_steps(store, run.run).items():
        answers = robustness.read_answers(store, run.run, steps[-1], perturbation)
        known = robustness.measure_robustness(run, answers, 0.0, "plain").examples
        lost.append(known["train_accuracy"] - known["perturbed_accuracy"])
    return pd.concat(lost, axis=1).mean(axis=1) if lost else pd.Series(dtype=np.float64)


def _ifd(run: RunScores, evidence: ExampleFacts) -> Floats:
    """Loss given the question over loss alone."""
    alone = evidence.alone(run)
    if alone.empty:
        return np.full(len(run.examples), np.nan)
    step = int(alone["step"].min())
    [at] = np.flatnonzero(run.steps == step)
    without = alone[alone["step"] == step].set_index("example")["nll"].reindex(run.examples)
    return run.nll[at] / without.to_numpy()


def _premem(run: RunScores, evidence: ExampleFacts) -> Floats:
    return curves.premem(run, evidence.log_log_threshold, evidence.estimator)[-1].copy()


def _forgotten(run: RunScores, _: ExampleFacts) -> Floats:
    """How often an example was right at one checkpoint and wrong at the next."""
    was_right = right(run)
    lost = (np.diff(was_right, axis=0) < 0).sum(axis=0)
    return np.where(np.isnan(was_right).any(axis=0), np.nan, lost)


def _probability(run: RunScores) -> Floats:
    """(C, N): mean probability of a target token, the geometric mean."""
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
            of_run=lambda run, _: _probability(run).mean(axis=0),
        ),
        "easy": Strategy(
            "easy to learn (high confidence)",
            "confidence",
            True,
            "confidence {:.3f}",
            of_run=lambda run, _: _probability(run).mean(axis=0),
        ),
        "ambiguous": Strategy(
            "ambiguous (high variability)",
            "variability",
            True,
            "variability {:.3f}",
            of_run=lambda run, _: _probability(run).std(axis=0),
        ),
        "forgetting": Strategy(  # Toneva et al. 2019
            "often forgotten",
            "times forgotten",
            True,
            "forgotten {:.1f} times",
            "samples of every checkpoint",
            _forgotten,
        ),
        "brittle": Strategy(
            "brittle under perturbed queries",
            "accuracy lost under perturbed queries",
            True,
            "loses {:.2f} when perturbed",
            "perturbed scores (score --perturb)",
            lambda run, evidence: evidence.lost(run).reindex(run.examples).to_numpy(),
        ),
        "ifd": Strategy(  # Li et al. 2023
            "instruction-following difficulty",
            "instruction-following difficulty",
            True,
            "IFD {:.3f}",
            "the loss of solutions without their questions (the command `ifd`)",
            _ifd,
            most=1.0,  # there the question only confuses
        ),
        "lines": Strategy("many solution lines", "lines of the solution", True, "{:.0f} lines"),
        "words": Strategy("long solutions", "words of the solution", True, "{:.0f} words"),
    }
)
