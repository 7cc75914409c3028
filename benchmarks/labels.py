"""How well wrong answers that were planted in a training set are found.

python benchmarks/labels.py [--keep FOLDER]

The script changes the final answer of a share PLANTED of the demo's problems. It fine-tunes two
models on them: one until it has memorized most solutions, one on more problems and for a short
time. The suspect labels of each run, and of both together, are compared with the planted ones. This
takes twenty minutes on two cores. Models and store are kept in FOLDER, and made only once.
"""

import argparse
import random
import re
import sys
import tempfile
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pandas as pd

sys.path.insert(0, str(Path(__file__).parents[1]))

from premem_core.analysis import curves, run_scores
from premem_core.curation import suspect_labels
from premem_core.demo import demo_study, pretraining
from premem_core.metrics import auroc
from premem_core.models import checkpoints
from premem_core.records import Example
from premem_core.scoring import job_process, jobs
from premem_core.scoring.spec import ScoringSpec
from premem_core.store.database import Store
from premem_core.store.runs import read_runs
from premem_core.training.finetune import finetune_model

PLANTED = 0.03  # share of the problems
RANKED = 1000  # number of problems on which both models are fine-tuned
LONG, BROAD = demo_study.SETTINGS[0], demo_study.SETTINGS[3]


def plant_wrong_answers(examples: list[Example], seed: int = 0) -> tuple[list[Example], set[str]]:
    """The examples, some of them with a wrong answer in their solution, and the ids of those."""
    rng = random.Random(seed)
    wrong = {example.id for example in rng.sample(examples, round(PLANTED * len(examples)))}
    return [
        _with_wrong_answer(example, rng) if example.id in wrong else example for example in examples
    ], wrong


def _with_wrong_answer(example: Example, rng: random.Random) -> Example:
    """The example with another last digit of its answer."""
    answer = example.answer[:-1] + rng.choice([d for d in "0123456789" if d != example.answer[-1]])
    solution = re.sub(rf"#### {re.escape(example.answer)}$", f"#### {answer}", example.solution)
    assert solution != example.solution
    return replace(example, solution=solution, answer=answer)


def score(
    store: Store, setting: demo_study.Setting, train: list[Example], test: list[Example]
) -> None:
    run = finetune_model(
        store.path.parent / "base",
        train[: setting.problems],
        store.path.parent / setting.name,
        learning_rate=setting.learning_rate,
        epochs=setting.epochs,
        batch_size=setting.batch_size,
        checkpoint_every=setting.checkpoint_every,
    )
    spec = ScoringSpec(run=setting.name, grader="gsm8k", sampling=demo_study.SAMPLING)
    scored = train[:RANKED]
    folder = checkpoints.read_run(run)
    jobs.create_job(store, spec, folder, demo_study.TASK, scored, test, trained_on=setting.problems)
    end = job_process.run_job(store, setting.name)
    assert end.state == "done", end.message


def print_results(
    name: str, suspects: pd.DataFrame, wrong: set[str], right: dict[str, str]
) -> None:
    """Print how well a list of suspect labels agrees with the planted wrong answers.

    Args:
        wrong: ids of the examples with a planted wrong answer.
        right: the right answers by id.
    """
    is_wrong = suspects["id"].isin(wrong).to_numpy()
    first = is_wrong[: is_wrong.sum()]
    area, half = auroc.auroc(suspects["suspicion"].to_numpy(), is_wrong)
    planted = suspects[is_wrong]
    suggested = (planted["suggested"] == planted["id"].map(right)).sum()
    print(
        f"{name}: precision of the first {len(first)} {first.mean():.2f}, AUROC {area:.3f} ± "
        f"{half:.3f} (90 %), the right answer suggested for {suggested} of {len(planted)}; "
        f"{suspects['samples'].mean():.1f} samples per example"
    )


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--keep", type=Path)
    keep = parser.parse_args().keep
    problems, test = demo_study.problems()
    train, wrong = plant_wrong_answers(problems)
    right = {problem.id: problem.answer for problem in problems}
    with ExitStack() as stack:
        folder = keep or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        store = Store(folder / "store")
        if not (folder / "base").exists():
            pretraining.pretrain(folder / "base")
        for setting in (LONG, BROAD):
            if setting.name not in set(read_runs(store)["run"]):
                score(store, setting, train, test)
        runs = run_scores.read_task(store, demo_study.TASK)
        t = curves.best_threshold(runs).log_log_threshold
        ranked = {problem.id for problem in train[:RANKED]}
        print(f"{len(wrong & ranked)} of {RANKED:,} answers changed; t = {t:.3f}")
        for run in runs:
            means = ", ".join(f"{mean:.2f}" for mean in run.accuracy.mean(axis=1))
            print(f"{run.run}: train accuracy by checkpoint {means}")
            suspects = suspect_labels.find_suspect_labels(store, [run], t)
            print_results(run.run, suspects, wrong, right)
        suspects = suspect_labels.find_suspect_labels(store, runs, t)
        print_results("both", suspects, wrong, right)


if __name__ == "__main__":
    main()
