"""Simulated runs, and a calibration on all but the last, that tests of several modules read."""

import pytest

from premem_core.analysis.studies.calibration import calibrate
from tests.helpers import simulated


@pytest.fixture(scope="session")
def runs():
    return simulated.study(6, seed=1)[0]


@pytest.fixture(scope="session")
def calibration(runs):
    return calibrate("simulated", runs[:-1])
