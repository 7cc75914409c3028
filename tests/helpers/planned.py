"""A store of two small runs with a test set, sampled by a plan: what a lazy or final job leaves."""

from pathlib import Path

import numpy as np
import pandas as pd

from premem_core.analysis.replay import draw_order, follow_plan
from premem_core.metrics.sample_counts import SampleCounts
from premem_core.metrics.sampling_plan import Plan
from premem_core.records import Checkpoint, Example, RunRecord
from premem_core.store.database import Store
from premem_core.store.runs import add_scored_runs, set_checkpoint_state

K = 5
T = -2.3
STEPS = (10, 20, 30)


def store(folder: Path, plan: Plan, n: int = 60, levels: int = 0) -> Store:
    """Two runs of three checkpoints; the same outcomes whatever the plan.

    With `levels`, each problem has a level of so many.
    """
    home = Store(folder)
    examples = [
        (
            split,
            [
                Example(
                    str(i),
                    f"{split} {i}?",
                    f"#### {i}",
                    str(i),
                    {"level": f"Level {i % levels + 1}"} if levels else {},
                )
                for i in range(n)
            ],
        )
        for split in ("train", "test")
    ]
    rng = np.random.default_rng(7)
    runs = []
    for run, rate in (("slow", 1e-5), ("fast", 1e-4)):
        difficulty = rng.beta(0.7, 0.7, n)
        nll = np.array([rng.gamma(4, 0.12, n), rng.gamma(2, 0.08, n), rng.gamma(1, 0.06, n)])
        gain = np.array([[0.5], [0.8], [1.2]])
        hits = rng.binomial(K, np.clip(difficulty * gain, 0, 1))
        full = SampleCounts.of(np.full(nll.shape, K), hits, K)
        drawn = follow_plan(plan, T, nll, draw_order(full, K, rng))
        tests = rng.binomial(K, np.clip(rng.beta(0.7, 0.7, n) * gain, 0, 1))
        frames = []
        for c, step in enumerate(STEPS):
            frames.append(_frame(step, "train", drawn.samples[c], drawn.correct[c], nll[c]))
            frames.append(_frame(step, "test", np.full(n, K), tests[c], np.full(n, np.nan)))
        record = RunRecord(run, "toy", "scored", rate, 3, 2, n)
        points = [Checkpoint(Path(), step, c + 1.0, rate) for c, step in enumerate(STEPS)]
        runs.append((record, points, pd.concat(frames, ignore_index=True)))
    add_scored_runs(home, runs, [("toy", split, members) for split, members in examples])
    for run in ("slow", "fast"):
        for step in STEPS:
            set_checkpoint_state(home, run, step, "scored", samples=K)
    return home


def _frame(step, split, samples, correct, nll):
    return pd.DataFrame(
        {
            "step": step,
            "split": split,
            "perturbation": "",
            "id": [str(i) for i in range(len(samples))],
            "samples": samples,
            "correct": correct,
            "unparsed": 0,
            "nll": nll,
            "tokens": pd.array([pd.NA] * len(samples), dtype="Int32"),
        }
    )
