"""Measures: what is known of a run's checkpoints beside pre-memorization accuracy."""

import numpy as np
import pytest

from premem_core.analysis.measures import read_measures
from premem_core.analysis.perturbed.robustness import perturbed_steps
from premem_core.analysis.repeated_answers import repeated_answers
from premem_core.store.runs import read_runs
from premem_core.store.scores import read_counts, read_lengths


def test_every_measure_of_a_checkpoint_stands_in_its_row(demo_store):
    run = read_runs(demo_store)["run"].iloc[0]
    measures = read_measures(demo_store, run).set_index("step")
    counts = read_counts(demo_store, run)
    lengths = read_lengths(demo_store, "demo").query("run == @run and split == 'train'")
    assert measures.index.tolist() == lengths["step"].tolist()
    np.testing.assert_array_equal(measures["finished"], lengths["finished"])
    repeated = repeated_answers(demo_store, run).query("split == 'test' and k == 5")
    np.testing.assert_array_equal(measures["pass_at_k"], repeated["pass_at_k"])
    assert set(measures["repeated_of"]) == {"test"}
    unperturbed = counts.query("split == 'train' and perturbation == ''")
    means = unperturbed.groupby("step")["nll"].mean()
    np.testing.assert_allclose(measures["train_nll"], means.reindex(measures.index))


def test_limem_is_known_where_a_perturbation_was_sampled(demo_store):
    run = read_runs(demo_store)["run"].iloc[0]
    measures = read_measures(demo_store, run).set_index("step")
    counts = read_counts(demo_store, run).query("split == 'train' and samples > 0")
    for name, steps in perturbed_steps(demo_store, run).items():
        known = measures[f"limem_{name}"].dropna()
        assert known.index.tolist() == steps
        at = counts[counts["step"] == steps[-1]].set_index("example")
        right = at["correct"] / at["samples"]
        lost = right[at["perturbation"] == ""] * (1 - right[at["perturbation"] == name])
        assert known.iloc[-1] == pytest.approx(lost.mean())
