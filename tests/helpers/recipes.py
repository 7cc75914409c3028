"""Recipes over the two runs of `planned`."""

from dataclasses import replace

import numpy as np

from premem_core.curation import strategies
from premem_core.curation.recipe import Criterion, Recipe
from tests.helpers import planned

LOW = Criterion("premem", below=0.75)


def recipe(*criteria: Criterion, **others) -> Recipe:
    return Recipe("toy", ("slow", "fast"), planned.T, criteria, **others)


def grouped(evidence) -> strategies.ExampleFacts:
    level = np.where(np.arange(60) % 3 == 0, "easy", "hard")
    return replace(evidence, examples=evidence.examples.assign(level=level))
