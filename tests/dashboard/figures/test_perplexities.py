"""The distribution of a run's perplexities."""

from dataclasses import replace

import numpy as np

from premem_core.dashboard import figures
from tests.helpers import simulated


def test_every_example_is_in_one_bin_of_each_checkpoint_also_the_outliers():
    [run] = simulated.study(1, seed=1)[0]
    nll = run.nll.copy()
    nll[0, 0], nll[0, 1] = 1e-30, 1e6
    chart = figures.perplexity_figure(replace(run, nll=nll), -2.0, figures.LIGHT).to_dict()
    shares = np.array(chart["data"][0]["z"])
    assert shares.shape == (48, len(run.steps))
    np.testing.assert_allclose(shares.sum(axis=0), 1, atol=0.01)


def test_the_threshold_is_inside_the_axis_wherever_the_perplexities_are():
    [run] = simulated.study(1, seed=1)[0]
    nothing = replace(run, nll=np.full_like(run.nll, np.nan))
    for scores in (run, nothing, replace(run, nll=np.zeros_like(run.nll))):
        for t in (-5.0, 0.5):
            layout = figures.perplexity_figure(scores, t, figures.LIGHT).to_dict()["layout"]
            low, high = layout["yaxis"]["range"]
            assert low < t < high
            assert layout["shapes"][0]["y0"] == t
