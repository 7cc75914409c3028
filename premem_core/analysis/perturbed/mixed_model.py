"""Mixed model: correct ~ perturbed × memorized + size of the numbers, per question.

A linear mixed-effects model (statsmodels' MixedLM) with a random intercept for each question, as
one row per question and form, whose outcome is the accuracy of that form. So a coefficient is a
difference in accuracy. The interaction is how much more the perturbation changes it where the
solution is memorized: below 0, copied answers break more. Test questions, where perturbed ones were
asked, count as not memorized. The size of numbers is a covariate, because larger numbers alone
lower accuracy (docs/method.md, section 14); it is counted from the usual size.
"""

import warnings
from dataclasses import dataclass

import numpy as np
import pandas as pd

from premem_core.analysis.perturbed.controls import train_forms
from premem_core.analysis.perturbed.robustness import Robustness
from premem_core.errors import DataError
from premem_core.metrics import intervals, pre_memorization
from premem_core.metrics.pre_memorization import Floats
from premem_core.problems.redrawing import numbers_in
from premem_core.store.database import Store
from premem_core.store.examples import read_perturbed_examples, read_task_examples

TERMS = {
    "Intercept": "not memorized, unperturbed",
    "perturbed": "perturbed",
    "memorized": "memorized",
    "perturbed:memorized": "perturbed × memorized",
    "size": "numbers ten times as large, whatever the rest",
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
    """log₁₀ of the geometric mean of the numbers in a question; NaN without any above 0."""
    numbers = [number for number in numbers_in(question) if number > 0]
    return float(np.log10(numbers).mean()) if numbers else float("nan")


def fit_mixed_model(result: Robustness, texts: Texts) -> MixedModel:
    """Fit the model to one checkpoint's answers under one perturbation.

    Raises:
        DataError: there are fewer than two questions that are memorized, or that are not.
    """
    examples, controls = result.examples, result.controls
    nll = np.log(examples["perplexity"].to_numpy(np.float64))
    memorized = pre_memorization.memorized(nll, result.log_log_threshold)
    train = train_forms(examples)
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
    usual = rows.loc[rows["perturbed"] == 0, "size"].mean()
    rows["size"] = (rows["size"] - usual).fillna(0.0)  # of usual size without numbers
    if rows["correct"].min() == rows["correct"].max():
        raise DataError("the mixed model explains differences, but all answers are alike")
    return _fit(rows.sort_values(["question", "perturbed"]), len(both), known)


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
    model = smf.mixedlm(formula, rows, groups="question")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # said by `note`
            fitted = model.fit(reml=True)
            values = np.asarray(fitted.fe_params, dtype=np.float64)
            covariance = _clustered(
                model.exog,
                model.endog,
                values,
                fitted.scale,
                float(np.asarray(fitted.cov_re)[0, 0]),
            )
    except np.linalg.LinAlgError as error:
        raise DataError(f"the mixed model cannot be fitted to these answers ({error})") from error
    half = intervals.Z90 * np.sqrt(np.diag(covariance))
    table = pd.DataFrame({"value": values, "low": values - half, "high": values + half})
    coefficients = table.set_axis(model.exog_names).loc[[n for n in TERMS if n in model.exog_names]]
    coefficients = coefficients.reset_index(names="term")
    coefficients.insert(1, "label", coefficients["term"].map(TERMS))
    note = "" if fitted.converged else "The fit did not come to rest; take it as rough."
    return MixedModel(coefficients, questions, memorized, note)


def _clustered(
    predictors: Floats, outcome: Floats, values: Floats, noise: float, of_questions: float
) -> Floats:
    """The covariance of the coefficients, clustered by question: a sandwich with the model's V.

    The model's own errors take the same variance for all questions, which memorized ones do not
    have: some collapse under a perturbation, and others do not.

    Args:
        predictors, outcome: two rows per question, next to each other.
        noise, of_questions: variance of a row, and of the random intercepts.
    """
    p = predictors.shape[1]
    x, residuals = predictors.reshape(-1, 2, p), (outcome - predictors @ values).reshape(-1, 2)
    inverse = np.linalg.inv(noise * np.eye(2) + of_questions)
    weighted = np.einsum("gip,ij->gjp", x, inverse)
    bread = np.linalg.inv(np.einsum("gip,giq->pq", weighted, x))
    scores = np.einsum("gip,gi->gp", weighted, residuals)
    questions = len(x)
    return np.asarray(bread @ (scores.T @ scores) @ bread * questions / (questions - p))
