"""How well wrong answers that were put into a training set are found again.

python benchmarks/labels.py [--keep FOLDER]

Of the demo's problems, PLANTED have their final answer changed. Two models are fine-tuned on them,
one until it has copied most of its solutions, one on more problems and not for long. Each one's
suspects, and those of both together, are held against what was planted. Takes twenty minutes on two
cores. What is made is kept in FOLDER, and made once.
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

PLANTED = 0.03
RANKED = 1000  # of the problems, that both models are fine-tuned on
LONG, BROAD = demo_study.SETTINGS[0], demo_study.SETTINGS[3]


def planted(examples: list[Example], seed: int = 0) -> tuple[list[Example], set[str]]:
    """The examples, some with another answer at the end of their solution; the ids of those."""
    rng = random.Random(seed)
    wrong = {each.id for each in rng.sample(examples, round(PLANTED * len(examples)))}
    return [_changed(each, rng) if each.id in wrong else each for each in examples], wrong


def _changed(example: Example, rng: random.Random) -> Example:
    """With a number near the right one: its last digit is another."""
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
    asked = train[:RANKED]
    about = checkpoints.read_run(run)
    jobs.create_job(store, spec, about, demo_study.TASK, asked, test, trained_on=setting.problems)
    end = job_process.run_job(store, setting.name)
    assert end.state == "done", end.message


def say(name: str, found: pd.DataFrame, wrong: set[str], right: dict[str, str]) -> None:
    is_wrong = found["id"].isin(wrong).to_numpy()
    first = is_wrong[: is_wrong.sum()]
    area, half = auroc.auroc(found["suspicion"].to_numpy(), is_wrong)
    planted = found[is_wrong]
    suggested = (planted["suggested"] == planted["id"].map(right)).sum()
    print(
        f"{name}: precision of the first {len(first)} {first.mean():.2f}, AUROC {area:.3f} ± "
        f"{half:.3f} (90 %), the right answer suggested for {suggested} of {len(planted)}; "
        f"{found['samples'].mean():.1f} samples of an example"
    )


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--keep", type=Path)
    keep = parser.parse_args().keep
    problems, test = demo_study.problems()
    train, wrong = planted(problems)
    right = {each.id: each.answer for each in problems}
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
        ranked = {each.id for each in train[:RANKED]}
        print(f"{len(wrong & ranked)} of {RANKED:,} answers changed; t = {t:.3f}")
        for run in runs:
            means = ", ".join(f"{each:.2f}" for each in run.accuracy.mean(axis=1))
            print(f"{run.run}: train accuracy by checkpoint {means}")
            say(run.run, suspect_labels.find_suspect_labels(store, [run], t), wrong, right)
        say("both", suspect_labels.find_suspect_labels(store, runs, t), wrong, right)


if __name__ == "__main__":
    main()
