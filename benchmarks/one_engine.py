"""Time to score a run with one engine for all checkpoints, and with a new one for each.

Both ways score the five checkpoints of the demo, by turns. Their results must be the same, bit for
bit. "Engine" is the time to start an engine, to load weights and to run it.

    python benchmarks/one_engine.py                      # every backend that is installed
    python benchmarks/one_engine.py --backend hf --rounds 3
"""

import argparse
import importlib.util
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

sys.path.insert(0, str(Path(__file__).parents[1]))

from premem_core.models import checkpoints
from premem_core.problems.examples import read_examples
from premem_core.records import Example, Run, Sampling
from premem_core.scoring import job_process, jobs
from premem_core.scoring.executors.local import LocalExecutor
from premem_core.scoring.executors.worker import Event
from premem_core.scoring.spec import ScoringSpec
from premem_core.store.completions import read_completions
from premem_core.store.database import Store
from premem_core.store.runs import read_checkpoints
from premem_core.store.scores import read_scores

DEMO = Path(__file__).parents[1] / "data" / "demo"


class OneEngine(LocalExecutor):
    """Keeps engines, and adds up the seconds until checkpoints were loaded."""

    loading = 0.0

    def wait(self, seconds: float) -> list[Event]:
        """The workers' reports."""
        events = super().wait(seconds)
        self.loading += sum(e.seconds for e in events if e.kind in ("loading", "loaded"))
        return events


class NewEngines(OneEngine):
    """Ends a worker after each assignment, so that every checkpoint gets a new engine."""

    def wait(self, seconds: float) -> list[Event]:
        """The workers' reports; idle workers are ended."""
        events = super().wait(seconds)
        for child in [child for child in self._children if child.idle]:
            self._end(child)
        return events


@dataclass(frozen=True, slots=True)
class Scored:
    """What a job took, in seconds, and gave."""

    wall: float
    engine: float
    loading: float
    scores: pd.DataFrame
    completions: pd.DataFrame


def score(
    kind: type[OneEngine], run: Run, train: list[Example], test: list[Example], backend: str
) -> Scored:
    """Score a run in a new store."""
    executors: list[OneEngine] = []

    def make(devices: Sequence[str | None], backend: str) -> OneEngine:
        executors.append(kind(devices, backend))
        return executors[-1]

    job_process.LocalExecutor = make  # type: ignore[misc, assignment]
    spec = ScoringSpec(
        run="benchmark", grader="gsm8k", backend=backend, sampling=Sampling(max_new_tokens=128)
    )
    with tempfile.TemporaryDirectory(prefix="premem-") as folder:
        store, started = Store(folder), time.perf_counter()
        jobs.create_job(store, spec, run, "benchmark", train, test)
        end = job_process.run_job(store, spec.run)
        wall = time.perf_counter() - started
        if end.state != "done":
            raise SystemExit(f"the job ended {end.state}: {end.message}")
        drawn = [
            read_completions(store, spec.run, step, split)
            for step in read_checkpoints(store, spec.run)["step"]
            for split in ("train", "test")
        ]
        keys = ["step", "split", "example", "sample"]
        completions = pd.concat(drawn).sort_values(keys, ignore_index=True)
        scores = read_scores(store, spec.run)
        return Scored(wall, end.engine_seconds, executors[0].loading, scores, completions)


def compare(run: Run, train: list[Example], test: list[Example], backend: str, rounds: int) -> None:
    """Score a run both ways, by turns, and print the times and whether the results are the same."""
    ways = {"new engines": NewEngines, "one engine": OneEngine}
    scored: dict[str, list[Scored]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, kind in ways.items():
            last = score(kind, run, train, test, backend)
            scored[name].append(last)
            tokens = last.completions["tokens"].sum()
            print(
                f"{backend:4} {name:12} wall {last.wall:6.1f} s   engine {last.engine:6.1f} s   "
                f"of it loading {last.loading:5.1f} s   {tokens:9,} tokens",
                flush=True,
            )
    new, one = scored.values()
    ratios = [
        f"{part} {median_of(new, part) / median_of(one, part):.2f}"
        for part in ("wall", "engine", "loading")
    ]
    first, *others = [s for each in scored.values() for s in each]
    same = all(
        first.scores.equals(s.scores) and first.completions.equals(s.completions) for s in others
    )
    print(
        f"{backend:4} new engines ÷ one engine, of the medians of {rounds}: {', '.join(ratios)}\n"
        f"{backend:4} {len(first.scores):,} scores and {len(first.completions):,} completions are "
        f"{'the same, bit for bit' if same else 'NOT THE SAME'}",
        flush=True,
    )


def median_of(scored: list[Scored], part: str) -> float:
    """The median of a time over rounds, in seconds."""
    return statistics.median(getattr(each, part) for each in scored)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    installed = ["hf", *(["vllm"] if importlib.util.find_spec("vllm") else [])]
    parser.add_argument("--backend", choices=installed)
    parser.add_argument("--train-problems", type=int, default=150)
    parser.add_argument("--test-problems", type=int, default=50)
    parser.add_argument("--rounds", type=int, default=1)
    options = parser.parse_args()
    train = list(read_examples(DEMO / "train_1000.jsonl").examples[: options.train_problems])
    test = list(read_examples(DEMO / "test.jsonl").examples[: options.test_problems])
    run = checkpoints.read_run(next((DEMO / "runs").iterdir()))
    print(
        f"{run.path.name}: {len(run.checkpoints)} checkpoints, {len(train)} train and {len(test)} "
        "test problems, 5 samples"
    )
    for backend in [options.backend] if options.backend else installed:
        compare(run, train, test, backend, options.rounds)


if __name__ == "__main__":
    main()
