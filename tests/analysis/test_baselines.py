import json
import shutil
from fractions import Fraction
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from premem_core.__main__ import app
from premem_core.analysis.baselines import PREDICTORS, atc, evaluate, leave_out_atc
from premem_core.errors import UsageError
from premem_core.models import gradient_variance, weight_distance
from premem_core.models.checkpoints import read_run
from premem_core.problems.prompts import PromptTemplate
from premem_core.scoring import jobs
from premem_core.scoring.spec import ScoringSpec
from premem_core.store.checkpoint_measures import read_baselines
from premem_core.store.database import Store
from premem_core.store.runs import set_checkpoint_state
from tests.helpers import planned, tiny

K = 5
VOTES = st.integers(0, K)
LABELLED = st.lists(st.tuples(VOTES, VOTES), min_size=1, max_size=30)


def shares(votes) -> np.ndarray:
    return np.array(list(votes), dtype=float) / K


def looped_atc(labelled, target) -> float:
    """In exact fractions: what is wrong of the source is taken from its lowest confidences up."""
    source = [confidence for confidence, _ in labelled]
    left = sum((1 - Fraction(correct, K) for _, correct in labelled), Fraction(0))
    kept: dict[float, Fraction] = {}
    for value in sorted(set(source)):
        below = min(left, Fraction(source.count(value)))
        left -= below
        kept[value] = 1 - below / source.count(value)
    theta = min((value for value in kept if kept[value]), default=max(source))
    return float(sum(kept.get(t, Fraction(t > theta)) for t in target) / len(target))


@given(LABELLED, st.lists(VOTES, min_size=1, max_size=30))
def test_atc_is_what_a_loop_over_the_votes_gives(labelled, target):
    found = atc(shares(c for c, _ in labelled), shares(a for _, a in labelled), shares(target))
    assert found == pytest.approx(looped_atc(labelled, target), abs=1e-9)


@given(LABELLED)
def test_atc_finds_the_accuracy_of_its_own_source_whatever_ties(labelled):
    confidence, accuracy = shares(c for c, _ in labelled), shares(a for _, a in labelled)
    assert atc(confidence, accuracy, confidence) == pytest.approx(accuracy.mean(), abs=1e-9)


@given(st.permutations(range(20)), st.lists(st.integers(0, 19), min_size=1), st.integers(0, 19))
def test_without_ties_atc_is_a_share_above_a_threshold(confidence, target, wrong):
    accuracy = np.array([0.0] * wrong + [1.0] * (20 - wrong))
    found = atc(np.array(confidence, float), accuracy, np.array(target, float))
    assert found == pytest.approx(np.mean(np.array(target) >= wrong))


def test_what_is_not_known_is_left_out_and_nothing_known_is_no_prediction():
    confidence, accuracy = np.array([0.2, np.nan, 0.8]), np.array([0.0, 1.0, 1.0])
    assert atc(confidence, accuracy, np.array([0.8, 0.2, np.nan, 0.2])) == pytest.approx(1 / 3)
    assert np.isnan(atc(confidence, accuracy, np.array([np.nan])))
    assert np.isnan(atc(np.array([np.nan]), np.array([1.0]), confidence))


def test_a_run_is_predicted_from_the_other_runs_only():
    rng = np.random.default_rng(0)
    confidences = [shares(rng.integers(0, K + 1, (c, 40))) for c in (2, 3, 1)]
    accuracies = [shares(rng.integers(0, K + 1, (c, 40))) for c in (2, 3, 1)]
    found = leave_out_atc(confidences, accuracies)
    source = np.concatenate([confidences[1].ravel(), confidences[2].ravel()])
    correct = np.concatenate([accuracies[1].ravel(), accuracies[2].ravel()])
    assert found[0].tolist() == [atc(source, correct, row) for row in confidences[0]]
    assert [len(predictions) for predictions in found] == [2, 3, 1]
    [alone] = leave_out_atc(confidences[:1], accuracies[:1])
    assert np.isnan(alone).all()


POINTS = pd.DataFrame(
    {
        "run": ["a", "a", "b", "b"],
        "step": [1, 2, 1, 2],
        "train_accuracy": [0.5, 0.9, 0.6, 1.0],
        "premem": [0.4, 0.5, np.nan, 0.6],
        "test_accuracy": [0.4, 0.55, 0.5, 0.6],
        "distance": [2.0, 4.0, 3.0, 7.0],
    }
)


def test_each_predictor_is_compared_with_accuracy_and_gap_where_it_is_known():
    table = evaluate(POINTS).set_index("predictor")
    assert list(table.index) == list(PREDICTORS)
    premem, distance, train = (table.loc[n] for n in ("premem", "distance", "train_accuracy"))
    known = POINTS.dropna()
    x, y = known["premem"], known["test_accuracy"]
    gap = POINTS["train_accuracy"] - POINTS["test_accuracy"]
    assert premem["points"] == 3
    assert premem["identity_r2"] == pytest.approx(1 - sum((y - x) ** 2) / sum((y - y.mean()) ** 2))
    assert premem["linear_r2"] == pytest.approx(np.corrcoef(x, y)[0, 1] ** 2)
    expected = np.corrcoef(known["train_accuracy"] - x, known["train_accuracy"] - y)[0, 1]
    assert premem["gap_pearson"] == pytest.approx(expected)
    assert premem["gap_r2"] == pytest.approx(expected**2)

    assert distance["points"] == 4
    assert np.isnan(distance["identity_r2"])  # it is no accuracy
    assert distance["gap_pearson"] == pytest.approx(np.corrcoef(POINTS["distance"], gap)[0, 1])
    assert np.isnan(train["gap_pearson"])  # a gap of 0 everywhere is what it expects
    assert not np.isnan(train["identity_r2"])


def test_a_predictor_without_a_column_is_known_nowhere():
    row = evaluate(POINTS).set_index("predictor").loc["atc"]
    assert row["points"] == 0
    assert row[["identity_r2", "linear_r2", "gap_pearson", "gap_r2"]].isna().all()


# The command, which computes the two of them that need weights


@pytest.fixture
def base(tmp_path) -> Path:
    return tiny.save_base(tmp_path / "base")


@pytest.fixture
def store(tmp_path) -> Store:
    """A run of two checkpoints, as if it had been scored."""
    for step in (1, 2):
        tiny.save_base(tmp_path / f"run/checkpoint-{step}", seed=step)
    home = Store(tmp_path / "store")
    run, spec = read_run(tmp_path / "run"), ScoringSpec("r", "gsm8k")
    jobs.create_job(home, spec, run, "sums", tiny.sums(0, 20), tiny.sums(20, 5))
    for step in (1, 2):
        set_checkpoint_state(home, "r", step, "scored")
    return home


def command(store: Store, *arguments):
    return CliRunner().invoke(app, ["baselines", "--store", str(store.path), *map(str, arguments)])


def test_the_command_computes_what_is_missing_and_keeps_it(store, base, tmp_path):
    done = command(store, "--run", "r", "--base", base, "--json")
    assert done.exit_code == 0, done.output
    run = read_run(tmp_path / "run").checkpoints
    examples = tiny.sums(0, 20)
    expected = [
        {
            "step": c.step,
            "distance": weight_distance.distance(c, base),
            "gradient_variance": gradient_variance.measure_gradient_variance(
                c, examples, PromptTemplate()
            ),
        }
        for c in run
    ]
    assert json.loads(done.stdout) == {"run": "r", "checkpoints": expected, "failed": []}
    kept = read_baselines(store, "r")
    assert kept["settings"].unique().tolist() == [
        "from base",
        "of the model, 5 mini-batches of 4, float32",
    ]
    assert len(kept) == 4
    version = store.version()
    again = command(store, "--run", "r")
    assert again.exit_code == 0, again.output
    assert store.version() == version
    assert f"{expected[1]['distance']:.4g}" in again.stdout


def test_a_checkpoint_that_cannot_be_read_is_named_and_the_rest_goes_on(store, tmp_path):
    shutil.rmtree(tmp_path / "run/checkpoint-1")
    done = command(store, "--run", "r", "--only", "gradient-variance", "--json")
    assert done.exit_code == 1
    [failed] = json.loads(done.stdout)["failed"]
    assert failed["step"] == 1
    assert "no longer holds checkpoint 1; put it back to measure it" in failed["reason"]
    assert f"checkpoint 1: {failed['reason']}" in done.stderr
    assert read_baselines(store, "r")[["step", "name"]].to_numpy().tolist() == [
        [2, "gradient_variance"]
    ]
    shutil.rmtree(tmp_path / "run/checkpoint-2")
    assert command(store, "--run", "r", "--only", "distance").exit_code == 1


def test_what_cannot_be_computed_is_one_sentence(store, tmp_path):
    def refusal(*arguments) -> str:
        done = command(*arguments)
        assert isinstance(done.exception, UsageError)
        return str(done.exception)

    assert "give its folder with --base" in refusal(store, "--run", "r")
    assert "it has: 'r'" in refusal(store, "--run", "x")
    imported = planned.store(tmp_path / "imported", "full", n=2)
    assert "so the store does not know the folders" in refusal(imported, "--run", "slow")
    set_checkpoint_state(store, "r", 1, "waiting")
    set_checkpoint_state(store, "r", 2, "waiting")
    assert "no scored checkpoint yet" in refusal(store, "--run", "r")
