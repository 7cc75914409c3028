import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from premem_core.errors import UsageError
from premem_core.metrics import budget
from premem_core.metrics.budget import Design


@given(st.floats(0.002, 0.2), st.integers(1, 20_000))
def test_a_design_for_a_precision_is_the_smallest_that_reaches_it(standard_error, examples):
    design = budget.for_precision(standard_error, examples)
    assert design.standard_error <= standard_error * (1 + 1e-6)
    assert design.rows == examples or design.samples == 1
    smaller = (
        Design(examples, design.rows - 1, 1)
        if design.samples == 1 and design.rows > 1
        else Design(examples, examples, design.samples - 1)
    )
    if smaller.rows * smaller.samples:
        assert smaller.standard_error > standard_error * (1 - 1e-6)


@given(st.integers(1, 10**6), st.integers(1, 10_000), st.integers(1, 20), st.integers(0, 2_000))
def test_a_design_never_draws_more_than_its_generations(generations, examples, checkpoints, test):
    try:
        design = budget.for_generations(generations, examples, checkpoints, test)
    except UsageError:
        assert generations < checkpoints * (test + 1)
        return
    per_checkpoint = design.rows + test if design.samples == 1 else examples + test
    assert design.samples * per_checkpoint * checkpoints <= generations
    assert 1 <= design.rows <= examples


@pytest.mark.parametrize("accuracies", ["all one half", "none or all right", "evenly spread"])
@pytest.mark.parametrize(("rows", "samples"), [(200, 1), (1000, 1), (1000, 3)])
def test_no_run_has_a_larger_standard_error_than_its_design_says(accuracies, rows, samples):
    rng = np.random.default_rng(0)
    p = {
        "all one half": np.full(1000, 0.5),
        "none or all right": np.repeat([0.0, 1.0], 500),
        "evenly spread": np.linspace(0, 1, 1000),
    }[accuracies]
    means = [
        rng.binomial(samples, rng.choice(p, rows, replace=False)).mean() / samples
        for _ in range(2000)
    ]
    said = Design(1000, rows, samples).standard_error
    assert np.std(means) <= said * 1.05
    if accuracies == "all one half":
        assert math.isclose(np.std(means), said, rel_tol=0.05)


def test_too_few_generations_are_refused_with_the_number_that_is_needed():
    with pytest.raises(UsageError, match=r"5 checkpoints with 100 test problems need .* 505;"):
        budget.for_generations(504, 1000, 5, 100)
