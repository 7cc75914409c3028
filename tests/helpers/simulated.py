"""Runs simulated from a known threshold: what a calibration should find, and how often."""

import numpy as np

from premem_core.analysis.run_scores import RunScores
from premem_core.metrics.sample_counts import SampleCounts

T = -2.3  # examples are copied from a perplexity of e^(e^T) down
OFF = 0.02  # standard deviation of a run's test accuracy around its pre-memorization accuracy
SHARED = 0.7  # how often a test answer hangs on the question's hardness, and not on luck
CHECKPOINTS, TRAIN, TEST, SAMPLES = 5, 300, 400, 5


def run(
    name: str, rng: np.random.Generator, hardness: np.ndarray, samples: int = SAMPLES
) -> tuple[RunScores, np.ndarray]:
    """A run and the true test accuracies of its checkpoints, (C,).

    Args:
        hardness: (TEST,) of the test questions, the same for all runs of a study.
    """
    speed, skill = rng.uniform(0.4, 1.6), rng.uniform(0.25, 0.6)
    progress = np.linspace(0.3, 1, CHECKPOINTS)[:, None]
    ability = np.clip(rng.normal(skill, 0.25, TRAIN) * progress, 0, 1)
    log_nll = -0.2 - 3.0 * speed * progress + rng.normal(0, 0.5, TRAIN)
    copied = log_nll < T
    at_last = np.where(copied, 0, ability)
    premem = np.maximum.accumulate(at_last, axis=0)
    right = np.where(copied, 1.0, ability)
    correct = rng.binomial(samples, right)
    truth = np.clip(premem.mean(axis=1) + rng.normal(0, OFF), 0, 1)
    by_hardness = rng.random((CHECKPOINTS, TEST)) < SHARED
    luck = rng.random((CHECKPOINTS, TEST))
    tests = (np.where(by_hardness, hardness, luck) < truth[:, None]).astype(np.float64)
    return RunScores(
        run=name,
        learning_rate=speed,
        epochs=1,
        trained_on=TRAIN,
        steps=np.arange(1, CHECKPOINTS + 1),
        epoch=np.arange(1, CHECKPOINTS + 1, dtype=np.float64),
        examples=np.arange(TRAIN),
        counts=SampleCounts.of(np.full(correct.shape, samples), correct, samples),
        nll=np.exp(log_nll),
        test_examples=np.arange(TEST),
        test_accuracy=tests,
    ), truth


def study(runs: int, seed: int, samples: int = SAMPLES) -> tuple[list[RunScores], list[np.ndarray]]:
    """Several runs of one task, and their true test accuracies."""
    rng = np.random.default_rng(seed)
    hardness = rng.random(TEST)
    made = [run(f"run {i}", rng, hardness, samples) for i in range(runs)]
    return [scores for scores, _ in made], [truth for _, truth in made]
