"""Series of a simulated run that the tests of all sinks push."""

import pytest

from premem_core.analysis import curves
from premem_core.sinks.series import make_series
from tests.helpers import simulated


@pytest.fixture(scope="session")
def simulated_run():
    return simulated.study(1, seed=1)[0][0]


@pytest.fixture(scope="session")
def series(simulated_run):
    return make_series(curves.curve(simulated_run, simulated.T), "sums")


@pytest.fixture(scope="session")
def other_series(simulated_run):
    """The same run at another threshold, which changes the values of its later checkpoints."""
    return make_series(curves.curve(simulated_run, simulated.T + 0.5), "sums")
