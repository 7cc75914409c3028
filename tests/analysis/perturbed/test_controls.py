import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from premem_core.analysis.perturbed import controls
from premem_core.analysis.perturbed.controls import Controls
from premem_core.analysis.perturbed.mixed_model import Texts, fit_mixed_model, number_size
from premem_core.analysis.perturbed.robustness import Robustness
from premem_core.errors import DataError
from premem_core.metrics import intervals

MEMORIZED_DROP, DROP = 0.4, 0.1  # what the perturbation costs, of memorized questions more


def simulate(rng: np.random.Generator, questions: int, samples: int, test: int) -> tuple:
    """Answers of a model that loses DROP under a perturbation, and MEMORIZED_DROP of the copied."""
    memorized = np.arange(questions) < questions // 2
    ease = rng.uniform(-0.1, 0.1, questions)
    drop = DROP + memorized * MEMORIZED_DROP
    train = _draw(rng, np.where(memorized, 0.85, 0.55) + ease, drop, samples)
    others = _draw(rng, 0.55 + rng.uniform(-0.1, 0.1, test), np.full(test, DROP), samples)
    early = _draw(rng, 0.45 + ease, np.full(questions, DROP), samples)
    examples = train.rename(
        columns={"original": "train_accuracy", "perturbed": "perturbed_accuracy"}
    ).assign(perplexity=np.where(memorized, 1.01, 1.5))
    return examples, Controls(others.set_index(np.arange(test) + questions), early, 1)


def _draw(rng, chance, drop, samples) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "original": rng.binomial(samples, chance) / samples,
            "perturbed": rng.binomial(samples, chance - drop) / samples,
        }
    )


def under(examples: pd.DataFrame, found: Controls, t: float) -> Robustness:
    return Robustness("r", 2, "redraw", t, "plain", examples, 0, 0, 0, found)


def test_the_differences_in_differences_are_unbiased_and_their_intervals_hold():
    rng = np.random.default_rng(0)
    truth = MEMORIZED_DROP / 2  # half of the questions are memorized
    found = pd.DataFrame([controls.compare(*simulate(rng, 200, 4, test=150)) for _ in range(1000)])
    for name in ("beyond_test", "beyond_early"):
        errors = found[name] - truth
        assert abs(errors.mean()) < 2 * errors.std() / np.sqrt(len(found))
        assert 0.87 <= (errors.abs() <= found[f"{name}_half"]).mean() <= 0.93


def test_a_drop_that_questions_of_a_test_set_share_is_subtracted():
    examples, found = simulate(np.random.default_rng(1), 400, 5, test=300)
    table = controls.compare(examples, found)
    assert table["test_questions"] == 300
    assert table["beyond_test"] == pytest.approx(table["drop"] - table["test_drop"])
    assert table["beyond_early"] == pytest.approx(table["drop"] - table["early_drop"])
    assert table["drop"] == pytest.approx(0.3, abs=0.04)
    assert table["test_drop"] == pytest.approx(0.1, abs=0.04)


def test_without_controls_nothing_is_said_of_them():
    examples, _ = simulate(np.random.default_rng(1), 50, 5, test=10)
    table = controls.compare(examples, controls.NO_CONTROLS)
    assert not np.isnan(table["drop"])
    for name in ("test_drop", "early_drop", "beyond_test", "beyond_early", "beyond_test_half"):
        assert np.isnan(table[name])


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=2, max_size=30))
def test_limem_is_the_accuracy_that_no_perturbed_answer_keeps(counts):
    """Every pair of an original and a perturbed sample counted by hand."""
    examples = pd.DataFrame(counts, columns=["original", "perturbed"]) / 4
    by_hand = [
        sum(a < right and not b < still for a in range(4) for b in range(4)) / 16
        for right, still in counts
    ]
    value, half = controls.limem(examples)
    assert value == pytest.approx(np.mean(by_hand))
    assert half == pytest.approx(float(intervals.mean_interval(np.array(by_hand))[1]))


def test_the_mixed_model_finds_what_a_perturbation_costs_memorized_questions():
    examples, found = simulate(np.random.default_rng(3), 600, 5, test=400)
    texts = Texts(
        pd.Series({n: f"Ann has {1 + n % 90} coins." for n in range(1000)}),
        pd.Series({n: f"Ann has {1 + (7 * n) % 90} coins." for n in range(1000)}),
    )
    fitted = fit_mixed_model(under(examples, found, -2.3), texts)
    assert (fitted.questions, fitted.memorized) == (1000, 300)
    rows = fitted.coefficients.set_index("term")
    truth = {
        "Intercept": 0.55, "perturbed": -DROP, "memorized": 0.3,
        "perturbed:memorized": -MEMORIZED_DROP, "size": 0.0,
    }  # fmt: skip
    assert list(rows.index) == list(truth)
    for term, value in truth.items():
        margin = 1.5 * (rows["high"][term] - rows["low"][term])
        assert rows["value"][term] == pytest.approx(value, abs=margin), term
        assert rows["low"][term] < rows["value"][term] < rows["high"][term]


def test_the_size_of_numbers_is_held_apart_from_the_perturbation():
    """Redrawn numbers ten times as large cost .2, and nothing else does."""
    rng = np.random.default_rng(4)
    size = rng.integers(0, 2, 500)
    examples = pd.DataFrame(
        {
            "train_accuracy": rng.binomial(5, 0.8 - 0.2 * size) / 5,
            "perturbed_accuracy": rng.binomial(5, 0.6, 500) / 5,
            "perplexity": np.where(np.arange(500) < 250, 1.01, 1.5),
        }
    )
    texts = Texts(pd.Series([f"{10**n} coins" for n in size]), pd.Series(["10 coins"] * 500))
    fitted = fit_mixed_model(under(examples, controls.NO_CONTROLS, -2.3), texts)
    rows = fitted.coefficients.set_index("term")["value"]
    assert rows["size"] == pytest.approx(-0.2, abs=0.04)
    assert rows["perturbed"] == pytest.approx(0, abs=0.04)


def test_a_mixed_model_needs_memorized_questions_and_others():
    examples, found = simulate(np.random.default_rng(3), 20, 5, test=10)
    texts = Texts(pd.Series(dtype=str), pd.Series(dtype=str))
    with pytest.raises(DataError, match="0 of 30 are memorized at this threshold"):
        fit_mixed_model(under(examples, found, -9.0), texts)


def test_the_size_of_numbers_is_the_logarithm_of_their_geometric_mean():
    assert number_size("Ann has 10 coins and 1,000 pens.") == pytest.approx(2.0)
    assert np.isnan(number_size("Ann has no coins."))


def test_shares_of_right_answers_tell_copying_from_different_accuracies():
    """The perturbation costs 40 % of all right answers; nothing is copied."""
    rng, found = np.random.default_rng(5), []
    for _ in range(1000):
        chances = (rng.beta(4, 1, 200), rng.beta(2, 2, 150), rng.beta(1, 4, 200))
        train, test, early = (_draw(rng, chance, 0.4 * chance, 5) for chance in chances)
        examples = train.set_axis(["train_accuracy", "perturbed_accuracy"], axis=1)
        found.append(controls.compare(examples, Controls(test, early, 1)))
    table = pd.DataFrame(found)
    assert table["beyond_test"].mean() > 0.1  # the drops differ, because the accuracies do
    for name in ("beyond_test_lost", "beyond_early_lost"):
        errors = table[name]
        assert abs(errors.mean()) < 3 * errors.std() / np.sqrt(len(table))
        assert 0.87 <= (errors.abs() <= table[f"{name}_half"]).mean() <= 0.93


def test_the_interval_of_the_interaction_is_right_where_few_questions_are_memorized():
    """Half of 60 memorized answers collapse, so they scatter more than 400 others."""
    rng, memorized = np.random.default_rng(6), np.arange(460) < 60
    texts = Texts(pd.Series(dtype=str), pd.Series(dtype=str))

    def answers() -> pd.DataFrame:
        collapse = memorized & (rng.random(460) < 0.5)
        chance = np.where(collapse, 0.02, np.where(memorized, 0.98, 0.4))
        return pd.DataFrame(
            {
                "train_accuracy": rng.binomial(5, np.where(memorized, 0.98, 0.5)) / 5,
                "perturbed_accuracy": rng.binomial(5, chance) / 5,
                "perplexity": np.where(memorized, 1.01, 1.5),
            }
        )

    def by_hand(examples: pd.DataFrame) -> float:
        """Without numbers, the interaction is a difference of mean differences."""
        change = (examples["perturbed_accuracy"] - examples["train_accuracy"]).to_numpy()
        return float(change[memorized].mean() - change[~memorized].mean())

    halves = []
    for _ in range(5):
        examples = answers()
        fitted = fit_mixed_model(under(examples, controls.NO_CONTROLS, -2.3), texts)
        row = fitted.coefficients.set_index("term").loc["perturbed:memorized"]
        assert row["value"] == pytest.approx(by_hand(examples), abs=1e-6)
        halves.append((row["high"] - row["low"]) / 2)
    spread = np.std([by_hand(answers()) for _ in range(2000)])
    assert np.mean(halves) == pytest.approx(intervals.Z90 * spread, rel=0.1)


def test_answers_that_are_all_alike_give_no_mixed_model():
    examples, _ = simulate(np.random.default_rng(3), 40, 5, test=10)
    alike = examples.assign(train_accuracy=1.0, perturbed_accuracy=1.0)
    texts = Texts(pd.Series(dtype=str), pd.Series(dtype=str))
    with pytest.raises(DataError, match="all answers are alike"):
        fit_mixed_model(under(alike, controls.NO_CONTROLS, -2.3), texts)
