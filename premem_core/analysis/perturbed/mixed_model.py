"""Mixed model: correct ~ perturbed × memorized + size of the numbers, per question.

A linear mixed-effects model (statsmodels' MixedLM) with a random intercept for each question, as
one row per question and form, whose outcome is the accuracy of that form. So a coefficient is a
difference in accuracy, and the interaction is what a perturbation costs more where the solution is
memorized. Test questions, where perturbed ones were asked, count as not memorized. The size of
numbers is a covariate, because larger numbers alone lower accuracy (docs/method.md, section 14).
"""

import warnings
from dataclasses import dataclass

import numpy as np
import pandas as pd

from premem_core.analysis.perturbed.robustness import Robustness
from premem_core.errors import DataError
from premem_core.metrics import intervals, pre_memorization
from premem_core.problems.redrawing import numbers_in
from premem_core.store.database import Store
from premem_core.store.examples import read_perturbed_examples, read_task_examples

TERMS = {
    "Intercept": "accuracy of other questions, unperturbed",
    "perturbed": "perturbed",
    "memorized": "memorized",
    "perturbed:memorized": "perturbed × memorized",
    "size": "numbers ten times as large",
}


@dataclass(frozen=True, slots=True)
class Texts:
    """The question texts by example number, in the original and in the perturbed form."""

    original: "pd.Series[str]"
    perturbed: "pd.Series[str]"


def read_texts(store: Store, task: str, perturbation: str) -> Texts:
    """The texts of a task's questions, as far as the store has them."""
    splits = [read_task_examples(store, task, split) for split in ("train", "test")]
    original = pd.concat(splits).set_index("example")["question"]
    perturbed = read_perturbed_examples(store, task, perturbation).set_index("example")["question"]
    return Texts(original, perturbed)


@dataclass(frozen=True)
class MixedModel:
    """A fitted model.

    Attributes:
        coefficients: term, label, value, low and high (ends of the 90 % interval), in accuracy.
        questions: number of questions.
        memorized: how many of them are memorized.
        note: a sentence where the fit did not come to rest; else "".
    """

    coefficients: pd.DataFrame
    questions: int
    memorized: int
    note: str


def number_size(question: str) -> float:
    """log₁₀ of the geometric mean of the numbers in a question; 0 without any above 0."""
    numbers = [number for number in numbers_in(question) if number > 0]
    return float(np.log10(numbers).mean()) if numbers else 0.0


def fit_mixed_model(result: Robustness, texts: Texts) -> MixedModel:
    """Fit the model to one checkpoint's answers under one perturbation.

    Raises:
        DataError: there are fewer than two questions that are memorized, or that are not.
    """
    examples, controls = result.examples, result.controls
    nll = np.log(examples["perplexity"].to_numpy(np.float64))
    memorized = pre_memorization.memorized(nll, result.log_log_threshold)
    train = examples[["train_accuracy", "perturbed_accuracy"]].set_axis(
        ["original", "perturbed"], axis=1
    )
    both = pd.concat(
        [train.assign(memorized=memorized.astype(float)), controls.test.assign(memorized=0.0)]
    )
    known, others = int(both["memorized"].sum()), int((1 - both["memorized"]).sum())
    if known < 2 or others < 2:
        raise DataError(
            f"the mixed model compares memorized questions with others, but {known:,} of "
            f"{len(both):,} are memorized at this threshold; perturb test questions too "
            "(--perturb-controls), or choose another threshold"
        )
    rows = pd.concat([_form(both, texts, "original", 0.0), _form(both, texts, "perturbed", 1.0)])
    return _fit(rows, len(both), known)


def _form(both: pd.DataFrame, texts: Texts, name: str, perturbed: float) -> pd.DataFrame:
    """The rows of one form of the questions. A question without a perturbed text keeps its own."""
    asked = texts.original.reindex(both.index).fillna("")
    if name == "perturbed":
        asked = texts.perturbed.reindex(both.index).fillna(asked)
    return pd.DataFrame(
        {
            "question": both.index,
            "correct": both[name].to_numpy(np.float64),
            "perturbed": perturbed,
            "memorized": both["memorized"].to_numpy(np.float64),
            "size": [number_size(text) for text in asked],
        }
    )


def _fit(rows: pd.DataFrame, questions: int, memorized: int) -> MixedModel:
    import statsmodels.formula.api as smf

    formula = "correct ~ perturbed * memorized"
    if np.ptp(rows["size"]) > 0:
        formula += " + size"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # said by `note`
        fitted = smf.mixedlm(formula, rows, groups="question").fit(reml=True)
    terms = [term for term in TERMS if term in fitted.fe_params.index]
    value, error = fitted.fe_params[terms], fitted.bse_fe[terms]
    half = intervals.Z90 * error
    coefficients = pd.DataFrame(
        {
            "term": terms,
            "label": [TERMS[term] for term in terms],
            "value": value.to_numpy(),
            "low": (value - half).to_numpy(),
            "high": (value + half).to_numpy(),
        }
    )
    note = "" if fitted.converged else "The fit did not come to rest; take it as rough."
    return MixedModel(coefficients, questions, memorized, note)
