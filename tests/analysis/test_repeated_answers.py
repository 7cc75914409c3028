"""pass@k and maj@k of the demo's checkpoints against a direct computation."""

import numpy as np
import pytest

from premem_core.analysis.repeated_answers import repeated_answers
from premem_core.metrics.repeated_samples import majority_at_k
from premem_core.store.completions import read_completions
from premem_core.store.runs import read_checkpoints
from tests.helpers import planned

RUN = "lr3e-3_ep15_n1000"


@pytest.fixture(scope="module")
def table(demo_store):
    return repeated_answers(demo_store, RUN).set_index(["split", "step", "k"])


def test_one_sample_passes_as_often_as_the_accuracy_says(demo_store, table):
    steps = read_checkpoints(demo_store, RUN)["step"]
    for step in steps:
        drawn = read_completions(demo_store, RUN, step, "train")
        accuracy = (drawn["grade"] == 0).groupby(drawn["example"]).mean().mean()
        assert table.loc["train", step, 1]["pass_at_k"] == pytest.approx(accuracy)
        assert table.loc["train", step, 1]["maj_at_k"] == pytest.approx(accuracy)


def test_the_majority_and_the_entropy_are_those_of_the_completions(demo_store, table):
    step = int(read_checkpoints(demo_store, RUN)["step"].iloc[1])
    drawn = read_completions(demo_store, RUN, step, "train")
    majorities, entropies, passed = [], [], []
    for _, of_one in drawn.groupby("example"):
        right = of_one["grade"] == 0
        wrong = of_one.loc[~right, "extracted"].dropna().value_counts().tolist()
        majorities.append(majority_at_k(int(right.sum()), wrong, len(of_one), 5))
        shares = of_one["extracted"].fillna("?").value_counts(normalize=True)
        entropies.append(-(shares * np.log(shares)).sum())
        passed.append(right.any())
    row = table.loc["train", step, 5]
    assert row["maj_at_k"] == pytest.approx(np.mean(majorities))
    assert row["pass_at_k"] == pytest.approx(np.mean(passed))
    assert row["entropy"] == pytest.approx(np.mean(entropies))


def test_of_what_a_plan_left_out_nothing_is_said_and_without_completions_no_majority(tmp_path):
    found = repeated_answers(planned.store(tmp_path, "last"), "fast")
    assert set(found["split"]) == {"train", "test"}
    assert found.loc[found["split"] == "train", "step"].unique().tolist() == [10]
    assert found["maj_at_k"].isna().all()
    assert sorted(found["k"].unique()) == [1, 2, 4, 5]
