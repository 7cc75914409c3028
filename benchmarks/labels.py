"""How well wrong answers that were put into a training set are found again.

python benchmarks/labels.py [--keep FOLDER]

Of the demo's problems, PLANTED have their final answer changed. A model is fine-tuned on all of
them until it has copied most, scored, and its suspects are held against what was planted. Takes a
quarter of an hour on two cores. What is made is kept in FOLDER, and made once.
"""

import argparse
import random
import re
import sys
import tempfile
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from premem_core import checkpoints, curves, demo, jobs, labels, robustness
from premem_core.scoring import ScoringSpec
from premem_core.store import Store
from premem_core.training import finetune
from premem_core.types import Example

PLANTED = 0.03
SETTING = demo.SETTINGS[demo.SHIPPED_RUN]


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


def fine_tuned(folder: Path, train: list[Example]) -> Path:
    return finetune(
        folder / "base",
        train,
        folder / SETTING.name,
        learning_rate=SETTING.learning_rate,
        epochs=SETTING.epochs,
        batch_size=SETTING.batch_size,
        checkpoint_every=SETTING.checkpoint_every,
    )


def score(store: Store, run: Path, train: list[Example], test: list[Example]) -> None:
    spec = ScoringSpec(run=SETTING.name, grader="gsm8k", sampling=demo.SAMPLING)
    jobs.create(store, spec, checkpoints.read_run(run), demo.TASK, train, test)
    end = jobs.execute(store, SETTING.name)
    assert end.state == "done", end.message


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--keep", type=Path)
    keep = parser.parse_args().keep
    problems, test = demo.problems()
    train, wrong = planted(problems[: SETTING.problems])
    with ExitStack() as stack:
        folder = keep or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        store = Store(folder / "store")
        if not (folder / "base").exists():
            demo.pretrain(folder / "base")
        if store.runs().empty:
            score(store, fine_tuned(folder, train), train, test)
        runs = curves.read_task(store, demo.TASK)
        t = curves.best_threshold(runs).log_log_threshold
        found = labels.suspects(store, runs, t)
    is_wrong = found["id"].isin(wrong).to_numpy()
    first = is_wrong[: len(wrong)]
    area, half = robustness.auroc(found["suspicion"].to_numpy(), is_wrong)
    accuracies = ", ".join(f"{each:.2f}" for each in runs[0].accuracy.mean(axis=1))
    right = {each.id: each.answer for each in problems}
    suggested = found.loc[is_wrong, "suggested"] == found.loc[is_wrong, "id"].map(right)
    print(f"train accuracy by checkpoint {accuracies}; t = {t:.3f}")
    print(f"{len(wrong)} of {len(train):,} answers changed, {len(found):,} examples ranked")
    print(f"precision of the first {len(first)}: {first.mean():.2f}")
    print(f"AUROC {area:.3f} ± {half:.3f} (90 %)")
    print(f"the right answer is suggested for {suggested.sum()} of {len(suggested)} changed ones")


if __name__ == "__main__":
    main()
